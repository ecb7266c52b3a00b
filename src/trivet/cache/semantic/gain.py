"""Whether looking for likeness pays, for each tenant and namespace of a policy; where it does not, it is left alone.

Not here: looking (`tier.py`). A look costs time, which a miss pays too, and the work of embedding and deciding; audits
and judges cost money. A hit saves what its answer is worth, and the time that the model takes. Over about the last
`LOOKS` looks the two are held against each other; where they lose in money and in time, likeness is off but for one
look in `TRIED`, by which it comes back when it pays again. Exact repeats are served all the same.
Invariants: it is off only if both lose, and never before `LOOKS` looks; it is back after `BACK` looks, or
more, that pay.
"""

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from trivet.seams import Random
from trivet.types import Nanos

LOOKS = 1000
"""Of the past that counts, and at the least before it is off."""

TRIED = 20
"""Of so many looks one is made all the same while it is off: 5 % of the cost, and back within a thousand requests."""

BACK, BACK_HITS, BACK_TIMES = 50, 3, 2.0
"""Looks that are made while it is off, and hits among them, before it may be back; and how many times over they must
pay. At one look in fifty that happened to hit, it would come and go all the time."""

CORE_HOUR = Nanos(40_000_000)
"""Nano-dollars that an hour of one core costs: $0.04. General-purpose cloud machines rent at three to five cents for
each virtual core. A look is charged as if it kept one busy all the time that it takes, waiting included."""

MAX_SPACES = 10_000
"""Tenants and namespaces that are known at once; of more, those not asked lately begin anew."""

MAX_SAVED = 1000
"""Of those, as many are written to the disk: 300 bytes each."""

_HOUR_NS = 3_600_000_000_000


class Space(NamedTuple):
    """Where gains are counted."""

    tenant: str
    namespace: str


class Sums(msgspec.Struct):
    """What was spent and saved, each look a little less than the one after it."""

    looks: float = 0.0
    look_ns: float = 0.0
    hits: float = 0.0
    worth: float = 0.0
    """Nano-dollars that hits saved."""
    spent: float = 0.0
    """Nano-dollars for audits and judges."""
    answers: float = 0.0
    answer_ns: float = 0.0
    """That the model took for them."""


class Gain(msgspec.Struct):
    """Of one space."""

    sums: Sums = msgspec.field(default_factory=Sums)
    looks: int = 0
    """Since it was last switched."""
    off: str = ""
    """Why it is off; "": it is not."""

    def look(self, took_ns: int) -> None:
        """Count a look; what came before fades, and it is switched if that is due."""
        for name in Sums.__struct_fields__:
            setattr(self.sums, name, getattr(self.sums, name) * (1.0 - 1.0 / LOOKS))
        self.sums.looks += 1.0
        self.sums.look_ns += took_ns
        self.looks += 1
        if self.off:
            switched = self.looks >= BACK and self.sums.hits >= BACK_HITS and self.pays(BACK_TIMES)
        else:
            switched = self.looks >= LOOKS and not self.pays()
        if switched:
            self.off, self.looks = "" if self.off else self.why(), 0
            self.sums = Sums(answers=1.0, answer_ns=self.answer_ns())

    def hit(self, worth: int) -> None:
        """Count a hit, with what it saved in nano-dollars; 0: nobody knows."""
        self.sums.hits += 1.0
        self.sums.worth += worth

    def answered(self, took_ns: int, spent: int = 0) -> None:
        """Count an answer of the model, with the time that it took, and what was spent on it for an audit."""
        self.sums.answers += 1.0
        self.sums.answer_ns += took_ns
        self.sums.spent += spent

    def answer_ns(self) -> float:
        """Say how long the model takes."""
        return self.sums.answer_ns / self.sums.answers if self.sums.answers else 0.0

    def work(self) -> float:
        """Say what the looks cost, in nano-dollars."""
        return self.sums.look_ns * CORE_HOUR / _HOUR_NS

    def pays(self, times: float = 1.0) -> bool:
        """Say whether hits save so many times what looks cost, in money or in time."""
        sums = self.sums
        in_time = sums.hits * self.answer_ns() >= times * sums.look_ns
        # Of hits without a price nothing is known but that they took a model's time: then time decides alone.
        return in_time or sums.worth > times * (sums.spent + self.work())

    def why(self) -> str:
        """Say in words how it stands."""
        sums = self.sums
        return (
            f"of {sums.looks:,.0f} looks {sums.hits:,.0f} were hits: {sums.look_ns / 1e9:,.2f} s spent, "
            f"{sums.hits * self.answer_ns() / 1e9:,.2f} s saved; ${(sums.spent + self.work()) / 1e9:.6f} spent, "
            f"${sums.worth / 1e9:.6f} saved"
        )


class Gains:
    """Of all spaces of one policy."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._spaces: OrderedDict[Space, Gain] = OrderedDict()

    def __getitem__(self, space: Space) -> Gain:
        gain = self._spaces.get(space)
        if gain is None:
            gain = self._spaces[space] = Gain()
            if len(self._spaces) > MAX_SPACES:
                self._spaces.popitem(last=False)
        self._spaces.move_to_end(space)
        return gain

    def skips(self, space: Space) -> bool:
        """Say whether this look is left out."""
        return bool(self[space].off) and self._random.random() * TRIED >= 1.0

    def off(self) -> dict[Space, str]:
        """Give the spaces in which likeness is off, and why."""
        return {space: gain.off for space, gain in self._spaces.items() if gain.off}

    def __len__(self) -> int:
        return len(self._spaces)

    def save(self) -> list[tuple[Space, Gain]]:
        """Give what is to be kept: of those that were asked last."""
        return list(self._spaces.items())[-MAX_SAVED:]

    def restore(self, kept: list[tuple[Space, Gain]]) -> None:
        """Go on from there."""
        self._spaces = OrderedDict(kept)
