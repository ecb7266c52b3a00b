"""Each word goes to its targets; without one the fallback does; and words are remembered for one tenant and policy."""

import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from trivet.config import parse
from trivet.routing.classifier.memory import AFTER, PAUSE_S
from trivet.routing.classifier.router import ClassifierRouter, build
from trivet.routing.policies import Policies
from trivet.routing.rules import Able, Ruled
from trivet.seams import Ask
from trivet.testing.cache_suite import Hands, ask
from trivet.testing.house import kit
from trivet.testing.router_suite import RouterSuite
from trivet.types import ClassifierPolicy, Policy, Request

HOW = ClassifierPolicy(model="judge", digest="j", within_ms=500)
POLICY = Policy(name="p", digest="d", pool=("small", "middle", "large"), route="classifier", classifier=HOW)
FILE = "\n".join(f'[targets.{name}]\nprovider = "openai"\nmodel = "m"' for name in ("a", "b", "c", "d", "e", "judge"))
FILE += '\n[policies.p]\npool = ["a", "b", "c", "d", "e"]\nroute = "classifier"\nclassifier = { model = "judge" }\n'


def said(word: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": word}}]}).encode()


class Cell:
    """The router, with its clock and what it told."""

    def __init__(self) -> None:
        self.clock, self.told = Hands(), list[str]()
        self.kit = kit(Path("never-made"), clock=self.clock, tell=self.told.append)
        self.router = ClassifierRouter(("p", "q"), self.kit)

    def rank(self, request: Request, policy: Policy = POLICY) -> tuple[list[str], str]:
        found = asyncio.run(self.router.rank(request, policy))
        return [c.target for c in found], found[0].why

    def by(self, body: bytes | None, request: Request, policy: Policy = POLICY, *, late: bool = False) -> list[str]:
        """Have it asked, and answered."""
        asked = self.router.ask(request, policy)
        assert asked is not None
        heard = self.router.heard(asked, body, took_ns=10_000_000, late=late)
        found = asyncio.run(self.router.rank_by(heard, request, policy))
        return [*(c.target for c in found), found[0].why]

    def counts(self, policy: str = "p") -> dict[str, int]:
        return {kind: count for kind, count in self.router.verdicts()[policy].counts.items() if count}


SETTINGS = parse(FILE, source="t")


class TestClassifier(RouterSuite):
    def make(self) -> ClassifierRouter:
        return build(SETTINGS, kit(Path("never-made")))

    def policy(self, pool: tuple[str, ...]) -> Policy:
        return replace(Policies(SETTINGS).find("p"), pool=pool)


class TestRuledClassifier(TestClassifier):
    def make(self) -> Ruled:  # type: ignore[override]  # the same router, with what comes before it
        return Ruled(super().make(), {"a": Able(frozenset({"images"}))})


def test_what_is_asked_names_the_model_and_bounds_its_answer() -> None:
    asked = Cell().router.ask(ask(), POLICY)
    assert isinstance(asked, Ask)
    assert (asked.model, asked.within_ms, json.loads(bytes(asked.fields["max_tokens"]))) == ("judge", 500, 8)
    own = Cell().router.ask(ask(), replace(POLICY, classifier=replace(HOW, prompt="SIMPLE or COMPLEX?")))
    assert own is not None
    assert json.loads(bytes(own.fields["messages"]))[0]["content"] == "SIMPLE or COMPLEX?"


def test_each_word_goes_to_its_end_of_the_pool_and_the_nearest_stand_by() -> None:
    cell = Cell()
    assert cell.by(said("simple"), ask(messages=[{"role": "user", "content": "hi"}])) == [
        "small", "middle", "large", "classifier: simple"
    ]  # fmt: skip
    assert cell.by(said("Complex."), ask()) == ["large", "middle", "small", "classifier: complex"]
    assert cell.counts() == {"simple": 1, "complex": 1}


def test_targets_that_are_named_come_first_as_far_as_they_are_there() -> None:
    policy = replace(POLICY, classifier=replace(HOW, simple=("middle", "small"), complex=("large",)))
    assert Cell().by(said("simple"), ask(), policy)[:3] == ["middle", "small", "large"]
    smaller = replace(policy, pool=("small", "large"))
    assert Cell().by(said("simple"), ask(), smaller)[:2] == ["small", "large"]


@pytest.mark.parametrize(
    ("body", "late", "kind"),
    [
        (said("It depends."), False, "babble"),
        (said(""), False, "babble"),
        (b"not json", False, "babble"),
        (None, False, "failed"),
        (None, True, "timeout"),
    ],
)
@pytest.mark.parametrize(("fallback", "first"), [("complex", "large"), ("simple", "small")])
def test_without_a_word_the_fallback_says_and_nothing_is_remembered(
    body: bytes | None, kind: str, fallback: str, first: str, *, late: bool
) -> None:
    cell = Cell()
    policy = replace(POLICY, classifier=replace(HOW, fallback=fallback))
    *order, why = cell.by(body, ask(), policy, late=late)
    assert (order[0], why) == (first, f"classifier: {kind}, so {fallback}")
    assert cell.counts() == {kind: 1}
    assert cell.router.ask(ask(), policy) is not None


def test_a_word_is_remembered_for_the_question_the_tenant_the_policy_and_the_model() -> None:
    cell = Cell()
    cell.by(said("simple"), ask())
    assert cell.router.ask(ask(), POLICY) is None
    assert cell.rank(ask()) == (["small", "middle", "large"], "classifier: simple, remembered")
    spaced = ask(messages=[{"role": "user", "content": " 2+2? \n"}])
    assert cell.router.ask(spaced, POLICY) is None
    for other, policy in [
        (ask(tenant="other"), POLICY),
        (ask(messages=[{"role": "user", "content": "2+3?"}]), POLICY),
        (ask(), replace(POLICY, digest="d2")),
        (ask(), replace(POLICY, name="q")),
        (ask(), replace(POLICY, classifier=replace(HOW, digest="j2"))),
    ]:
        assert cell.router.ask(other, policy) is not None
    cell.clock.ns += int(HOW.ttl_s * 1e9)
    assert cell.router.ask(ask(), POLICY) is not None
    assert cell.counts() == {"simple": 1, "remembered": 1}


def test_tenants_cannot_be_spelt_so_that_they_share_a_word() -> None:
    one = Cell().router.ask(ask(tenant="a\0d"), POLICY)
    other = Cell().router.ask(ask(tenant="a"), replace(POLICY, digest="d\0d"))
    assert one is not None
    assert other is not None
    assert one.key != other.key


def test_memory_is_bounded_and_can_be_none() -> None:
    cell = Cell()
    for most, known in ((2, [False, True, True]), (0, [False] * 3)):
        policy = replace(POLICY, digest=str(most), classifier=replace(HOW, memory=most))
        questions = [ask(messages=[{"role": "user", "content": str(i)}]) for i in range(3)]
        for question in questions:
            cell.by(said("simple"), question, policy)
        assert [cell.router.ask(question, policy) is None for question in questions] == known


def test_nothing_is_asked_where_both_words_mean_the_same_or_there_is_nothing_to_ask_about() -> None:
    cell = Cell()
    alone = replace(POLICY, pool=("large",))
    assert cell.router.ask(ask(), alone) is None
    assert cell.rank(ask(), alone) == (["large"], "")
    nothing = ask(messages=[])
    assert cell.router.ask(nothing, POLICY) is None
    assert cell.rank(nothing) == (["large", "middle", "small"], "classifier: skipped, so complex")
    embeddings = replace(ask(), kind="embeddings")
    assert cell.router.ask(embeddings, POLICY) is None
    assert cell.counts() == {"skipped": 1}


def test_a_model_that_says_nothing_is_left_alone_for_a_while_and_that_is_told_once() -> None:
    cell = Cell()
    for _ in range(AFTER):
        cell.by(None, ask())
    (told,) = cell.told
    assert "The classifier of policy 'p', 'judge', gave no verdict 5 times on end (the last: failed)" in told
    assert cell.router.ask(ask(), POLICY) is None
    assert cell.rank(ask())[1] == "classifier: skipped, so complex"
    assert cell.router.ask(ask(), replace(POLICY, name="q")) is not None  # that is another's trouble
    cell.clock.ns += int(PAUSE_S * 1e9)
    cell.by(None, ask())
    assert (cell.router.ask(ask(), POLICY), len(cell.told)) == (None, 1)
    cell.clock.ns += int(PAUSE_S * 1e9)
    cell.by(said("simple"), ask())
    other = ask(messages=[{"role": "user", "content": "why?"}])
    assert cell.router.ask(other, POLICY) is not None
    assert cell.counts() == {"failed": AFTER + 1, "skipped": 1, "simple": 1}


def test_how_long_asks_took_is_counted_once_for_each() -> None:
    cell = Cell()
    asked = cell.router.ask(ask(), POLICY)
    assert asked is not None
    heard = cell.router.heard(asked, said("simple"), took_ns=30_000_000, late=False)
    for _ in range(3):  # that waited for it together
        asyncio.run(cell.router.rank_by(heard, ask(), POLICY))
    told = cell.router.verdicts()["p"]
    assert (told.counts["simple"], sum(told.took_counts), told.took_ns) == (3, 1, 30_000_000)


def test_what_was_heard_outlives_a_reload_for_the_policies_that_do() -> None:
    cell = Cell()
    cell.by(said("simple"), ask())
    cell.by(said("simple"), ask(), replace(POLICY, name="q"))
    after = ClassifierRouter(("p", "r"), cell.kit)
    after.follow(cell.router)
    assert after.ask(ask(), POLICY) is None
    assert after.verdicts()["p"].counts["simple"] == 1
    assert set(after.verdicts()) == {"p", "r"}


def test_what_constraints_and_rules_say_is_not_asked_about() -> None:
    cell = Cell()
    able = {name: Able(frozenset({"images"})) for name in ("small", "middle")}
    ruled = Ruled(cell.router, able)
    image = ask(messages=[{"role": "user", "content": [
        {"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    ]}])  # fmt: skip
    assert ruled.ask(ask(), POLICY) is not None
    assert ruled.ask(image, POLICY) is None
    text = FILE.replace('judge" }', 'judge" }\n[[policies.p.rules]]\nuse = ["b"]\ntokens_below = 9\n')
    policy = replace(Policies(parse(text, source="t")).find("p"), name="p")
    assert ruled.ask(ask(), policy) is None
    assert ruled.ask(ask(messages=[{"role": "user", "content": "x" * 400}]), policy) is not None
    assert ruled.ask(ask(), replace(POLICY, transparent=True)) is None
