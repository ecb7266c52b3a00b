"""What a decider sees and says: the nouns between the semantic tier and whoever decides.

Not here: finding the neighbours (`index.py`), deciding (`static.py`, `vcache.py`, `verified.py`).
Invariant: a decider never sees an answer, a tenant or a vector, only texts, cosines and verdicts; so what it has
learned holds nothing that one tenant could read of another.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Protocol

from msgspec import Meta, Struct

_Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Kept(Struct, kw_only=True, gc=False):
    """One kept question, as a decider sees it. The numbers are the decider's own, and are saved with the question."""

    text: str
    """The question: what was embedded."""
    context: str = ""
    """What the user said in the turns before, where it is not word by word what is compared with; what was replied to
    it is the same in all that is compared. "": there were no turns before."""
    group: _Whole
    """Kept questions whose answers were judged the same have the same number, within one partition."""
    group_size: int = 1
    """Questions of the group, when this look was made."""
    right: _Whole = 0
    """Verdicts "its answer would have been right" on other questions."""
    wrong: _Whole = 0
    residual: float = 0.0
    """Of the verdict at which this question itself was kept: what came minus what had been expected, in [-1, 1]."""
    seen: tuple[tuple[float, bool], ...] = ()
    """For `vcache`, which learns of each question by itself: cosine and verdict of those compared with it."""


class Near(NamedTuple):
    """A kept question near the one asked."""

    kept: Kept
    cosine: float
    """In [-1, 1]."""
    context_cosine: float = 1.0
    """Of the contexts, where they differ."""
    barred: str = ""
    """Why its answer is not for whoever asks (`admission.py`): then it is not served, whatever else speaks for it."""


class Look(NamedTuple):
    """A question, and what is near it, nearest first; at most `NEIGHBOURS`."""

    text: str
    near: Sequence[Near]
    context: str = ""
    """As in `Kept`."""
    max_error: float | None = None
    """The promise that this request asks for, if it is less than what the decider keeps; 0: no likeness at all."""


NEIGHBOURS = 8
"""How many are looked at: with 8 the share of one group among them is a usable number, and a ninth changed nothing."""


NOTHING = 2.0
"""The risk of a request with nothing to serve."""


class Verdict(NamedTuple):
    """What a decider says of a look."""

    serve: bool
    chosen: int
    """Which of `look.near` is meant; -1: none (nothing is near)."""
    p_correct: float | None
    """That its answer is right; None where the decider does not estimate it."""
    audit: float
    """Probability with which a served hit should also be asked upstream, in [0, 1]."""
    why: str
    """In a few words for `x-trivet-cache`, near misses and `explain`: "cosine", "number differs", "promise"."""
    risk: float = NOTHING
    """As it was predicted, before it was put right: the decider's own, given back to `learn`."""
    features: Sequence[float] = ()
    """What it was decided on; given back to `learn`, so that nothing is worked out twice."""


class Decider(Protocol):
    """Says whether a kept answer may be served, and learns. One for each policy; called by one thread at a time."""

    name: str
    keeps_same: bool
    """Whether a question is kept too whose answer is judged the same as that of the one it was compared with."""
    in_context: bool
    """Whether what a user said in the turns before is compared by its meaning (`Look.context`); else only questions
    after the same words are."""

    least: float
    """Cosine below which nothing is served: of such a neighbour nobody needs to know whether it is barred."""

    def decide(self, look: Look) -> Verdict:
        """Say what to do. Every request that came as far as the semantic tier is put before it exactly once."""
        ...

    def passed(self) -> None:
        """Note a request that was answered without a look (an exact hit): a promise is over all requests."""
        ...

    def learn(self, look: Look, verdict: Verdict, *, same: bool, audited: bool) -> None:
        """Take in a verdict: whether the answer of `look.near[verdict.chosen]` is right for `look.text`.

        Args:
            audited: the hit was served and asked upstream besides. False: the model was called anyway.
        """
        ...

    def feedback(self, kept: Kept) -> None:
        """Take in that a hit on this question was wrong, as a user says; the look is no longer at hand."""
        ...

    def report(self) -> dict[str, float]:
        """Say how it stands, for `/metrics` and `trivet cache stats`: measured error, its interval, threshold,
        counts."""
        ...

    def save(self) -> bytes:
        """Give what it has learned, as JSON."""
        ...

    def restore(self, saved: bytes) -> None:
        """Go on from what was saved. Raises ValueError: it is of another version or embedder, or is damaged."""
        ...
