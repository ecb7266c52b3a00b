"""The nouns are frozen values that survive being written and read, in every field."""

import msgspec
import pytest

from trivet import types
from trivet.testing.store_suite import an_entry
from trivet.types import Attempt, Call, Candidate, Entry, Facts, Fault, Hit, Outcome, Refuse, Request, Serve

STRUCTS = [t for t in vars(types).values() if isinstance(t, type) and issubclass(t, msgspec.Struct)]
STRUCTS.remove(msgspec.Struct)


def test_every_noun_is_frozen_and_by_itself() -> None:
    assert {Request, Facts, Outcome, Entry} <= set(STRUCTS)
    for noun in STRUCTS:
        assert noun.__struct_config__.frozen, noun
        assert noun.__module__ == types.__name__


def test_none_can_be_changed() -> None:
    entry = an_entry("e")
    for name in Entry.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(entry, name, None)


def test_an_entry_comes_back_the_same_from_the_journal_and_from_json() -> None:
    for status in ("ok", "refused", "failed", "cancelled"):
        entry = an_entry("e", status=status)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Entry) == entry
        assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


def test_an_entry_of_a_version_to_come_can_be_read() -> None:
    """Fields are only ever added: what is not known is passed over, what is not there has its default."""
    later = msgspec.json.decode(msgspec.json.encode(an_entry("e"))) | {"v": 2, "something_new": [1]}
    assert msgspec.json.decode(msgspec.json.encode(later), type=Entry).id == "e"
    least = {"id": "e", "at_ns": 1, "tenant": "t", "outcome": {"status": "ok", "http_status": 200}}
    assert msgspec.json.decode(msgspec.json.encode(least), type=Entry).outcome.cost_nanos is None


def test_money_and_time_are_whole_numbers() -> None:
    for noun in STRUCTS:
        for field in msgspec.structs.fields(noun):
            if field.name.endswith(("_ns", "_nanos", "nanos", "_tokens", "_ms")):
                assert float not in getattr(field.type, "__args__", (field.type,)), f"{noun.__name__}.{field.name}"


def test_an_unknown_cost_is_none_and_not_zero() -> None:
    outcome = Outcome(status="ok", http_status=200)
    assert outcome.cost_nanos is None
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome).cost_nanos is None


def test_a_decision_says_which_it_is() -> None:
    fault = Fault(status=400, code="c", message="m", whose="client")
    hit = Hit(kind="exact", body=b"{}", usage=None, origin_id="o", target="a", age_ms=1)
    for decision in (Serve(hit), Call((Candidate(target="a"),)), Refuse(fault)):
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Serve | Call | Refuse) == decision


def test_no_field_of_an_entry_is_made_for_text_of_prompts_or_answers() -> None:
    names = {name for noun in (Entry, Outcome, Attempt) for name in noun.__struct_fields__}
    assert not names & {"messages", "prompt", "answer", "content", "text", "body", "fields", "headers"}
