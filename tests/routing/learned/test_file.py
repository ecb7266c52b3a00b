"""The router file: what is written comes back, and nothing else is ever taken for a router."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from trivet.errors import ConfigError
from trivet.routing.learned.file import Section, read, write


def some() -> dict[str, Section]:
    arrays = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "counts": np.array([1, 2, 3], np.int32)}
    return {"heads": Section({"models": ["a", "b"], "n": 3}, arrays), "of others": Section({}, {"one": np.zeros(0)})}


def test_what_is_written_comes_back_with_the_sections_of_others(tmp_path: Path) -> None:
    file = tmp_path / "router"
    digest = write(file, some())
    sections, told = read(file)
    assert told == digest
    assert list(sections) == ["heads", "of others"]
    assert sections["heads"].facts == {"models": ["a", "b"], "n": 3}
    for name, array in some()["heads"].arrays.items():
        np.testing.assert_array_equal(sections["heads"].arrays[name], array)
        assert sections["heads"].arrays[name].dtype == array.dtype
    assert write(tmp_path / "again", some()) == digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "router"]


def test_it_is_refused_wherever_it_is_cut_and_whatever_bit_is_turned(tmp_path: Path) -> None:
    file = tmp_path / "router"
    write(file, some())
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at])
        with pytest.raises(ConfigError, match=r"router"):
            read(file)
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ConfigError, match=r"router"):
            read(file)


def test_another_version_is_said_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "router"
    write(file, some())
    whole = bytearray(file.read_bytes())[:-32]
    whole[8] = 9
    file.write_bytes(bytes(whole) + hashlib.sha256(whole).digest())
    with pytest.raises(ConfigError, match=r"version 9; this Trivet reads version 1"):
        read(file)


def test_a_number_that_is_none_is_neither_written_nor_read(tmp_path: Path) -> None:
    file = tmp_path / "router"
    with pytest.raises(ValueError, match=r"not finite"):
        write(file, {"a": Section({}, {"x": np.array([1.0, np.nan])})})
    assert not file.exists()
    write(file, {"a": Section({}, {"x": np.array([1.0, 2.0])})})
    whole = file.read_bytes()[:-32].replace(np.array([2.0]).tobytes(), np.array([np.nan]).tobytes())
    file.write_bytes(whole + hashlib.sha256(whole).digest())
    with pytest.raises(ConfigError, match=r"not finite"):
        read(file)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"shape":[2,3]', b'"shape":[2,99]'), (b'"<f4"', b'"<O4"'), (b'"at":0', b'"a_":0'), (b"{", b"[")]
)
def test_a_header_that_lies_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    file = tmp_path / "router"
    write(file, some())
    whole = file.read_bytes()[:-32].replace(old, new, 1)
    file.write_bytes(whole + hashlib.sha256(whole).digest())
    with pytest.raises(ConfigError, match=r"no router that can be used"):
        read(file)


def test_a_router_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    with pytest.raises(ConfigError, match=r"Cannot write"):
        write(tmp_path / "router", some())
    assert [p.name for p in tmp_path.iterdir()] == ["router"]
    with pytest.raises(ConfigError, match=r"cannot be read"):
        read(tmp_path / "none")
