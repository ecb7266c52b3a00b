"""The lists are what the guards take them for."""

from trivet.cache.semantic.lists import COMMON, KINDS, LIGHT, OPPOSITES, SAME


def test_opposites_are_opposites_both_ways() -> None:
    assert all(word in OPPOSITES[other] for word, others in OPPOSITES.items() for other in others)
    assert not any(word in others for word, others in OPPOSITES.items())


def test_a_word_that_means_another_is_of_the_same_kind_or_of_none() -> None:
    spans = {"time", "unit"}  # "hourly" is a time, "hour" a unit
    for word, others in SAME.items():
        for other in others & KINDS.keys():
            if word in KINDS:
                assert KINDS[word] & KINDS[other] or KINDS[word] | KINDS[other] == spans, (word, other)


def test_all_is_in_lower_case_and_no_kind_is_a_word_that_says_nothing() -> None:
    everything = [*OPPOSITES, *KINDS, *SAME, *COMMON, *LIGHT]
    assert all(word == word.lower() and word == word.strip() for word in everything)
    assert not KINDS.keys() & COMMON
