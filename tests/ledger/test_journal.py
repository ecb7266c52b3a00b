"""The journal's bytes: what is read back after any tear, flip or race."""

import os
import random
import resource
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.ledger.journal import Contents, Journal, parse, take_over

RANDOM = random.SystemRandom()


def written(folder: Path, *payloads: bytes) -> bytes:
    journal = Journal.create(folder, RANDOM)
    for payload in payloads:
        journal.append(payload)
    journal.close()
    return journal.path.read_bytes()


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    payloads = [b"one", b"", b"three" * 1000]
    assert parse(written(tmp_path, *payloads)) == Contents(payloads, [])


def test_a_last_record_torn_at_any_byte_is_dropped_in_silence(tmp_path: Path) -> None:
    whole = written(tmp_path, b"first", b"second" * 30)
    start = len(whole) - len(b"second" * 30) - 12
    for end in range(start, len(whole)):
        assert parse(whole[:end]) == Contents([b"first"], []), end


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=6), st.data())
def test_one_flipped_byte_costs_one_record_and_is_told(payloads: list[bytes], data: st.DataObject) -> None:
    records = [_record(p) for p in payloads]
    hurt = data.draw(st.integers(0, len(records) - 2))  # not the last, which might look torn
    at = sum(map(len, records[:hurt])) + data.draw(st.integers(0, len(records[hurt]) - 1))
    bytes_ = bytearray(b"".join(records))
    bytes_[at] ^= 1 << data.draw(st.integers(0, 7))
    found = parse(bytes(bytes_))
    assert found.payloads == payloads[:hurt] + payloads[hurt + 1 :]
    assert found.damaged_at == [sum(map(len, records[:hurt]))]


def test_a_last_record_that_is_whole_but_wrong_is_damage() -> None:
    record = bytearray(_record(b"payload"))
    record[-1] ^= 1
    assert parse(bytes(record)) == Contents([], [0])


@given(st.binary(max_size=300))
def test_any_bytes_can_be_parsed(data: bytes) -> None:
    parse(data)


@pytest.mark.parametrize("zeros", [1, 11, 12, 13, 65_536])
def test_the_rest_of_a_probe_is_no_damage(zeros: int) -> None:
    assert parse(_record(b"a") + bytes(zeros)) == Contents([b"a"], [])


def test_looking_for_room_leaves_no_trace(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RANDOM)
    journal.append(b"one")
    assert journal.has_room()
    journal.append(b"two")
    journal.close()
    assert parse(journal.path.read_bytes()) == Contents([b"one", b"two"], [])


def test_a_write_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files cuts a write short, exactly as a full disk does."""
    journal = Journal.create(tmp_path, RANDOM)
    journal.append(b"one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="only 4081 of 8012 bytes"):
            journal.append(bytes(8000))
        assert journal.path.stat().st_size == journal.size == 15
        assert not journal.has_room()
        journal.append(b"two")  # a small one still fits
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.has_room()
    journal.append(b"three")
    journal.close()
    assert parse(journal.path.read_bytes()) == Contents([b"one", b"two", b"three"], [])


def test_a_journal_is_taken_over_only_once_its_owner_let_go(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RANDOM)
    journal.append(b"one")
    with take_over(journal.path) as contents:
        assert contents is None
    journal.close()
    with take_over(journal.path) as contents, take_over(journal.path) as again:
        assert contents == Contents([b"one"], [])
        assert again is None


def test_a_journal_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    with take_over(tmp_path / "1-x.log") as contents:
        assert contents is None


def test_a_name_in_use_is_not_taken_again(tmp_path: Path) -> None:
    """Process ids come again, in containers at every start: the dead one's journal must stay what it is."""
    first = Journal.create(tmp_path, random.Random(1))
    second = Journal.create(tmp_path, random.Random(1))
    assert first.path != second.path
    first.close()
    second.close()


def test_a_retired_journal_is_gone_and_its_descriptor_too(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RANDOM)
    free_before = journal._fd
    journal.retire()
    assert list(tmp_path.iterdir()) == []
    again = os.open(tmp_path, os.O_RDONLY)  # the lowest number that is free
    os.close(again)
    assert again <= free_before


def _record(payload: bytes) -> bytes:
    return struct.pack("<4sII", b"\xabTJ1", len(payload), zlib.crc32(payload)) + payload
