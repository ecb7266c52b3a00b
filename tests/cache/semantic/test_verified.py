"""Our decider: guards are above all, verdicts teach, what was learned is kept."""

import pytest

from trivet.cache.semantic.look import Kept, Look, Near
from trivet.cache.semantic.priors import prior
from trivet.cache.semantic.verified import Verified, interval


def made(max_error: float = 0.05) -> Verified:
    return Verified(prior("all-MiniLM-L6-v2-int8"), max_error)


def warm(verified: Verified, requests: int = 300) -> Verified:
    """Give it exact hits, so that the promise has room."""
    for _ in range(requests):
        verified.passed()
    return verified


def look(asked: str, *kept: tuple[str, float, int], context: str = "") -> Look:
    return Look(asked, [Near(Kept(text=t, group=g, group_size=3), c) for t, c, g in kept], context)


POLICY = "what is your return policy"


def test_the_same_question_in_other_words_is_served_where_much_speaks_for_it() -> None:
    near = [("what's your return policy?", 0.97, 1), ("tell me about your return policy", 0.93, 1)] * 4
    verdict = warm(made()).decide(look(POLICY, *near))
    assert verdict.serve
    assert verdict.p_correct is not None
    assert verdict.p_correct > 0.8
    assert 0 < verdict.audit <= 1


def test_a_guard_is_above_everything_else() -> None:
    verified = warm(made(), 4000)
    near = [("what is 17 * 23?", 0.999, 1)] * 8
    verdict = verified.decide(look("what is 17 * 24?", *near))
    assert not verdict.serve
    assert verdict.why == "number differs"
    assert verdict.p_correct is None


def test_what_is_barred_is_never_served_and_another_behind_it_may_be_meant() -> None:
    verified = warm(made(), 4000)
    near = [*look(POLICY, *[("what is your return policy?", 0.999, 1)] * 7).near]
    barred = [one._replace(barred="leads elsewhere") for one in near]
    verdict = verified.decide(Look(POLICY, barred))
    assert (verdict.serve, verdict.why, verdict.p_correct) == (False, "leads elsewhere", None)
    assert verified.decide(Look(POLICY, [*barred, near[0]])).chosen == 7


def test_behind_a_guarded_neighbour_another_may_be_meant() -> None:
    near = [("convert 5 miles to km", 0.97, 1), ("how many km are 50 miles", 0.9, 2)]
    assert warm(made()).decide(look("convert 50 miles to km", *near)).chosen == 1


def test_what_is_far_is_never_served() -> None:
    verdict = warm(made(0.5), 4000).decide(look("hello", *[("goodbye now", 0.49, 1)] * 8))
    assert (verdict.serve, verdict.why) == (False, "cosine")
    assert warm(made()).decide(look("hello")).chosen == -1


def test_verdicts_teach_all_questions_alike() -> None:
    def said(verified: Verified) -> float:
        verdict = verified.decide(look("how do I pair my headset", ("pairing my headset, how", 0.85, 9)))
        assert verdict.p_correct is not None
        return verdict.p_correct

    good, bad = made(), made()
    for verified, same in ((good, True), (bad, False)):
        for i in range(40):
            near = look(f"how do I fix my {i * 'very '}old bike", (f"fixing my {i * 'very '}old bike, how", 0.85, i))
            verified.learn(near, verified.decide(near), same=same, audited=False)
    assert said(bad) < said(made()) < said(good)


def test_feedback_lowers_what_may_be_risked() -> None:
    verified, kept = warm(made()), Kept(text="a", group=0)
    before = verified.report()["times_predicted"]
    for _ in range(5):
        verified.feedback(kept)
    assert kept.wrong == 5
    assert verified.report()["times_predicted"] > before
    assert verified.report()["feedback"] == 5


def test_a_question_that_was_served_before_is_audited_more_often() -> None:
    verified = warm(made(), 5000)
    near = [("what's your return policy?", 0.98, 1)] * 8
    for i in range(3000):  # until audits are rare
        verified.decide(look(f"what is your return policy {'x' * (i % 7)}", *near))
    first = verified.decide(look("what is your return policy now", *near))
    again = verified.decide(look("what is your return policy now", *near))
    assert first.serve
    assert first.audit < 0.3 <= again.audit


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ("who is the CEO of Toyota?", "context: company differs"),
        ("", "context differs"),
    ],
)
def test_another_context_is_another_question(other: str, why: str) -> None:
    kept = Kept(text="how old is he?", context=other, group=0)
    near = [Near(kept, 0.98, 0.9)] * 8
    verdict = warm(made(), 4000).decide(Look("what is his age?", near, "who is the CEO of Apple?"))
    assert (verdict.serve, verdict.why) == (False, why)


def test_a_context_in_other_words_is_a_risk_on_top() -> None:
    def said(context: str) -> float:
        kept = Kept(text="how old is he?", context=context, group=0)
        verdict = made().decide(Look("what is his age?", [Near(kept, 0.9, 0.85)], "who is the CEO of Apple?"))
        assert verdict.p_correct is not None
        return verdict.p_correct

    assert 0.5 < said("tell me who the CEO of Apple is") < said("who is the CEO of Apple?")


def test_what_was_learned_is_saved_and_belongs_to_its_embedder() -> None:
    verified = warm(made())
    near = look(POLICY, ("return policy, what is it", 0.9, 1))
    for i in range(30):
        verified.learn(near, verified.decide(near), same=bool(i % 3), audited=True)
    again = made()
    again.restore(verified.save())
    one, other = verified.decide(near), again.decide(near)
    assert one.p_correct == other.p_correct
    assert again.report()["audits"] == 30
    for damaged in (
        b"",
        b"{}",
        b'{"vcache":1}',
        verified.save()[:-20],
        verified.save().replace(b"all-Mini", b"all-Maxi"),
    ):
        before = again.save()
        with pytest.raises(ValueError, match="What was learned"):
            again.restore(damaged)
        assert again.save() == before


def test_the_interval_of_a_share_is_wilsons() -> None:
    low, high = interval(5, 100)
    assert (round(low, 4), round(high, 4)) == (0.0215, 0.1118)
    assert interval(0, 0) == (0.0, 1.0)
