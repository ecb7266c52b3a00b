"""Our decider: what the guards let through is served where its risk fits into the promise.

Not here: the guards (`words.py`), the numbers (`features.py`), the risk (`belief.py`), what may be taken
(`promise.py`). Of the neighbours those are looked at whose guards let them through, one of each group, and the
likeliest is meant.
Invariants: a guarded or barred neighbour is never served, however sure everything else is; nor one whose cosine is
below `FLOOR`.
"""

from collections import OrderedDict
from math import sqrt

import msgspec

from trivet.cache.semantic import promise
from trivet.cache.semantic.belief import Belief, Learned
from trivet.cache.semantic.features import numbers
from trivet.cache.semantic.look import NOTHING, Kept, Look, Near, Verdict
from trivet.cache.semantic.priors import Prior
from trivet.cache.semantic.promise import Promise
from trivet.cache.semantic.words import guard, read

FLOOR = 0.5
"""Cosine below which nothing is served: it costs next to nothing, and spares hits that make no sense to anybody
(0.45, because the group was large)."""

GROUPS = 3
"""Candidates that are weighed: the nearest entries of so many groups."""

SAME_REPLIES = 0.1
"""Of the risk that two wordings of the turns before ask for different things, what is left where they got the same
replies (which the tier sees to): an assumption, which audits put right."""

AGAIN = 0.3
"""Probability with which a hit is audited because its question was served before, word by word: if it is wrong it
will be wrong each time, and after an audit the question has an answer of its own."""

MAX_SERVED = 10_000
"""Questions of which it is known that they were served: a number each."""


class _Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prior: str
    belief: Learned
    promise: promise.Kept
    audits: int
    audits_wrong: int
    feedback: int


class Verified:
    """The decider."""

    name = "verified"
    keeps_same = True
    in_context = True
    least = FLOOR

    def __init__(self, prior: Prior, max_error: float) -> None:
        """Start from a prior. Args: max_error: in [0, 1), wrong hits of all answers."""
        self._prior = prior
        self._belief = Belief(prior)
        self._promise = Promise(max_error, prior.typical)
        self._audits = self._audits_wrong = self._feedback = 0
        self._served: OrderedDict[int, None] = OrderedDict()

    def decide(self, look: Look) -> Verdict:
        """Weigh the candidates, and serve the likeliest if its risk may be taken."""
        best, said, refused = -1, [], ""
        likely = -1.0
        asked = read(look.text)
        groups: set[int] = set()
        for i, near in enumerate(look.near):
            kept = near.kept
            if kept.group in groups or near.cosine < FLOOR:
                continue
            known = read(kept.text)
            why = near.barred or guard(asked, known)
            in_context = 1.0
            if not why and kept.context != look.context:
                why, in_context = self._compare_contexts(look, near)
            if why:
                refused = refused or why
                continue
            groups.add(kept.group)
            found = numbers(asked, look.near, i, known)
            p = self._belief.probability(found) * in_context
            if p > likely:
                best, said, likely = i, found, p
            if len(groups) == GROUPS:
                break
        if best < 0:
            self._promise.asked(NOTHING)
            chosen = 0 if look.near else -1
            return Verdict(serve=False, chosen=chosen, p_correct=None, audit=0.0, why=refused or "cosine")
        risk = 1.0 - likely
        self._promise.asked(risk)
        serve = self._promise.allows(risk, look.max_error)
        audit = max(self._promise.audit(risk), self._again(look)) if serve else 0.0
        right = 1.0 - self._promise.calibration.put_right(risk)
        return Verdict(serve, best, right, audit, "likely" if serve else refused or "promise", risk, said)

    def _again(self, look: Look) -> float:
        """Note a question that is served; give the probability of an audit on the ground of that."""
        asked = hash((look.text, look.context))
        again = asked in self._served
        self._served[asked] = None
        self._served.move_to_end(asked)
        if len(self._served) > MAX_SERVED:
            self._served.popitem(last=False)
        return AGAIN if again else 0.0

    def _compare_contexts(self, look: Look, near: Near) -> tuple[str, float]:
        """Name what tells the turns before apart, or say how likely they come to the same."""
        one, other = read(look.context), read(near.kept.context)
        if not (look.context and near.kept.context) or near.context_cosine < FLOOR:
            return "context differs", 0.0
        why = guard(one, other)
        if why:
            return f"context: {why}", 0.0
        alone = [Near(Kept(text=near.kept.context, group=0), near.context_cosine)]
        return "", 1.0 - SAME_REPLIES * (1.0 - self._belief.probability(numbers(one, alone, 0, other)))

    def passed(self) -> None:
        """Note an exact hit."""
        self._promise.asked(0.0)

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        """Take in a verdict."""
        if verdict.p_correct is None:
            return  # of what a guard refused nothing is to be learned: it would not be served either way
        kept = look.near[verdict.chosen].kept
        if same:
            kept.right += 1
        else:
            kept.wrong += 1
        if audited:
            self._audits += 1
            self._audits_wrong += not same
        self._promise.judged(verdict.risk, wrong=not same)
        # Where the contexts differ too, what they made wrong is laid to the questions: that is the careful side.
        self._belief.learn(verdict.features, right=same)

    def feedback(self, kept: Kept) -> None:
        """Take in that a hit was wrong: its predicted risk is not known any more, and is taken for the threshold's."""
        kept.wrong += 1
        self._feedback += 1
        self._promise.judged(self._promise.threshold, wrong=True)

    def report(self) -> dict[str, float]:
        """Say how it stands."""
        low, high = interval(self._audits_wrong, self._audits)
        return {
            "max_error": self._promise.max_error,
            "requests": self._promise.requests,
            "served": self._promise.served,
            "threshold_risk": self._promise.threshold,
            "times_predicted": self._promise.calibration.times,
            "drifts": self._promise.calibration.drifts,
            "expected_error": self._promise.expected(),
            "verdicts": self._belief.verdicts,
            "audits": self._audits,
            "audits_wrong": self._audits_wrong,
            "audits_wrong_low": low,
            "audits_wrong_high": high,
            "feedback": self._feedback,
        }

    def save(self) -> bytes:
        """Give what it has learned, as JSON."""
        state = _Saved(
            self._prior.name,
            self._belief.save(),
            self._promise.save(),
            self._audits,
            self._audits_wrong,
            self._feedback,
        )
        return msgspec.json.encode(state)

    def restore(self, saved: bytes) -> None:
        """Go on from what was saved. Raises ValueError: it is damaged, or of another version or embedder."""
        try:
            state = msgspec.json.decode(saved, type=_Saved)
        except msgspec.MsgspecError as error:
            raise ValueError(f"What was learned cannot be read: {error}.") from error
        if state.prior != self._prior.name:
            raise ValueError(f"What was learned began at the prior {state.prior!r}, and this is {self._prior.name!r}.")
        belief, held = Belief(self._prior), Promise(self._promise.max_error, self._prior.typical)
        belief.restore(state.belief)
        held.restore(state.promise)
        self._belief, self._promise = belief, held
        self._audits, self._audits_wrong, self._feedback = state.audits, state.audits_wrong, state.feedback


def interval(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Give the interval of a share that was counted, at 95 % (Wilson 1927); (0, 1) where nothing was."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
