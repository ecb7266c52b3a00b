"""Two requests share a key only if they are the same request of the same tenant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.cache.key import Fingerprint, KeyParts, Question, _digest, fingerprint, question
from trivet.testing.cache_suite import POLICY, ask
from trivet.types import Request
from trivet.wire.request import read_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "A", "a ", "é", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "role"]), inner, max_size=2),
    max_leaves=5,
)
CASES = st.fixed_dictionaries(
    {"tenant": st.sampled_from(["t", "u"]), "messages": st.lists(JSON, max_size=2)},
    optional={
        "namespace": st.sampled_from(["", "n"]),
        "customer": st.sampled_from(["", "c"]),
        "temperature": st.sampled_from([0, 0.5, 1]),
        "x": JSON,
        "y": JSON,
    },
)
DEFAULTS = {"namespace": "", "customer": ""}


def made(body: bytes) -> Fingerprint | None:
    return fingerprint(read_request(body, [], id="r", tenant="t", key_id="", at_ns=0), POLICY)


def digest(request: Request) -> bytes | None:
    found = fingerprint(request, POLICY)
    return None if found is None else found.digest


@pytest.mark.parametrize(
    ("members", "plain"),
    [
        (b'"seed":1', True), (b'"x": [ 1, {"a" : "b  c"} ]', True), (b'"x": { "a": 1, "a": 1 }', False),
        (b'"x":{"a":1,"b":1}', True), (b'"x":[1.50,1e2,"\\u00e9","\\/"]', True),
        (b'"x":{"a":1,"a":1}', False), (b'"x":[{"a":1.50,"\\u0061":2}]', False),
        (b'"stream_options":{"a":1,"a":2}', True),  # is no part of the key
    ],
)  # fmt: skip
def test_a_body_is_plain_if_no_name_is_said_twice(members: bytes, *, plain: bool) -> None:
    found = made(b'{"model":"p","messages":[],%b}' % members)
    assert found is not None
    assert found.plain() is plain


def typed(value: Any) -> Any:
    """Make a value that is equal only to the same JSON: in Python True == 1 == 1.0."""
    return json.dumps(value, sort_keys=True)


@given(CASES, CASES)
def test_keys_are_equal_exactly_when_the_requests_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = typed({**DEFAULTS, **one}) == typed({**DEFAULTS, **other})
    assert (digest(ask(**one)) == digest(ask(**other))) is same


def test_the_order_of_members_and_the_spelling_of_text_do_not_matter() -> None:
    def key(body: bytes) -> bytes | None:
        found = made(body)
        return None if found is None else found.digest

    plain = key('{"model":"p","messages":[{"role":"user","content":"é"}],"seed":1}'.encode())
    assert plain is not None
    assert key(b'{ "seed":1, "messages":[{"content":"\\u00e9","role":"user"}],"model":"p"}') == plain
    assert key(b'{"model":"p","messages":[{"role":"user","content":"e\\u0301"}],"seed":1}') != plain


def test_whole_numbers_beyond_doubles_stay_apart() -> None:
    assert digest(ask(seed=2**64 + 1)) != digest(ask(seed=2**64 + 2))


def test_no_part_of_a_key_can_be_left_out() -> None:
    assert set(KeyParts.__struct_fields__) == {
        "version", "kind", "tenant", "policy", "policy_digest", "namespace", "partition", "headers", "body",
    }  # fmt: skip
    assert not KeyParts.__struct_defaults__


def asked(content: Any, **more: Any) -> Question | None:
    request = ask(messages=[*more.pop("before", []), {"role": "user", "content": content}], **more)
    found = fingerprint(request, POLICY)
    assert found is not None
    return question(request, POLICY, found.body)


def test_a_question_is_the_last_words_and_its_scope_all_else() -> None:
    one, other = asked("2+2?"), asked("3+3?")
    assert one is not None
    assert other is not None
    assert (one.text, other.text) == ("2+2?", "3+3?")
    assert one.scope == other.scope
    assert one.scope != fingerprint(ask(), POLICY).digest  # type: ignore[union-attr]


@given(CASES, CASES)
def test_questions_share_a_scope_only_if_all_else_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    def scope(case: dict[str, Any], text: str) -> bytes:
        before = case["messages"]
        found = asked(text, before=before, **{name: value for name, value in case.items() if name != "messages"})
        assert found is not None
        return found.scope

    same = typed(DEFAULTS | one) == typed(DEFAULTS | other)
    assert (scope(dict(one), "a") == scope(dict(other), "b")) is same


TURNS = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "who leads Apple?"},
    {"role": "assistant", "content": "a person"},
]


def in_context(content: Any, *before: dict[str, Any]) -> Question:
    request = ask(messages=[*before, {"role": "user", "content": content}])
    found = fingerprint(request, POLICY)
    assert found is not None
    taken = question(request, POLICY, found.body, in_context=True)
    assert taken is not None
    return taken


def test_a_question_in_context_leaves_what_the_user_said_before_out_of_its_scope() -> None:
    one = in_context("how old is he?", *TURNS)
    other = in_context("what is his age?", TURNS[0], {**TURNS[1], "content": "who runs Apple?"}, TURNS[2])
    assert (one.text, one.context) == ("how old is he?", "who leads Apple?")
    assert (other.text, other.context) == ("what is his age?", "who runs Apple?")
    assert one.scope == other.scope


@pytest.mark.parametrize(
    "turns",
    [
        [],
        TURNS[1:],
        [{**TURNS[0], "content": "be long"}, *TURNS[1:]],
        [*TURNS[:2], {**TURNS[2], "content": "another person"}],
        [TURNS[0], {**TURNS[1], "content": [{"type": "text", "text": "who leads Apple?"}]}, TURNS[2]],
        [TURNS[0], {**TURNS[1], "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}, TURNS[2]],
        [TURNS[0], {**TURNS[1], "content": " "}, TURNS[2]],
        [TURNS[0], {**TURNS[1], "content": None}, TURNS[2]],
        [TURNS[0], {**TURNS[1], "name": "n"}, TURNS[2]],
        [TURNS[0], TURNS[2], TURNS[1]],
        [*TURNS, TURNS[1]],
    ],
    ids=str,
)  # fmt: skip
def test_replies_roles_system_prompts_and_what_is_not_plain_stay_in_the_scope(turns: list[dict[str, Any]]) -> None:
    assert in_context("how old is he?", *turns).scope != in_context("how old is he?", *TURNS).scope


def test_the_first_question_of_all_has_the_same_scope_in_context_or_not() -> None:
    assert in_context("2+2?") == asked("2+2?")


def test_a_key_is_256_bits_of_which_any_change_turns_half() -> None:
    """A hundred thousand requests that differ in a number: no two share even the first 64 bits of their keys, or of
    their scopes; and from one to the next each bit is turned as often as not."""
    count, before, turned, keys, scopes = 100_000, b"", [0] * 256, set[bytes](), set[bytes]()
    request = ask()
    assert POLICY.cache is not None
    for number in range(count):
        body = {"messages": [{"role": "user", "content": "a"}], "seed": number}
        made_, where = _digest(request, POLICY, "chat", body), _digest(request, POLICY, "question at 0", body)
        keys.add(made_[:8])
        scopes.add(where[:8])
        if number < 4000:
            bits = int.from_bytes(made_, "big") ^ int.from_bytes(before, "big")
            turned = [n + (bits >> i & 1) for i, n in enumerate(turned)]
        before = made_
    assert len(keys) == len(scopes) == count
    assert not keys & scopes
    assert len(before) == 32
    # Each of 256 bits is turned in half of 4,000 steps, within 5 standard deviations of 31.6.
    assert all(2000 - 158 < n < 2000 + 158 for n in turned)
