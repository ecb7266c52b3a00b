"""Who has more than a share of the shelf is known, until they have less."""

import pytest

from trivet.cache.semantic.shares import Shares


@pytest.mark.parametrize(("entries", "size"), [(26, 1), (1, 26)])
def test_more_than_a_quarter_is_crowding_in_entries_or_in_bytes(entries: int, size: int) -> None:
    shares = Shares(max_entries=100, max_bytes=100)
    for _ in range(entries - 1):
        shares.count("t", 1, entries=1, size=0)
    assert not shares.anybody_crowds()
    shares.count("t", 1, entries=1, size=size)
    shares.count("t", 2, entries=1, size=1)
    assert shares.crowds("t", 1)
    assert not shares.crowds("t", 2)
    assert not shares.crowds("u", 1)
    shares.count("t", 1, entries=-1, size=-size)
    shares.count("t", 2, entries=-1, size=-1)
    assert not shares.anybody_crowds()


def test_a_tenant_may_have_half_whoever_asks_for_it() -> None:
    shares = Shares(max_entries=100, max_bytes=10**6)
    for asker in range(51):
        shares.count("t", asker, entries=1, size=1)
    assert shares.crowds("t", 999)
    assert not shares.crowds("u", 7)


def test_of_a_tenant_that_has_too_much_the_asker_who_has_makes_room_first() -> None:
    shares = Shares(max_entries=100, max_bytes=10**6)
    shares.count("t", 1, entries=60, size=1)
    shares.count("t", 2, entries=1, size=1)
    assert shares.crowds("t", 1)
    assert not shares.crowds("t", 2)
