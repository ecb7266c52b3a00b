"""Which of the near answers are for whoever asks: what no decider may serve to them, however likely it looks.

A kept answer is later given to others of its tenant, so whoever asks writes what others read. Barred are answers whose
question looks planted (`planted.py`), answers that serve questions which have nothing in common (a text made to be near
to everything), and answers that send people somewhere nobody else was sent.

Not here: how likely an answer is right (a decider), how much of the shelf one asker may fill (`shares.py`).
What is barred is served as an exact repeat all the same, and goes on being compared with fresh answers.
Invariants: nothing here makes an answer more likely to be served; all that is remembered is bounded, and forgetting it
bars more, or what a restart bars: hubs are found anew.
"""

from collections import Counter, OrderedDict, deque
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trivet.cache.key import Question
from trivet.cache.semantic.planted import ASKS_MORE, STEERS, planted
from trivet.cache.semantic.shelf import Answer
from trivet.types import Request
from trivet.wire.alike import leads, plainly, said_in_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HUB, ELSEWHERE = "serves unlike questions", "leads elsewhere"

REASONS = (STEERS, ASKS_MORE, HUB, ELSEWHERE)
"""Why an answer is barred, as `near` in an Entry has it."""

ENOUGH, UNLIKE = 5, 0.45
"""Questions that an answer is served to, and the mean cosine among them below which they have nothing in common. Of
kept public questions with five hits or more none was below 0.54 (bench/poison.py). What is near to two questions by a
cosine of c has them at 2c² - 1 or more of each other, so there are no hubs at all but where c is low."""

ANEW = 64
"""Questions after which counting begins anew, so that what was served long ago does not hide what is now."""

MAX_FOLLOWED = 1024
"""Answers whose hits are followed: 1.5 kB each. The ones served longest ago are forgotten."""

MAX_PLACES = 10_000
"""Places that are known of all tenants; of one that is forgotten nobody is told until two are sent there again."""

MAX_LEADS, _ANYWHERE = 32, "*"
"""Places in one answer; with more of them it counts as one that nobody knows."""

HITS = 1000
"""On another's question, of which the widest share is told."""

_SEVERAL = -1


class _Reach(NamedTuple):
    """The questions that an answer was served to."""

    questions: int
    total: "NDArray[np.float32]"
    """Of their vectors."""


def asker(request: Request) -> int:
    """Say who asks, as far as one asker can be told from another: by tenant, key and customer. In [0, 2^63)."""
    who = msgspec.json.encode((request.tenant, request.key_id, request.labels.customer))
    return int.from_bytes(blake2b(who, digest_size=8).digest(), "big") >> 1


def leads_of(body: bytes, request: Request) -> tuple[str, ...]:
    """Give the places that an answer sends people to, but for those that the tenant's own program named before, in a
    system prompt, a reply or a tool's result. In order; at most `MAX_LEADS`. Args: body: one whole `chat.completion`.
    """
    text = said_in_words(body)
    if text is None:
        return (_ANYWHERE,)
    found = leads(plainly(text))
    if found:
        found -= leads(plainly(_of_the_program(request)))
    return tuple(sorted(found)) if len(found) <= MAX_LEADS else (_ANYWHERE,)


def _of_the_program(request: Request) -> str:
    """Give what was said by others than the user, as JSON."""
    messages = msgspec.json.decode(request.fields["messages"])  # it was read before: this is an answer to a question
    return msgspec.json.encode([message for message in messages if message.get("role") != "user"]).decode()


class Admission:
    """What is known of the kept answers of all policies."""

    def __init__(self) -> None:
        self.barred: Counter[tuple[str, str]] = Counter()
        """Looks that would have gone on but for a reason, by policy and reason."""
        self._reach: OrderedDict[int, _Reach] = OrderedDict()
        self._hubs: OrderedDict[int, None] = OrderedDict()
        self._places: OrderedDict[tuple[str, str], int] = OrderedDict()
        """Of a tenant's places, the one asker who was sent there, or `_SEVERAL`."""
        self._won: dict[str, deque[int]] = {}
        """By policy: whose answers were served to others lately."""

    def bars(self, asked: Question, by: int, answer: Answer) -> str:
        """Name why an answer is not for whoever asks; "": nothing is known against it."""
        why = planted(asked.text, answer.kept.text) or (
            planted(asked.context, answer.kept.context) if answer.kept.context else ""
        )
        if why:
            return why
        if answer.number in self._hubs:
            return HUB
        if answer.leads and by != answer.asker and self._unheard(asked, answer):
            return ELSEWHERE
        return ""

    def kept(self, answer: Answer) -> None:
        """Note an answer that is kept, or was read from the disk: where it sends whoever asked."""
        if not answer.leads:
            return
        for place in set(answer.leads) - {_ANYWHERE} - _named(answer.kept.text, answer.kept.context):
            known = self._places.get((answer.tenant, place), answer.asker)
            self._places[answer.tenant, place] = known if known == answer.asker else _SEVERAL
            self._places.move_to_end((answer.tenant, place))
            if len(self._places) > MAX_PLACES:
                self._places.popitem(last=False)

    def served(self, answer: Answer, by: int, vector: "NDArray[np.float32]") -> None:
        """Note that a question gets an answer. Args: vector: of its text; float32 [width], of unit length."""
        if by != answer.asker:
            self._won.setdefault(answer.policy, deque(maxlen=HITS)).append(answer.asker)
        before = self._reach.pop(answer.number, None)
        if before is None or before.questions >= ANEW or len(before.total) != len(vector):
            now = _Reach(1, vector.copy())
        else:
            now = _Reach(before.questions + 1, before.total + vector)
        self._reach[answer.number] = now
        if len(self._reach) > MAX_FOLLOWED:
            self._reach.popitem(last=False)
        if now.questions >= ENOUGH and _alike(now) < UNLIKE:
            self._hubs[answer.number] = None
            if len(self._hubs) > MAX_FOLLOWED:
                self._hubs.popitem(last=False)

    def report(self, policy: str) -> dict[str, float]:
        """Say how it stands: hits on another's question, and the share of them that one asker's answers had."""
        won = self._won.get(policy, ())
        widest = max(Counter(won).values(), default=0)
        return {"hits_of_others": len(won), "widest_asker": widest / len(won) if won else 0.0}

    def _unheard(self, asked: Question, answer: Answer) -> bool:
        """Say whether an answer sends people where neither they nor a second asker of the tenant was sent, or said."""
        some = [place for place in answer.leads if self._places.get((answer.tenant, place)) != _SEVERAL]
        return bool(some) and not set(some) <= _named(asked.text, asked.context)


def _named(text: str, context: str) -> set[str]:
    return leads(plainly(f"{text}\n{context}"))


def _alike(reach: _Reach) -> float:
    """Give the mean cosine between two of the questions."""
    n = reach.questions
    return (float(reach.total @ reach.total) - n) / (n * (n - 1))
