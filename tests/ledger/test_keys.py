"""Virtual keys: shown once, kept as digests, gone soon after they are revoked."""

import re
import sqlite3
import stat
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from tests.ledger.ledger_kit import WallClock
from trivet.errors import ConfigError, LedgerError
from trivet.ledger.keys import FILE, KeyRing, create, listing, revoke
from trivet.types import Permit

CLOCK = WallClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


def test_a_key_opens_for_its_tenant_and_no_other_string_does(path: Path) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    other = create(path, name="other", tenant="globex", clock=CLOCK)
    raw = made.secret.reveal()
    ring = KeyRing(path)
    assert ring.check(raw.encode()) == made.key
    assert ring.check(other.secret.reveal().encode()) == other.key
    assert made.key.tenant == "acme"
    wrong = ("", raw[:-1], raw + "x", raw[:20], raw.swapcase(), "' OR '1'='1", "\ud800", raw.removeprefix("sk-trivet-"))
    assert [ring.check(w.encode("utf-8", "surrogatepass")) for w in wrong] == [None] * len(wrong)
    ring.close()


def test_keys_are_long_random_and_never_the_same(path: Path) -> None:
    raws = [create(path, name=f"k{i}", tenant="t", clock=CLOCK).secret.reveal() for i in range(50)]
    assert all(re.fullmatch(r"sk-trivet-[A-Za-z0-9_-]{32}", raw) for raw in raws)  # 192 bits
    assert len(set(raws)) == 50


def test_the_key_itself_is_nowhere_on_the_disk_or_in_a_repr(path: Path) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    raw = made.secret.reveal()
    on_disk = b"".join(f.read_bytes() for f in path.parent.iterdir())
    assert raw.encode() not in on_disk
    assert raw[10:-4].encode() not in on_disk
    assert raw not in f"{made!r} {made}"


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    create(path, name="app", tenant="acme", clock=CLOCK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    create(path, name="more", tenant="acme", clock=CLOCK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_list_says_what_can_be_said(path: Path) -> None:
    assert listing(path) == []
    assert not path.exists()
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    (key,) = listing(path)
    assert key == made.key
    assert key.last4 == made.secret.reveal()[-4:]
    assert key.revoked_ns is None


@pytest.mark.parametrize("by", ["name", "id"])
def test_a_revoked_key_is_refused_after_the_next_refresh(path: Path, by: str) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    kept = create(path, name="kept", tenant="acme", clock=CLOCK)
    ring = KeyRing(path)
    ended = revoke(path, getattr(made.key, by), clock=CLOCK)
    assert ended.revoked_ns is not None
    ring.refresh()
    assert ring.check(made.secret.reveal().encode()) is None
    assert ring.check(kept.secret.reveal().encode()) == kept.key
    assert [k.revoked_ns is None for k in listing(path)] == [False, True]
    ring.close()


def test_revoking_what_is_not_in_use_is_an_error_that_names_what_is(path: Path) -> None:
    with pytest.raises(ConfigError, match="In use: none"):
        revoke(path, "app", clock=CLOCK)
    create(path, name="app", tenant="acme", clock=CLOCK)
    with pytest.raises(ConfigError, match=r"'ap'.*In use: app"):
        revoke(path, "ap", clock=CLOCK)


def test_a_name_in_use_is_refused_and_free_again_once_revoked(path: Path) -> None:
    create(path, name="app", tenant="acme", clock=CLOCK)
    with pytest.raises(ConfigError, match="'app' is in use"):
        create(path, name="app", tenant="acme", clock=CLOCK)
    revoke(path, "app", clock=CLOCK)
    again = create(path, name="app", tenant="acme", clock=CLOCK)
    assert revoke(path, "app", clock=CLOCK).id == again.key.id


def test_a_ring_finds_keys_made_after_it(path: Path) -> None:
    ring = KeyRing(path)
    before = ring.any
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    ring.refresh()
    assert (before, ring.any) == (False, True)
    assert ring.check(made.secret.reveal().encode()) == made.key
    more = create(path, name="more", tenant="acme", clock=CLOCK)
    ring.refresh()
    assert ring.check(more.secret.reveal().encode()) == more.key
    ring.close()


def test_revoking_the_last_key_does_not_open_the_door(path: Path) -> None:
    create(path, name="app", tenant="acme", clock=CLOCK)
    revoke(path, "app", clock=CLOCK)
    ring = KeyRing(path)
    assert ring.any
    ring.close()


def test_a_file_that_is_lost_changes_nothing_and_one_that_is_replaced_is_read(path: Path, tmp_path: Path) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    ring = KeyRing(path)
    path.unlink()
    ring.refresh()
    assert ring.any
    assert ring.check(made.secret.reveal().encode()) == made.key
    other = create(tmp_path / "other.db", name="new", tenant="acme", clock=CLOCK)
    (tmp_path / "other.db").rename(path)
    ring.refresh()
    assert ring.check(other.secret.reveal().encode()) == other.key
    assert ring.check(made.secret.reveal().encode()) is None
    ring.close()


def test_a_writer_in_the_middle_of_it_does_not_hold_up_the_door(path: Path) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK)
    ring = KeyRing(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ring.refresh()
        assert ring.check(made.secret.reveal().encode()) == made.key
        other.execute("DELETE FROM keys")
        other.execute("COMMIT")
    ring.refresh()
    assert ring.check(made.secret.reveal().encode()) is None
    ring.close()


def test_a_file_that_is_no_database_is_an_error(path: Path) -> None:
    path.write_bytes(b"this is no database at all, and longer than a header of one" * 20)
    with pytest.raises(LedgerError, match="cannot be read"):
        KeyRing(path)
    with pytest.raises(LedgerError, match="cannot be used"):
        create(path, name="app", tenant="acme", clock=CLOCK)


def test_what_a_key_may_do_is_kept_with_it(path: Path) -> None:
    permit = Permit(models=("support", "openai/*"), targets=("small",))
    made = create(path, name="app", tenant="acme", clock=CLOCK, permit=permit)
    free = create(path, name="free", tenant="acme", clock=CLOCK)
    ring = KeyRing(path)
    assert ring.check(made.secret.reveal().encode()) == made.key
    assert [key.permit for key in listing(path)] == [permit, Permit()]
    assert revoke(path, "app", clock=CLOCK).permit == permit
    ring.refresh()
    assert ring.check(free.secret.reveal().encode()) == free.key
    ring.close()


OLD = """CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL, digest TEXT NOT NULL UNIQUE,
    last4 TEXT NOT NULL, created_ns INTEGER NOT NULL, revoked_ns INTEGER) STRICT"""


def test_a_file_from_before_there_were_permissions_works_and_is_changed_only_by_who_writes_to_it(path: Path) -> None:
    raw = "sk-trivet-" + "o" * 32
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(OLD)
        row = ("key_1", "old", "acme", sha256(raw.encode()).hexdigest(), "oooo", 7, None)
        db.execute("INSERT INTO keys VALUES (?,?,?,?,?,?,?)", row)
    before = path.read_bytes()
    ring = KeyRing(path)
    found = ring.check(raw.encode())
    assert found is not None
    assert (found.id, found.permit) == ("key_1", Permit())
    assert path.read_bytes() == before
    made = create(path, name="new", tenant="acme", clock=CLOCK, permit=Permit(targets=("small",)))
    ring.refresh()
    assert ring.check(raw.encode()) == found
    assert ring.check(made.secret.reveal().encode()) == made.key
    assert [key.name for key in listing(path)] == ["old", "new"]
    ring.close()


def test_a_permission_that_cannot_be_read_opens_nothing(path: Path) -> None:
    made = create(path, name="app", tenant="acme", clock=CLOCK, permit=Permit(models=("support",)))
    ring = KeyRing(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE keys SET models = '[1'")
    with pytest.raises(LedgerError, match="cannot be read"):
        ring.refresh()
    assert ring.check(made.secret.reveal().encode()) == made.key  # as it was known
    with pytest.raises(LedgerError, match="cannot be read"):
        KeyRing(path)
    ring.close()
