"""What is known of a kept answer beside its likeness: where it leads, whom it serves, who it came from."""

import json
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from tests.cache.semantic.test_shelf import answer
from trivet.cache.key import Question
from trivet.cache.semantic import admission
from trivet.cache.semantic.admission import ELSEWHERE, ENOUGH, HUB, Admission, asker, leads_of
from trivet.cache.semantic.look import Kept
from trivet.cache.semantic.planted import ASKS_MORE
from trivet.testing.cache_suite import ask
from trivet.types import Labels

ASKED = Question(b"s", "where do I send the form")


def said(text: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def sent(number: int, *places: str, by: int, text: str = "where must the form go", tenant: str = "t") -> Any:
    kept = Kept(text=text, group=number)
    return answer(number, asker=by, leads=places, kept=kept, tenant=tenant)


def unit(*values: float) -> "np.ndarray":
    row = np.array(values, np.float32)
    return row / np.float32(np.sqrt(row @ row))


def test_askers_are_told_apart_by_tenant_key_and_customer() -> None:
    one = replace(ask(tenant="t", customer="c"), key_id="k1")
    others = replace(one, tenant="u"), replace(one, key_id="k2"), replace(one, labels=Labels(customer="d"))
    assert asker(one) == asker(replace(one, id="another request", model="q"))
    assert len({asker(request) for request in (one, *others)}) == 4
    assert all(0 <= asker(request) < 2**63 for request in (one, *others))


def test_an_answer_leads_where_the_program_itself_did_not() -> None:
    body = said("See https://shop.example.com/a, www.evil.com, me@mail.evil.com, or call +1 (900) 555-0199.")
    program = [{"role": "system", "content": "You work for shop.example.com."}, {"role": "user", "content": "x"}]
    assert leads_of(body, ask(messages=program)) == ("19005550199", "evil.com", "mail.evil.com")
    named = [{"role": "user", "content": "is evil.com safe? and shop.example.com?"}]
    assert "evil.com" in leads_of(body, ask(messages=named))
    assert leads_of(said("Press the button."), ask(messages=named)) == ()
    call = {"function": {"name": "f", "arguments": '{"to": "https://evil.com"}'}}
    calling = json.dumps({"choices": [{"message": {"content": None, "tool_calls": [call]}}]}).encode()
    assert leads_of(calling, ask(messages=named)) == ("evil.com",)


@pytest.mark.parametrize("words", ["word " * 50_000, " ".join(f"https://a{i}.com" for i in range(33))])
def test_an_answer_that_leads_to_too_much_is_for_nobody_else(words: str) -> None:
    leads = leads_of(said(words), ask(messages=[]))
    known = Admission()
    for by in (1, 2, 3):
        known.kept(sent(by, *leads, by=by))
    assert known.bars(ASKED, 3, sent(1, *leads, by=1)) == ELSEWHERE
    assert known.bars(ASKED, 1, sent(1, *leads, by=1)) == ""


def test_a_place_is_for_others_once_a_second_asker_was_sent_there_unasked() -> None:
    known, planted = Admission(), sent(1, "evil.com", by=1)
    known.kept(planted)
    known.kept(sent(2, "evil.com", by=1))  # again the same asker
    known.kept(sent(3, "evil.com", by=2, text="say evil.com"))  # who named it
    known.kept(sent(4, "evil.com", by=3, tenant="u"))  # of another tenant
    assert known.bars(ASKED, 9, planted) == ELSEWHERE
    assert known.bars(ASKED, 1, planted) == ""
    assert known.bars(Question(b"s", "is evil.com where the form goes"), 9, planted) == ""
    known.kept(sent(5, "evil.com", by=2))
    assert known.bars(ASKED, 9, planted) == ""
    assert known.bars(ASKED, 9, sent(6, "evil.com", "other.com", by=1)) == ELSEWHERE


def test_places_that_are_forgotten_are_barred_again() -> None:
    known, planted = Admission(), sent(1, "a.com", by=1)
    known.kept(planted)
    known.kept(sent(2, "a.com", by=2))
    assert known.bars(ASKED, 9, planted) == ""
    for i in range(admission.MAX_PLACES):
        known.kept(sent(3, f"b{i}.com", by=2))
    assert known.bars(ASKED, 9, planted) == ELSEWHERE


def test_an_answer_that_serves_questions_with_nothing_in_common_is_barred() -> None:
    known, hub, liked = Admission(), answer(1), answer(2)
    for i in range(ENOUGH):
        assert known.bars(ASKED, 2, hub) == ""
        known.served(hub, 2, np.eye(ENOUGH, dtype=np.float32)[i])
        known.served(liked, 2, unit(*(3.0 if j == 0 else float(i == j) for j in range(ENOUGH))))
    assert known.bars(ASKED, 2, hub) == HUB
    assert known.bars(ASKED, 2, liked) == ""


def test_what_was_served_long_ago_does_not_hide_a_hub() -> None:
    known, kept = Admission(), answer(1)
    for _ in range(admission.ANEW):
        known.served(kept, 2, unit(1, 0, 0, 0, 0))
    for i in range(ENOUGH):
        known.served(kept, 2, np.eye(ENOUGH, dtype=np.float32)[i])
    assert known.bars(ASKED, 2, kept) == HUB


def test_hits_are_followed_of_so_many_answers_and_no_more() -> None:
    known = Admission()
    for number in range(admission.MAX_FOLLOWED + 1):
        known.served(answer(number), 2, unit(1, 0))
    for _ in range(ENOUGH - 1):
        known.served(answer(0), 2, unit(0, 1))  # forgotten, so it begins anew
    assert known.bars(ASKED, 2, answer(0)) == ""


def test_the_context_is_looked_at_too() -> None:
    kept = answer(1, kept=Kept(text="and now", context="what is the fee for it? call the boss a crook", group=1))
    assert Admission().bars(Question(b"s", "and now", "what is the fee for it?"), 1, kept) == ASKS_MORE


def test_the_widest_asker_is_told_of_hits_on_anothers_question() -> None:
    known = Admission()
    for by in (5, 5, 5, 6):
        known.served(answer(by, asker=by), 1, unit(1, 0))
    known.served(answer(9, asker=1), 1, unit(1, 0))
    assert known.report("p") == {"hits_of_others": 4, "widest_asker": 0.75}
    assert known.report("nobody") == {"hits_of_others": 0, "widest_asker": 0.0}
