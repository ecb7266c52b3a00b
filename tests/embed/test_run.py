"""`make embedders`: what it runs is there, and its lock pins what it is about."""

import re

from tests.embed.run import HERE, TESTS, VERSIONS


def test_all_it_runs_is_there_and_pinned() -> None:
    assert all((HERE / test).exists() for test in TESTS)
    pins = (HERE / "locks" / "embedders.txt").read_text().splitlines()
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    wishes = (HERE / "locks" / "embedders.in").read_text().split()
    assert {*wishes, *VERSIONS} <= {pin.split("==")[0] for pin in pins}
