"""Who may ask: keys in every shape that a client or an attacker writes them, and pages of other sites."""

from pathlib import Path

import pytest

from tests.edge_kit import ASK, bearer, get, make_key, post, raw
from trivet.build import SystemClock
from trivet.errors import AuthError
from trivet.ledger import keys
from trivet.ledger.keys import KeyRing
from trivet.server.auth import LOCAL, Auth, Caller
from trivet.testing.house import house
from trivet.testing.upstream import Upstream
from trivet.types import Permit

pytestmark = pytest.mark.anyio


def auth_over(path: Path) -> Auth:
    ring = KeyRing(path)
    ring.close()
    return Auth(ring)


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"api-key"])
def test_a_key_is_taken_from_the_headers_that_clients_use(name: bytes, tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "acme").encode()
    value = b"Bearer " + key if name == b"authorization" else key
    caller = auth_over(tmp_path / "keys").check([(name, value)])
    assert (caller.tenant, caller.permit) == ("acme", Permit())
    assert caller.key_id.startswith("key_")


def test_a_key_brings_what_it_may_do(tmp_path: Path) -> None:
    permit = Permit(models=("support",), targets=("small",))
    key = make_key(tmp_path / "keys", "acme", permit=permit).encode()
    assert auth_over(tmp_path / "keys").check([(b"x-api-key", key)]).permit == permit


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   "])
def test_the_scheme_is_read_in_any_case(scheme: bytes, tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "acme").encode()
    assert auth_over(tmp_path / "keys").check([(b"authorization", scheme + key)]).tenant == "acme"


def test_what_is_not_a_key_in_use_is_refused_without_repeating_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key, other = make_key(path, "acme").encode(), make_key(path, "globex").encode()
    auth = auth_over(path)
    for headers in (
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", key)],
        [(b"authorization", b"Basic " + key)],
        [(b"authorization", b"Secret " + key)],
        [(b"authorization", b"Bearer " + key + b"x")],
        [(b"authorization", b"Bearer " + key[:-1])],
        [(b"authorization", b"Bearer " + key.upper())],
        [(b"authorization", b"Bearer " + key + b", Bearer " + other)],
        [(b"authorization", b"Bearer " + key), (b"authorization", b"Bearer " + key)],
        [(b"authorization", b"Bearer " + key), (b"x-api-key", key)],
        [(b"authorization", b""), (b"x-api-key", key)],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer " + b"a" * 65_536)],
        [(b"authorization", b"Bearer ' OR '1'='1")],
        [(b"x-api-key", b"")],
    ):
        with pytest.raises(AuthError) as caught:
            auth.check(headers)
        assert key.decode() not in str(caught.value)
        assert caught.value.status == 401


def test_keys_that_share_all_but_the_last_character_are_strangers(tmp_path: Path) -> None:
    """Attack 7: no prefix of a key is ever an identity."""
    key = make_key(tmp_path / "keys", "acme").encode()
    auth = auth_over(tmp_path / "keys")
    for length in (20, 32, len(key) - 1):
        with pytest.raises(AuthError):
            auth.check([(b"authorization", b"Bearer " + key[:length] + b"_" * (len(key) - length))])


def test_who_revokes_the_last_key_does_not_open_the_door(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = make_key(path, "acme").encode()
    keys.revoke(path, "of-acme", clock=SystemClock())
    for headers in ([], [(b"authorization", b"Bearer " + key)]):
        with pytest.raises(AuthError):
            auth_over(path).check(headers)


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"http://127.0.0.1:8088", b"https://[::1]:1"])
def test_without_keys_pages_of_this_machine_may_ask(origin: bytes, tmp_path: Path) -> None:
    assert auth_over(tmp_path / "none").check([(b"origin", origin)]) == Caller(LOCAL)
    assert auth_over(tmp_path / "none").check([]) == Caller(LOCAL)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example", b"null", b"", b"http://localhost.evil.example", b"http://evil.example#localhost",
        b"http://localhost@evil.example", b"http://[", b"http://[::1", b"http://localhost\xbd", b"file://", b"\xff",
    ],
)  # fmt: skip
def test_without_keys_pages_of_other_sites_may_not(origin: bytes, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="trivet keys create"):
        auth_over(tmp_path / "none").check([(b"origin", origin)])


async def test_a_key_that_is_not_one_is_a_401_with_one_entry_and_never_a_500(tmp_path: Path) -> None:
    """Attack 2, over a real socket; what the parser itself refuses (NUL) is no request, so it leaves none."""
    key = make_key(tmp_path / "keys", "acme").encode()
    said: list[bytes] = [
        b"", b"Bearer", b"Bearer sk-trivet-unknown", key, b"Basic " + key, b"Bearer " + key + b"," + key,
        b"Bearer \xe9\xff", b"Bearer " + b"a" * 60_000, b"Bearer ' OR '1'='1",
    ]  # fmt: skip
    async with (
        Upstream("x") as upstream,
        house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway,
    ):
        for count, value in enumerate(said, start=1):
            reply = await raw(gateway.url, post(ASK, ("authorization", value)))
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert len(gateway.store.entries) == count
        twice = await raw(gateway.url, post(ASK, ("authorization", b"Bearer " + key), ("x-api-key", key)))
        without = await raw(gateway.url, post(ASK))
        nul = await raw(gateway.url, post(ASK, ("authorization", b"Bearer " + key + b"\0")))
        long = await raw(gateway.url, post(ASK, ("authorization", b"Bearer " + b"a" * 70_000)))
        right = await raw(gateway.url, post(ASK, ("authorization", b"bearer " + key)))
        entries = gateway.store.entries
    assert [r.status for r in (twice, without, nul, right)] == [401, 401, 400, 200]
    assert long.status in (0, 400, 431)
    assert {(e.outcome.status, e.outcome.http_status, e.tenant) for e in entries[:-1]} == {("refused", 401, "")}
    assert (len(entries), entries[-1].tenant) == (len(said) + 3, "acme")
    assert len(upstream.requests) == 1


async def test_the_guard_against_other_sites_stands_before_every_route_that_needs_a_key() -> None:
    async with Upstream("x") as upstream, house({"a": upstream.base_url}) as gateway:
        for origin in (b"https://evil.example", b"http://["):
            assert (await raw(gateway.url, post(ASK, ("origin", origin)))).status == 401
            assert (await raw(gateway.url, get("/v1/models", ("origin", origin)))).status == 401
            assert (await raw(gateway.url, get("/metrics", ("origin", origin)))).status == 401
        assert [e.outcome.status for e in gateway.store.entries] == ["refused"] * 2
    assert not upstream.requests


async def test_with_keys_it_is_the_key_that_counts_and_not_the_page(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys", "acme")
    async with (
        Upstream("x") as upstream,
        house({"a": upstream.base_url}, keys=tmp_path / "keys") as gateway,
    ):
        reply = await raw(gateway.url, post(ASK, bearer(key), ("origin", b"https://app.example")))
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers
