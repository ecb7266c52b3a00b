"""The router `cascade`: cheap targets answer first, and the large one where their answers do not settle it.

An answer is good enough if it is well-formed (`formed.py`) and as many cheap targets as the policy says have said the
same. It is the first of those in the order of the pool that is served. Where too few can agree the large target is
asked, and its answer relayed; where that one fails, the best of what there is, is served.

Not here: who can answer at all (`rules.py`), asking and paying (`weighing.py`), which answers say the same
(`agreement.py`), how likely one is right (`live.py`).
Invariants: an answer that is not well-formed is served only where there is no other and the large target has none; no
more is asked than the pool; what two answers say is compared only where both are well-formed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trivet.config import Settings, embedder_kind
from trivet.routing.cascade.agreement import Agreement
from trivet.routing.cascade.drift import Drift
from trivet.routing.cascade.floors import Floors
from trivet.routing.cascade.formed import flaw
from trivet.routing.triangle.router import words_of
from trivet.seams import Embedder, Heard, Kit, Known, Router, Step
from trivet.types import Candidate, CascadePolicy, Policy, Request
from trivet.wire.alike import text_in
from trivet.wire.canonical import canonical

if TYPE_CHECKING:  # numpy, and what needs it, is loaded where a policy is routed by it
    from trivet.routing.cascade.live import Live

ENDS = ("agreed", "large", "unasked", "large failed", "lost")
"""How a request ends: with an answer of a cheap target; with one of the large; of the large, as nobody else was asked;
with what there was, as the large failed; without any."""


NONE = -1
"""The code of an answer that is none, as `signals.py` has it."""


PROBE = 10
"""While answers agree otherwise than before, one request in so many is put to the cheap ones too, to see."""

AGREES = "agrees"

UNLIKE = "answers agree otherwise than before"


class _Sides(NamedTuple):
    """Who is asked first, and who at last."""

    cheap: tuple[str, ...]
    large: str


class CascadeRouter:
    """Routes by what comes back."""

    def __init__(
        self, policies: Sequence[str], embedder: Embedder | None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """`embedder`: for answers in prose; None: they are compared word by word. `tell`: the operator."""
        self._embedder, self._tell = embedder, tell
        self._agreement = Agreement(embedder)
        self._counts = {name: Counter(dict.fromkeys(ENDS, 0)) for name in policies}
        self._drifts = {name: Drift() for name in policies}
        self._digests: dict[str, str] = {}
        self._turns: Counter[str] = Counter()
        self._floors: dict[str, Floors] = {}
        """Of the policies that hold a quality."""

    async def compile(self, policies: Sequence[Policy], known: Known) -> None:
        """Find the rules of those that hold a quality. Raises ConfigError: nothing can be promised."""
        made: dict[str, Floors] = {}
        for policy in policies:
            if policy.aim is not None and policy.cascade is not None:
                rule = Floors(policy, policy.aim, policy.cascade, known)
                made[policy.name] = rule
                self._tell((await rule.live(None)).summary(policy.name))
        self._floors = made
        self._digests = {p.name: p.digest + (made[p.name].digest if p.name in made else "") for p in policies}

    def digest(self, policy: str) -> str:
        """Give the digest of the router file; "": there is none."""
        found = self._floors.get(policy)
        return found.digest if found else ""

    def explain(self, request: Request, policy: Policy) -> Mapping[str, Any]:
        """Say who is asked first, and what is expected of it."""
        how, rule = policy.cascade, self._floors.get(policy.name)
        assert how is not None
        told = {"cheap": list(how.cheap), "large": how.large, "agree": how.agree, "within_ms": how.within_ms}
        return told if rule is None else {**told, **rule.told(words_of(request))}

    async def start(self) -> None:
        """Have the embedder loaded."""
        if self._embedder is not None:
            await self._embedder.start()

    async def aclose(self) -> None:
        """Give the embedder back."""
        if self._embedder is not None:
            await self._embedder.aclose()

    async def rank(self, request: Request, policy: Policy) -> tuple[Candidate, ...]:
        """Order the pool: the cheap targets, whose answers are to be weighed, and the large one; or that one first."""
        how = policy.cascade
        if how is None:  # no policy of ours
            return _ranked(policy.pool, weighed=(), why="")
        cheap, large = _sides(policy, how)
        why = _unweighed(request, how, cheap)
        floors = self._floors.get(policy.known_as or policy.name)
        if floors is not None and not why:
            live = await floors.of(request)
            same = (*live.names[:-1], live.names[-1]) == (*cheap, large)
            why = live.at_once(words_of(request)) if same else "not all of the pool can answer"
            why = why or self._careful(policy)
            cheap = live.order if same else cheap
        if why:
            self._count(policy, "unasked")
            return _ranked((large, *cheap), weighed=(), why=why)
        return _ranked((*cheap, large), weighed=cheap, why="")

    async def weigh(
        self, request: Request, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str], *, last: bool
    ) -> Step:
        """Say what is next."""
        step = await self._weighed(request, policy, heard, waiting, last=last)
        if step.take is None and not step.relay:
            return step
        return self._watched(step, policy, heard)

    def _careful(self, policy: Policy) -> str:
        """Say why the cheap ones are not asked although they could be; "": they are, as one in `PROBE` is, to see."""
        drift = self._drifts.get(policy.known_as or policy.name)
        if drift is None or not drift.off:
            return ""
        self._turns[policy.name] += 1
        return UNLIKE if self._turns[policy.name] % PROBE else ""

    def _watched(self, step: Step, policy: Policy, heard: Sequence[Heard]) -> Step:
        """Note whether cheap answers agree, and be careful where they do so more or less often than they did."""
        drift, how = self._drifts.get(policy.known_as or policy.name), policy.cascade
        assert how is not None
        large = _sides(policy, how).large
        if drift is None or not heard or any(one.body is None or one.target == large for one in heard):
            return step  # what fails or is late says nothing of what models know
        alone = len(how.cheap) * how.samples == 1  # then it is whether its answer is enough
        if (alone or len(heard) > 1) and drift.note(yes=step.take is not None if alone else AGREES in step.found):
            self._tell(_told(policy, drift))
        if drift.off and policy.aim is not None and step.take is not None:
            return Step(relay=large, why=UNLIKE, found=step.found)
        return step

    async def _weighed(
        self, request: Request, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str], *, last: bool
    ) -> Step:
        how = policy.cascade
        assert how is not None
        cheap, large = _sides(policy, how)
        flaws = [one.why if one.body is None else flaw(request, one.body, sure=how.sure) for one in heard]
        good = [i for i in sorted(range(len(heard)), key=lambda i: _place(heard[i], cheap)) if not flaws[i]]
        alike = await self._agreement.sides([heard[i].body or b"" for i in good], compare=how.compare)
        sides = [[good[j] for j in side] for side in alike]
        floors = self._floors.get(policy.known_as or policy.name)
        if floors is not None:
            live = await floors.of(request)
            return self._by_rule(live, words_of(request), policy, heard, waiting, flaws, sides, last=last)
        most = max(sides, key=len, default=[])
        found = _found(flaws, most, sides)
        if len(most) >= how.agree:
            self._count(policy, "agreed")
            why = f"{len(most)} of {len(heard)} agree" if how.agree > 1 else "well-formed"
            return Step(take=most[0], why=why, found=found)
        if any(one.target == large for one in heard):  # it has failed: its answer is relayed where there is one
            return self._left(policy, heard, most, flaws, found)
        more = () if last else _more(cheap, heard, waiting, times=_times(request, how))
        if len(most) + len(waiting) + len(more) >= how.agree:
            if waiting and (how.together or len(most) + len(waiting) >= how.agree):
                return Step()
            if more:
                return Step(ask=more if how.together else more[: max(1, how.agree - len(most) - len(waiting))])
        self._count(policy, "large")
        return Step(relay=large, why=_said(heard, flaws, sides, last=last), found=found)

    def _by_rule(
        self, live: "Live", text: str, policy: Policy, heard: Sequence[Heard], waiting: Sequence[str],
        flaws: list[str], sides: list[list[int]], *, last: bool,
    ) -> Step:  # fmt: skip
        """Say what is next by a rule that was learned."""
        codes = {one.target: NONE for one in heard}
        codes |= {heard[i].target: code for code, side in enumerate(sides) for i in side}
        tokens = {one.target: one.usage.output_tokens for one in heard if one.usage is not None}
        ends = [canonical(text_in(heard[side[0]].body or b"") or "") for side in sides[:1]]
        judged = live.judge(text, codes, tokens, luck=live.luck.told(ends[0] if ends else None))
        large = live.names[-1]
        most = next((side for side in sides if heard[side[0]].target == live.names[judged.best]), [])
        served = next((i for i, one in enumerate(heard) if one.target == live.names[judged.best]), -1)
        found = _found(flaws, most, sides)
        if any(one.target == large for one in heard):
            return self._left(policy, heard, [served] if most else [], flaws, found)
        asked = {one.target for one in heard} | set(waiting)
        more = () if last else tuple(name for name in live.order if name not in asked)
        together = policy.cascade is not None and policy.cascade.together
        if not heard and not waiting:
            return Step(ask=live.order if together else live.order[:1])
        if most and judged.enough and not (waiting and together):
            self._note(live, heard, flaws)
            self._count(policy, "agreed")
            return Step(take=served, why=f"{judged.right:.2f} likely, of {len(heard)}", found=found)
        if waiting:
            return Step()
        if more:
            return Step(ask=more[:1])
        self._note(live, heard, flaws)
        self._count(policy, "large")
        why = _said(heard, flaws, sides, last=last) if judged.right == 0.0 else f"{judged.right:.2f} likely"
        return Step(relay=large, why=why, found=found)

    @staticmethod
    def _note(live: "Live", heard: Sequence[Heard], flaws: Sequence[str]) -> None:
        """Remember how long answers were, and what the first said, once for each request."""
        said = next((canonical(text_in(one.body) or "") for one in heard if one.body is not None), None)
        if said is not None:
            live.luck.note(said)
        for one, why in zip(heard, flaws, strict=True):
            if not why and one.usage is not None and one.usage.output_tokens > 0 and one.target in live.lengths:
                live.lengths[one.target].note(one.usage.output_tokens)

    def weighed(self) -> Mapping[str, Mapping[str, int]]:
        """Say how requests ended."""
        return self._counts

    def drifted(self) -> Mapping[str, bool]:
        """Say where answers agree otherwise than before."""
        return {name: drift.off for name, drift in self._drifts.items()}

    def follow(self, before: Router) -> None:
        """Go on counting."""
        if isinstance(before, CascadeRouter):
            self._counts |= {n: counts for n, counts in before._counts.items() if n in self._counts}  # noqa: SLF001
            # Other targets, or another rule, agree as they will: that is no drift.
            same = [n for n in self._drifts if self._digests.get(n) == before._digests.get(n)]  # noqa: SLF001
            self._drifts |= {n: before._drifts[n] for n in same if n in before._drifts}  # noqa: SLF001

    def _left(
        self, policy: Policy, heard: Sequence[Heard], most: list[int], flaws: list[str], found: tuple[str, ...]
    ) -> Step:
        """Serve what there is, as the large target has no answer."""
        have = most or [i for i, one in enumerate(heard) if one.body is not None]
        self._count(policy, "large failed" if have else "lost")
        if not have:
            return Step(found=found)
        flawed = f", {flaws[have[0]]}" if flaws[have[0]] else ""
        return Step(take=have[0], why=f"the large target failed{flawed}", found=found)

    def _count(self, policy: Policy, end: str) -> None:
        counts = self._counts.get(policy.known_as or policy.name)
        if counts is not None:
            counts[end] += 1


def _told(policy: Policy, drift: Drift) -> str:
    """Say to the operator what was noticed, or that it is over."""
    name = policy.known_as or policy.name
    if not drift.off:
        return f"Policy {name!r}: cheap answers agree as often as before again."
    words = f"Policy {name!r}: cheap answers agree on another share of the requests than before"
    held = f" All go to the large one meanwhile, and one in {PROBE} to both." if policy.aim is not None else ""
    return f"{words} ({drift.lately()}). A model was changed, or the traffic was: see the entries.{held}"


def _sides(policy: Policy, how: CascadePolicy) -> _Sides:
    """Say who of those that are left of the pool is cheap; where the large one is not, the last is."""
    large = how.large if how.large in policy.pool else policy.pool[-1]
    cheap = tuple(name for name in how.cheap if name in policy.pool and name != large)
    return _Sides(cheap, large)


def _unweighed(request: Request, how: CascadePolicy, cheap: Sequence[str]) -> str:
    """Say why a request's answers are not weighed; "": they are."""
    if request.kind != "chat" or request.n != 1:
        return "not one answer of a conversation"
    if len(cheap) * _times(request, how) < how.agree:
        return "too few cheap targets" if how.samples == 1 else "the same answer again at temperature 0"
    if request.stream and how.streams == "start":
        return "streams start at once"
    return ""


def _times(request: Request, how: CascadePolicy) -> int:
    """Say how often a target can be asked to give other answers: once where its temperature, or its seed, is fixed."""
    return how.samples if request.temperature != 0 and "seed" not in request.fields else 1


def _more(cheap: Sequence[str], heard: Sequence[Heard], waiting: Sequence[str], *, times: int) -> tuple[str, ...]:
    """Give who may still be asked, each so often, in turn; who has failed is not asked again."""
    asked = Counter([*(one.target for one in heard), *waiting])
    failed = {one.target for one in heard if one.body is None}
    return tuple(name for turn in range(times) for name in cheap if name not in failed and asked[name] <= turn)


def _place(one: Heard, cheap: Sequence[str]) -> int:
    return cheap.index(one.target) if one.target in cheap else len(cheap)


def _found(flaws: Sequence[str], most: Sequence[int], sides: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Say of each answer what was found."""
    told = []
    for i, why in enumerate(flaws):
        mine = next((side for side in sides if i in side), ())
        said = AGREES if len(mine) > 1 and i in most else "differs" if len(sides) > 1 else "well-formed"
        told.append(why or said)
    return tuple(told)


def _said(heard: Sequence[Heard], flaws: Sequence[str], sides: Sequence[Sequence[int]], *, last: bool) -> str:
    """Say why the large target is asked."""
    wrong = [f"{one.target}: {why}" for one, why in zip(heard, flaws, strict=True) if why]
    if wrong:
        return "; ".join(wrong)[:200]
    return "too late" if last and len(sides) < 2 else "no two agree" if len(sides) > 1 else "no agreement"


def _ranked(order: Sequence[str], *, weighed: Sequence[str], why: str) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            target=name,
            score=float(len(order) - i),
            probability=0.0 if i else 1.0,
            why=why,
            weighed=name in weighed,
        )
        for i, name in enumerate(order)
    )


def build(settings: Settings, kit: Kit) -> CascadeRouter:  # the seam's shape
    """Build the router for the policies that name it."""
    policies = {name: policy for name, policy in settings.policies.items() if policy.route == "cascade"}
    wants = any(policy.cascade is None or policy.cascade.compare == "likeness" for policy in policies.values())
    kind = embedder_kind(settings.embedder)
    # A target that makes embeddings would be asked, and paid, for each comparison: the one of this process will do.
    embedder = kit.embedder("builtin" if kind == "target" else kind) if policies and wants else None
    return CascadeRouter(tuple(policies), embedder, kit.tell)
