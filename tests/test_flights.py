"""Work that several wait for is done once, goes on while one of them waits, and never outlives the last."""

import asyncio
import random
from collections import Counter

import pytest

from trivet.flights import Flights

pytestmark = pytest.mark.anyio


class Work:
    """Waits for its gate; knows how often it was begun, and how it ended."""

    def __init__(self) -> None:
        self.gate, self.begun, self.ended = asyncio.Event(), 0, list[str]()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.gate.wait()
            self.ended.append("done")
            return number
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # an entry to settle
            self.ended.append("cancelled")
            raise


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_of_one_key_share_it_and_others_do_not() -> None:
    flights, work, other = Flights(), Work(), Work()
    waiting = [asyncio.ensure_future(flights.join(b"a", work)) for _ in range(3)]
    apart = asyncio.ensure_future(flights.join(b"b", other))
    await turns()
    assert (work.begun, other.begun, len(flights)) == (1, 1, 2)
    work.gate.set()
    other.gate.set()
    assert await asyncio.gather(*waiting, apart) == [1, 1, 1, 1]
    assert len(flights) == 0
    assert await flights.join(b"a", work) == 2  # what is over is not had again


async def test_it_goes_on_when_the_one_that_began_it_leaves() -> None:
    flights, work = Flights(), Work()
    first, second = (asyncio.ensure_future(flights.join(b"a", work)) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    assert (work.ended, len(flights)) == ([], 1)
    work.gate.set()
    assert await second == 1


async def test_when_the_last_has_left_it_is_cancelled_and_over_before_that_one_goes_on() -> None:
    flights, work = Flights(), Work()
    both = [asyncio.ensure_future(flights.join(b"a", work)) for _ in range(2)]
    await turns()
    for task in both:
        task.cancel()
    await turns()
    both[1].cancel()  # again, while it waits for the end
    await asyncio.wait(both)
    assert [task.cancelled() for task in both] == [True, True]
    assert (work.ended, len(flights)) == (["cancelled"], 0)


async def test_who_comes_while_it_is_being_given_up_begins_anew() -> None:
    flights, work = Flights(), Work()
    first = asyncio.ensure_future(flights.join(b"a", work))
    await turns()
    first.cancel()
    await turns()
    second = asyncio.ensure_future(flights.join(b"a", work))
    await turns()
    work.gate.set()
    assert await second == 2
    await asyncio.wait([first])
    assert (first.cancelled(), sorted(work.ended)) == (True, ["cancelled", "done"])


async def test_its_error_is_for_all_who_wait_and_nobody_is_nagged_about_one_that_none_heard() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    flights, gate = Flights(), asyncio.Event()

    async def work() -> int:
        try:
            await gate.wait()
        finally:
            raise OSError("broken")

    both = [asyncio.ensure_future(flights.join(b"a", work)) for _ in range(2)]
    await turns()
    gate.set()
    assert [type(result) for result in await asyncio.gather(*both, return_exceptions=True)] == [OSError, OSError]
    gate.clear()
    alone = asyncio.ensure_future(flights.join(b"a", work))
    await turns()
    alone.cancel()
    await asyncio.wait([alone])
    assert alone.cancelled()
    del alone, both
    await turns()
    assert complaints == []


@pytest.mark.parametrize("seed", range(20))
async def test_however_they_come_and_go_all_who_stay_are_told_and_all_that_began_has_ended(seed: int) -> None:
    rng, flights = random.Random(seed), Flights()
    begun, ended = Counter[bytes](), Counter[bytes]()

    async def work(key: bytes) -> bytes:
        begun[key] += 1
        try:
            await asyncio.sleep(rng.random() / 100)
            return key
        finally:
            try:
                await asyncio.sleep(rng.random() / 500)  # may be cancelled, too
            finally:
                ended[key] += 1

    async def one() -> bool:
        key = rng.choice([b"a", b"b"])
        await asyncio.sleep(rng.random() / 30)
        task = asyncio.ensure_future(flights.join(key, lambda: work(key)))
        for _ in range(rng.choice([0, 0, 1, 2])):
            await asyncio.sleep(rng.random() / 200)
            task.cancel()
        await asyncio.wait([task])
        return task.cancelled() or task.result() == key

    assert all(await asyncio.gather(*(one() for _ in range(40))))
    assert begun == ended
    assert (len(flights), len(begun)) == (0, 2)
