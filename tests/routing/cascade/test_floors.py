"""Floors of requests beside the policy's own: stricter ones count, each planned once."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.routing.cascade.test_live import about, fresh, heard, made
from trivet.types import Controls


def test_a_stricter_floor_that_a_request_asks_for_saves_less(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9"\n')
    read, said, _ = fresh(tmp_path, seed=8)

    async def large(quality: float | None) -> int:
        strict = 0
        for i, text in enumerate(read.prompts.texts[:150]):
            request = replace(about(text), controls=Controls(quality=quality))
            if not (await router.rank(request, found))[0].weighed:
                strict += 1
                continue
            answers_ = [heard(name, *said[i][name]) for name in found.pool[:-1]]
            strict += bool((await router.weigh(request, found, answers_, (), last=False)).relay)
        return strict

    assert asyncio.run(large(0.5)) == asyncio.run(large(None)) < asyncio.run(large(0.995))


@pytest.mark.parametrize(
    ("asked", "floor"), [(None, None), (0.5, None), (0.9, None), (0.901, 0.91), (0.95, 0.95), (1.0, 1.0)]
)
def test_a_stricter_floor_is_rounded_up(tmp_path: Path, asked: float | None, floor: float | None) -> None:
    router, _, _ = made(tmp_path, 'quality = "0.9"\n')
    assert router._floors["p"].floor(asked) == floor


def test_each_floor_is_planned_once(tmp_path: Path) -> None:
    router, _, _ = made(tmp_path, 'quality = "0.9"\n')
    floors = router._floors["p"]

    async def twice() -> bool:
        first, second = await asyncio.gather(floors.live(0.97), floors.live(0.97))
        return first is second is await floors.live(0.97)

    assert asyncio.run(twice())
    assert router.digest("p") == floors.digest
    assert len(floors.digest) == 64
