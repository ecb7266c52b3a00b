"""From settings to stages: what is named is built, what cannot be built is said, and all of it is closed."""

import asyncio
import os
import stat
from collections import Counter
from pathlib import Path

import pytest

from trivet.build import Builder, SystemClock, SystemRandom, kit, stages
from trivet.config import Settings, parse
from trivet.errors import ConfigError, LedgerError
from trivet.ledger.sqlite import SqliteStore
from trivet.testing.store_suite import a_request, an_entry
from trivet.upstream.remote import Remote

CONFIG = """
[targets.a]
provider = "openai"
model = "m"
base_url = "http://127.0.0.1:9/v1"
price = { input = "$1", output = "$2" }
[policies.p]
pool = ["a"]
"""


def test_randomness_has_the_length_asked_for_and_does_not_repeat() -> None:
    random = SystemRandom()
    for bits in (1, 7, 8, 53, 80, 1024):
        values = [random.getrandbits(bits) for _ in range(500)]
        assert all(0 <= value < 1 << bits for value in values)
        assert max(values) >= 1 << (bits - 1)
    assert len({random.getrandbits(80) for _ in range(20_000)}) == 20_000
    assert all(0 <= random.random() < 1 for _ in range(1000))
    ones = Counter(bit for _ in range(2000) for bit in range(13) if random.getrandbits(13) >> bit & 1)
    assert all(800 < ones[bit] < 1200 for bit in range(13))


def test_the_clock_is_the_machines() -> None:
    clock = SystemClock()
    assert clock.now_ns() > 1_700_000_000 * 10**9
    assert clock.mono_ns() <= clock.mono_ns()


def test_the_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    env = {"TRIVET_HOME": str(tmp_path / "deep" / "home"), "TRIVET_MODELS": str(tmp_path / "models")}
    made = kit(Settings(), env, tell=print)
    assert made.home == tmp_path / "deep" / "home"
    assert stat.S_IMODE(made.home.stat().st_mode) == 0o700
    assert made.models == tmp_path / "models"
    assert not made.models.exists()


def test_a_home_that_cannot_be_made_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="TRIVET_HOME"):
        kit(Settings(), {"TRIVET_HOME": str(tmp_path / "file" / "home")}, tell=print)


def test_every_stage_comes_from_its_seam_and_is_closed_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        made = kit(Settings(), {"TRIVET_HOME": str(tmp_path)}, tell=print)
        async with stages(parse(CONFIG, source="t"), made) as built:
            assert isinstance(built.store, SqliteStore)
            assert isinstance(built.providers["a"], Remote)
            assert set(built.routers) == {"fixed"}
            assert built.policies.names() == ("a", "p")
            assert built.store.settle(built.store.reserve(a_request("e1")), an_entry("e1")) is None
        with pytest.raises(LedgerError):
            built.store.reserve(a_request("e2"))

    asyncio.run(main())
    assert list((tmp_path / "ledger" / "journal").glob("*.log")) == []  # written out, not left to be caught up


def test_what_was_opened_is_closed_where_a_later_stage_cannot_be_built(tmp_path: Path) -> None:
    config = CONFIG + '[targets.b]\nprovider = "openai"\nmodel = "m"\napi_key = "env:NO_SUCH_VARIABLE_HERE"\n'
    assert "NO_SUCH_VARIABLE_HERE" not in os.environ

    async def main() -> None:
        made = kit(Settings(), {"TRIVET_HOME": str(tmp_path)}, tell=print)
        with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE_HERE"):
            async with stages(parse(config, source="t"), made):
                raise AssertionError

    asyncio.run(main())
    assert list((tmp_path / "ledger" / "journal").glob("*.log")) == []


EMBEDDER = '[targets.e]\nprovider = "embedder"\nmodel = "builtin"\n'


def test_an_embedder_is_loaded_once_for_all_targets_and_stays_through_a_reload(tmp_path: Path) -> None:
    async def main() -> None:
        builder = Builder(kit(Settings(), {"TRIVET_HOME": str(tmp_path)}, tell=print))
        first = (await builder.build(parse(EMBEDDER, source="t"))).providers["e"]
        while first.ready():  # noqa: ASYNC110  # its state is words, as people see them
            await asyncio.sleep(0.01)
        second = (await builder.build(parse(EMBEDDER.replace("targets.e", "targets.f"), source="t"))).providers["f"]
        assert second.ready() == ""
        await builder.let_go()
        assert (first.ready(), second.ready()) == ("closed", "")
        await builder.aclose()
        assert second.ready() == "closed"

    asyncio.run(main())


def test_other_threads_for_the_embedder_take_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        builder = Builder(kit(Settings(), {"TRIVET_HOME": str(tmp_path)}, tell=print))
        await builder.build(parse(EMBEDDER, source="t"))
        with pytest.raises(ConfigError, match=r"`embedder\.threads` is another: that takes a restart"):
            await builder.build(parse(EMBEDDER + "[embedder]\nthreads = 2\n", source="t"))
        await builder.aclose()

    asyncio.run(main())
