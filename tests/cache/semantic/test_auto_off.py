"""The real pipeline in virtual time: where likeness never pays it goes off, and comes back when questions repeat."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import async_solipsism

from tests.cache.semantic.hashed import Hashed
from tests.cache.semantic.test_audit import POLICY, words
from tests.cache.semantic.test_tier import Noted
from tests.test_pipeline import run
from tests.test_simulation import LoopClock, dial
from trivet.cache.exact import Exact
from trivet.cache.semantic.gain import LOOKS
from trivet.cache.semantic.shelf import Shelf
from trivet.cache.semantic.tier import OFF, Tiers
from trivet.seams import Vectors
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Upstream
from trivet.types import Entry

NEW, AGAIN = 1250, 1500
REPEATED = ("where is my new card today", "how do I reset my pin now", "what does a transfer cost me")


class Slow(Hashed):
    """The embedder, taking ten milliseconds for each text; narrow, since there are thousands."""

    width = 509  # a prime: the last bits of a CRC alone say too little

    def __init__(self) -> None:
        super().__init__()
        self.wide = self.width

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Wait, then count the words."""
        await asyncio.sleep(0.01 * len(texts))
        return await super().embed(texts)


class Day:
    """A gateway, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.embedder, self.store = Slow(), Memory()
        self.embedded = [0]

    async def live(self) -> None:
        """Ask a day's questions: first all are new, then three come again and again in other words."""
        rng, told = random.Random(1), list[str]()
        async with Upstream("an answer", host="a.test", port=80, first_delay_s=0.8) as upstream:
            made = kit(self.folder, clock=LoopClock(), rng=rng, dialer=dial)
            cache = Tiers(
                Exact(max_entries=10**5, max_bytes=10**9, clock=made.clock),
                Shelf(max_entries=10**5, max_bytes=10**9),
                embedder=lambda: self.embedder,
                make=lambda rules, embedder: Noted(0.8),
                clock=made.clock,
                random=rng,
                tell=told.append,
            )
            async with stages(config({"a": upstream.base_url}, POLICY), made, self.store) as built:
                built = built._replace(cache=cache)
                for part in (self.all_new(), self.repeated(rng)):
                    for question in part:
                        await run(words(question), built)
                    await cache.settled()
                    self.embedded.append(len(self.embedder.asked))
                self.figures = cache.state().deciders["p"]
                await cache.aclose()
        assert told == []

    @staticmethod
    def all_new() -> list[str]:
        """Questions of which no two have a word in common; every tenth is the one before, once more."""
        which = [i if i % 10 else i - 1 for i in range(1, NEW + 1)]
        return [f"a{i} b{i} c{i} d{i} e{i}" for i in which]

    @staticmethod
    def repeated(rng: random.Random) -> list[str]:
        return [f"{rng.choice(REPEATED)} please{i}" for i in range(AGAIN)]  # six words of seven: cosine 6/7


def lived(day: Day) -> list[Entry]:
    loop = async_solipsism.EventLoop()
    try:
        loop.run_until_complete(day.live())
    finally:
        loop.close()
    return day.store.entries


def test_it_goes_off_where_it_does_not_pay_and_comes_back_when_it_does(tmp_path: Path) -> None:
    day = Day(tmp_path)
    entries = lived(day)
    first, second = entries[:NEW], entries[NEW:]
    left_out = [any(miss.why == OFF for miss in entry.near) for entry in entries]
    at = left_out.index(True)
    assert LOOKS <= at < LOOKS * 10 / 9 + 5  # exact hits are no looks
    assert 0.8 < sum(left_out[at:NEW]) / (NEW - at) < 0.95
    assert sum(entry.cache == "exact" for entry in first[at:]) == NEW // 10 - at // 10
    assert day.embedded[1] - at * 9 // 10 < 0.1 * (NEW - at)  # one in twenty of the rest
    # Now the same three come again: it is back within some thousand requests, and nearly all are hits from then on.
    assert not any(left_out[-200:])
    assert sum(entry.cache == "semantic" for entry in second[-200:]) > 195
    assert day.figures["spaces_off"] == 0
    # And what was kept while it was off was given its vector.
    assert len(day.embedder.asked) - day.embedded[1] > 250
