"""Another embedder: kept questions get its vectors in the background, and until then exact repeats are served."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.cache.semantic.hashed import Hashed
from tests.cache.semantic.test_tier import LIKE, OTHER, WHAT, WHICH, Cell
from trivet.cache.semantic.behind import BATCH, TOLD_FROM
from trivet.errors import EmbedderError
from trivet.seams import Vectors

pytestmark = pytest.mark.anyio

MANY = 3 * BATCH + 5


class Other(Hashed):
    """Another embedder, of another width, whose vectors of a text have nothing to do with those of the first."""

    digest, width, min_width = "hashed-2", 1021, 1021

    def __init__(self) -> None:
        super().__init__()
        self.wide = self.width
        self.most: int | None = None
        """Texts after which it hangs."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.most is not None and len(self.asked) >= self.most:
            await asyncio.sleep(3600)
        return await super().embed(texts)


class Late(Other):
    """One whose digest and width are known only when it is ready."""

    digest, width, min_width = "", 0, 0

    def known(self) -> None:
        self.digest, self.width, self.min_width, self.unready = "hashed-2", 1021, 1021, ""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.unready = 1021, "asking"


def question(number: int) -> str:
    """Questions of which no two have a word in common."""
    return " ".join(f"{word}{number}" for word in ("what", "is", "the", "best", "meaning"))


async def filled(file: Path, *, count: int = MANY) -> None:
    """Keep questions with the first embedder."""
    cell = Cell(file=file)
    for number in range(count):
        await cell.asked(question(number), says=f"answer {number}")
    await cell.cache.aclose()


async def begun(file: Path, embedder: Hashed) -> Cell:
    """Start again, with that embedder."""
    cell = Cell(file=file, entries=1000)
    cell.embedder = embedder
    await cell.cache.start([LIKE])
    return cell


async def until(seen: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not seen():  # noqa: ASYNC110  # a thread of the file's has its part in it
            await asyncio.sleep(0.005)


async def settled(cell: Cell, answers: int) -> None:
    """Wait until so many answers are there, all with their vectors."""
    await until(lambda: cell.cache.state().answers == answers and not cell.cache.state().behind)


def made_by(file: Path) -> Counter[str]:
    """Count the rows of the file by embedder."""
    with sqlite3.connect(file) as db:
        return Counter(dict(db.execute("SELECT embedder, COUNT(*) FROM answers GROUP BY embedder")))


async def test_kept_questions_get_vectors_of_another_embedder_in_batches(tmp_path: Path) -> None:
    await filled(tmp_path / "c")
    cell = await begun(tmp_path / "c", Other())
    await until(lambda: cell.cache.state().answers == MANY)
    await until(lambda: not cell.cache.state().behind)
    assert sorted(cell.embedder.asked) == sorted(question(number) for number in range(MANY))
    hit = (await cell.asked(f"{question(3)} please")).hit
    assert hit is not None
    assert (hit.kind, hit.origin_id) == ("semantic", "entry of answer 3")
    assert MANY >= TOLD_FROM
    await until(lambda: len(cell.told) == 2)
    assert [line.split(" ", 1)[1] for line in cell.told] == [
        "kept questions get new vectors; exact repeats are served meanwhile.",
        "kept questions have their vectors.",
    ]
    await cell.cache.aclose()
    assert made_by(tmp_path / "c") == {"hashed-2": MANY}
    again = await begun(tmp_path / "c", Other())
    await until(lambda: again.cache.state().answers == MANY)
    assert (await again.asked(f"{question(3)} please")).hit is not None
    assert again.embedder.asked == [f"{question(3)} please"]
    await again.cache.aclose()


async def test_exact_repeats_hit_meanwhile_and_no_old_vector_is_compared_with(tmp_path: Path) -> None:
    await filled(tmp_path / "c")
    other = Other()
    other.most = 0
    cell = await begun(tmp_path / "c", other)
    await until(lambda: cell.cache.state().answers == MANY)
    assert cell.cache.state().behind == MANY
    hit = (await cell.asked(question(3))).hit
    assert hit is not None
    assert hit.kind == "exact"
    assert (await cell.asked(f"{question(3)} please")).hit is None
    other.most = None
    await cell.cache.aclose()


async def test_what_is_done_stays_done_and_the_next_start_goes_on(tmp_path: Path) -> None:
    await filled(tmp_path / "c")
    other = Other()
    other.most = 2 * BATCH
    cell = await begun(tmp_path / "c", other)
    await until(lambda: cell.cache.state().behind == MANY - 2 * BATCH)
    await cell.cache.aclose()
    assert made_by(tmp_path / "c") == {"hashed-2": 2 * BATCH, "hashed-1": MANY - 2 * BATCH}
    again = await begun(tmp_path / "c", Other())
    await settled(again, MANY)
    assert len(again.embedder.asked) == MANY - 2 * BATCH
    assert not set(again.embedder.asked) & set(other.asked)
    assert (await again.asked(f"{question(0)} please")).hit is not None
    assert (await again.asked(f"{question(MANY - 1)} please")).hit is not None
    await again.cache.aclose()


async def test_of_several_processes_one_does_it_and_the_others_hear_of_it(tmp_path: Path) -> None:
    await filled(tmp_path / "c")
    one, two = await begun(tmp_path / "c", Other()), await begun(tmp_path / "c", Other())
    for cell in (one, two):
        await settled(cell, MANY)
    asked = Counter([*one.embedder.asked, *two.embedder.asked])
    assert asked == Counter(question(number) for number in range(MANY))
    for cell in (one, two):
        assert (await cell.asked(f"{question(7)} please")).hit is not None
    await one.cache.aclose()
    await two.cache.aclose()
    assert made_by(tmp_path / "c") == {"hashed-2": MANY}


async def test_a_question_that_has_no_vector_is_tried_once_with_each_embedder(tmp_path: Path) -> None:
    cell = Cell(file=tmp_path / "c")
    for text in ("!?!", "long " * 65, WHAT):
        await cell.asked(text, says="something")
    await cell.cache.aclose()
    for tries in (3, 0):
        again = await begun(tmp_path / "c", Other())
        await settled(again, 3)
        assert len(again.embedder.asked) == tries
        await again.cache.aclose()
    assert made_by(tmp_path / "c") == {"hashed-2": 3}


async def test_what_was_kept_without_an_embedder_gets_its_vector_after_a_restart_too(tmp_path: Path) -> None:
    cell = Cell(file=tmp_path / "c")
    cell.embedder.unready = "loading"
    await cell.asked(WHAT, says="everest")
    await cell.cache.aclose()
    assert made_by(tmp_path / "c") == {"": 1}
    again = await begun(tmp_path / "c", Hashed())
    await settled(again, 1)
    assert (await again.asked(WHICH)).hit is not None
    await again.cache.aclose()


async def test_an_embedder_that_fails_meanwhile_is_asked_again_and_loses_nothing(tmp_path: Path) -> None:
    await filled(tmp_path / "c", count=3)
    other = Other()
    other.fails = "it is broken"
    cell = await begun(tmp_path / "c", other)
    await until(lambda: cell.cache.state().troubles["failed"] >= 1)
    assert cell.cache.state().behind == 3
    other.fails = ""
    await cell.asked(OTHER)  # a look that works has it tried at once
    await cell.cache.settled()
    assert cell.cache.state().behind == 0
    await cell.cache.aclose()


async def test_answers_are_served_before_the_embedder_is_known_and_vectors_follow(tmp_path: Path) -> None:
    await filled(tmp_path / "c", count=3)
    moved = await begun(tmp_path / "c", Other())
    await settled(moved, 3)
    moved.decider.verdicts = [(True, False)] * 2
    await moved.cache.aclose()
    late = Late()
    cell = await begun(tmp_path / "c", late)
    await until(lambda: cell.cache.state().answers == 3)
    hit = (await cell.asked(question(1))).hit
    assert hit is not None
    assert hit.kind == "exact"
    assert (await cell.asked(f"{question(1)} please")).hit is None
    assert cell.decider.verdicts == []
    late.known()
    await until(lambda: all(answer.width for answer in cell.kept()))
    hit = (await cell.asked(f"{question(1)} please")).hit
    assert hit is not None
    assert (hit.kind, late.asked) == ("semantic", [f"{question(1)} please"])
    assert cell.decider.verdicts == [(True, False)] * 2  # what was learned with that embedder
    await cell.cache.aclose()


async def test_what_raises_anything_else_is_a_trouble_and_no_end(tmp_path: Path) -> None:
    class Odd(Other):
        odd = True

        async def embed(self, texts: Sequence[str]) -> Vectors:
            if self.odd:
                raise KeyError("a plugin's")
            return await super().embed(texts)

    await filled(tmp_path / "c", count=3)
    odd = Odd()
    cell = await begun(tmp_path / "c", odd)
    await until(lambda: cell.cache.state().troubles["defect"])
    odd.odd = False
    await cell.asked(OTHER)
    await until(lambda: not cell.cache.state().behind)
    await cell.cache.aclose()
    with pytest.raises(EmbedderError):
        await cell.embedder.embed(["a"])
