"""The power goes at any moment: what had been promised is in the ledger, in every image that the disk may hold.

The child's file operations are recorded and cut at every one; see `cut.py` for what a disk may lose. A setting that
is known to lose entries must be caught by the same test, or the test would prove nothing.
"""

import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from errno import EIO
from pathlib import Path

import pytest

from tests.disk.cut import Image, images
from tests.disk.disk import DATABASE, FAIL, SAID, SYNC, Call, Disk
from tests.ledger.ledger_kit import journals, kept_ids, named, open_store
from trivet.errors import LedgerError
from trivet.ledger.tables import FILE

LEDGER = "home/ledger"
OFTEN = ("--checkpoint-pages", 20, "--rotate-every", 9)
"""So that checkpoints, new journals and removed ones come within a few entries."""
SCALE = int(os.environ.get("TRIVET_TORTURE", "1"))
"""How many times the usual number of images (`make torture`)."""


@pytest.fixture
def images_at() -> Generator[Path]:
    """In memory where there is such a folder: each image is opened, which flushes a dozen times."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    yield Path(folder)
    shutil.rmtree(folder)


def recorded(disk: Disk, *options: object, count: int) -> list[Call]:
    """Two lives of a gateway: the first ends without closing, the second catches up and settles in groups."""
    arguments = (disk.root / LEDGER, disk.root / SAID, "--count", count, *OFTEN, *options)
    disk.run("tests.disk.promise", *arguments, "--name", "a", "--die", record=True)
    disk.run("tests.disk.promise", *arguments, "--name", "b", "--at-once", 3, record=True)
    return disk.recording()


def examine(image: Image, folder: Path) -> str:
    """Open the ledger of an image as a gateway would, and say what is wrong with it: "" if nothing is."""
    image.write(folder)
    try:
        ledger = folder / LEDGER
        store = open_store(ledger, tell=lambda line: None)
        store.settle(None, named("after"))
        store.close()
        ids = kept_ids(ledger)
        with closing(sqlite3.connect(ledger / FILE)) as db:
            sound = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        left = [name for name in journals(ledger) if not name.endswith(".bad")]
    except (LedgerError, sqlite3.Error):
        return "broken"
    finally:
        shutil.rmtree(folder)
    if not sound or left or "after" not in ids:
        return "broken"
    if len(ids) != len(set(ids)):
        return "doubled"
    return "lost" if set(image.promised) - set(ids) else ""


def examined(calls: Sequence[Call], at: Path, *, each: int, share: float = 1.0, seed: int = 1) -> Counter[str]:
    """Examine images of a recording; gives how many there were of each finding."""
    rng = random.Random(seed)
    found = Counter(examine(image, at / "image") for image in images(calls, rng, each=each, share=share))
    print(f"{len(calls)} file operations, {found.total()} images (seed {seed}): {dict(found)}")
    return found


def test_what_was_promised_with_power_durability_is_there_in_a_sample_of_images(
    tmp_path: Path, images_at: Path
) -> None:
    found = examined(recorded(Disk(tmp_path / "d"), count=12), images_at, each=1, share=0.1)
    assert found.keys() == {""}
    assert found.total() >= 30


@pytest.mark.parametrize("synchronous", ["NORMAL", pytest.param("OFF", marks=pytest.mark.slow)])
def test_a_setting_that_is_known_to_lose_entries_is_caught(tmp_path: Path, images_at: Path, synchronous: str) -> None:
    calls = recorded(Disk(tmp_path / "d"), "--synchronous", synchronous, count=12)
    found = examined(calls, images_at, each=1, share=0.1)
    assert found["lost"] >= 5


@pytest.mark.slow
def test_no_cut_loses_what_was_promised_with_power_durability(tmp_path: Path, images_at: Path) -> None:
    calls = recorded(Disk(tmp_path / "d"), count=30)
    found = examined(calls, images_at, each=2 * SCALE)
    assert found.keys() == {""}
    assert found.total() >= 1500


@pytest.mark.slow
def test_with_process_durability_a_cut_may_lose_entries_but_doubles_none_and_the_ledger_opens(
    tmp_path: Path, images_at: Path
) -> None:
    calls = recorded(Disk(tmp_path / "d"), "--durability", "process", count=40)
    found = examined(calls, images_at, each=2 * SCALE)
    assert found.keys() == {"", "lost"}
    assert found.total() >= 300


@pytest.mark.slow
def test_what_a_failed_flush_left_is_no_foundation_for_what_is_promised_after(tmp_path: Path, images_at: Path) -> None:
    """A flush may succeed after one that failed, and have written nothing: what counts is written anew."""
    found = Counter[str]()
    for at in (19, 24):
        disk = Disk(tmp_path / f"{at}")
        disk.faults.strike(FAIL, at=at, until=at + 1, mask=SYNC | DATABASE, error=EIO)
        arguments = (disk.root / LEDGER, disk.root / SAID, "--count", 20, "--checkpoint-pages", 200)
        told = disk.run("tests.disk.promise", *arguments, record=True)
        assert disk.faults.shared.struck == 2
        assert "the disk has not confirmed it" in told
        found += examined(disk.recording(), images_at, each=2 * SCALE, share=0.3)
    assert found.keys() == {""}
