"""Hostile requests against a real gateway: the first of ten thousand; `make hostile` sends all of them."""

import pytest

from tests.hostile.attacks import attack
from tests.hostile.run import assault, house, table

pytestmark = pytest.mark.anyio


async def hold(numbers: range) -> None:
    async with house() as opened:
        summary = await assault(opened, numbers)
    assert summary.sent.total() == len(numbers)
    assert not summary.wrong, table(summary)
    assert summary.entries > len(numbers) // 2
    assert summary.witnessed > 2


@pytest.mark.slow
async def test_two_hundred_hostile_requests_break_nothing_and_leave_their_entries() -> None:
    await hold(range(200))


@pytest.mark.slow
async def test_fifteen_hundred_hostile_requests_break_nothing_and_leave_their_entries() -> None:
    await hold(range(200, 1700))


def test_a_number_is_the_same_attack_each_time_and_another_seed_is_another() -> None:
    made = [attack(1, number, key=b"k") for number in range(50)]
    assert made == [attack(1, number, key=b"k") for number in range(50)]
    assert made != [attack(2, number, key=b"k") for number in range(50)]
