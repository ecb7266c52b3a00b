"""The cache behind its seam, all tiers: exact first, then likeness, where the policy asks for it.

Not here: what is near (`shelf.py`), whether it may be served (a decider), what is on the disk (`file.py`).
Invariants: only questions of one scope (`cache/key.py`) are compared, so no tenant, model, system prompt or reply
meets another's; whatever fails here (the embedder, the disk, a judge) is a miss and a count of `troubles`, never an
error of the request; an answer is found as soon as it is kept, and by nothing once it is taken off.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from trivet.cache.exact import Exact
from trivet.cache.key import Fingerprint, Question, fingerprint, question
from trivet.cache.semantic import watch
from trivet.cache.semantic.admission import REASONS, Admission, asker, leads_of
from trivet.cache.semantic.behind import BATCH, Behind
from trivet.cache.semantic.deciders import decider
from trivet.cache.semantic.file import File, Loaded, Row
from trivet.cache.semantic.gain import Space
from trivet.cache.semantic.graphs import Drawn
from trivet.cache.semantic.jury import Jury
from trivet.cache.semantic.look import NEIGHBOURS, Decider, Kept, Look, Near, Verdict
from trivet.cache.semantic.meaning import EMBED_WITHIN_S, Meant, Troubles, text_of, vector_of, vectors_of
from trivet.cache.semantic.shelf import Answer, Shelf
from trivet.cache.semantic.shelf import Found as AnswerNear
from trivet.cache.semantic.watch import Watch
from trivet.config import JUDGES, CacheSettings
from trivet.errors import UpstreamError
from trivet.seams import Account, CacheState, Charging, Clock, Doubt, Embedder, Found, Kit, Random
from trivet.seams import Kept as Forgotten
from trivet.types import CachePolicy, Entry, Hit, Nanos, NearMiss, Policy, Request
from trivet.wire import alike
from trivet.wire.alike import Prose
from trivet.wire.chat import read_piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LEARNING = 64
"""Fresh answers that are being compared at once; past that they are kept without a verdict, and counted."""

MAX_DARK = 10_000
"""Answers whose vectors wait until looking pays; older ones are found by exact repeats alone."""

MAX_SERVED = 100_000
"""Hits that can still be said to be wrong: each costs 200 bytes."""

TAKEN_OFF_AT_ONCE = 100
"""Answers: 2 ms, and then others have their turn."""

PATIENT_S = 600.0
"""For vectors that nobody waits for, of an embedder that keeps its own time."""

SETTLE_EVERY_S = 0.003
"""A millisecond's work of taking a graph: at a hundred thousand questions half a second in all."""

SAVE_EVERY_S = 10.0
"""What a decider has learned: some kilobytes. A kill loses that much learning and no answer."""

OFF = "off: looks cost more than hits save"
"""Why nothing was near, in an Entry."""

TOLD = 3
"""Near misses that an Entry has."""


class _Ticket(NamedTuple):
    """What a look found out, for keeping the answer."""

    digest: bytes
    asked: Question | None
    vector: "NDArray[np.float32] | None"
    look: Look
    near: tuple[Answer, ...]
    verdict: Verdict | None
    chance: float = 1.0
    """That this audit had; 1: the answer is compared in any case."""
    skipped: bool = False
    """Nothing was looked for: there it does not pay."""


class _Lesson(NamedTuple):
    """What a model's verdict is about."""

    policy: Policy
    answer: Answer
    ticket: _Ticket
    asked: int
    space: Space


class Served(NamedTuple):
    """A hit that was given out."""

    tenant: str
    number: int


Make = Callable[[CachePolicy, Embedder], Decider]
"""Makes the decider of a policy, by its rules."""


class Tiers:
    """One cache for all policies."""

    def __init__(
        self,
        exact: Exact,
        shelf: Shelf,
        *,
        embedder: Callable[[], Embedder],
        make: Make,
        clock: Clock,
        random: Random,
        tell: Callable[[str], None],
        file: File | None = None,
        patience_s: float = EMBED_WITHIN_S,
    ) -> None:
        """`embedder` lends the embedder; it is called when a policy needs one."""
        self._patience_s = patience_s
        self._troubles = Troubles(tell)
        self._jury = Jury(random, tell)
        self._admission = Admission()
        self._exact, self._shelf, self._file = exact, shelf, file
        shelf.gone = self.dropped
        if file is not None:
            shelf.crowded = file.crowd
        self._lend, self._make = embedder, make
        self._clock, self._random, self._tell = clock, random, tell
        self._embedder: Embedder | None = None
        self._charging: Charging | None = None
        """The same, where it asks on somebody's account."""
        self._opened = self._known = False
        """The file; and the embedder's digest, and with it which of its vectors are of use."""
        lock = None if file is None else file.path.with_suffix(".behind")
        self._behind = Behind(self, lock=lock, clock=clock, tell=tell)
        """Answers without a vector that are to have one."""
        self._deciders: dict[str, tuple[CachePolicy, Decider]] = {}
        self._watches: dict[str, Watch] = {}
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._learning: set[asyncio.Task[None]] = set()
        self._dark: deque[int] = deque(maxlen=MAX_DARK)
        """Answers that were kept where looking did not pay, or of policies that do not look."""

    async def start(self, policies: Iterable[Policy]) -> None:
        """Have the embedder and the file opened where a policy will need them, so that no request waits for that."""
        for policy in policies:
            if policy.cache is not None and policy.cache.mode != "exact":
                await self._ready(policy)

    async def find(self, request: Request, policy: Policy) -> Found:
        """Look for a kept answer: to this request, or to a question like it."""
        assert policy.cache is not None
        if policy.cache.mode == "exact":
            return await self._exact.find(request, policy)
        made = fingerprint(request, policy)
        if made is None:
            return Found()
        if not made.plain():
            return self._exact.look(made, policy)
        try:
            return await self._likely(request, policy, made)
        except Exception as error:  # noqa: BLE001  # whatever it is, the model can still be asked
            self._troubles.count("defect", f"{type(error).__name__}: {error}")
            return Found()

    async def _likely(self, request: Request, policy: Policy, made: Fingerprint) -> Found:
        assert policy.cache is not None
        embedder, decider = await self._ready(policy)
        now_ns = self._clock.now_ns()
        known = self._shelf.by_digest(made.digest, now_ns=now_ns)
        watched, space = self._watches[policy.name], Space(request.tenant, request.controls.namespace)
        if known is not None:
            decider.passed()
            watched.alarm.asked(served=False)
            return Found(self._hit(known, request, "exact", now_ns))
        began_ns = self._clock.mono_ns()
        skips = watched.skips(space)
        if skips:
            asked, vector = question(request, policy, made.body, in_context=decider.in_context), None
        else:
            asked, vector = await self._meant(request, policy, made.body, decider)
        if asked is None:
            return self._exact.look(made, policy)
        ticket = _Ticket(made.digest, asked, vector, Look(asked.text, (), asked.context), (), None, skipped=skips)
        if vector is None:
            decider.passed()
            watched.alarm.asked(served=False)
            if not (skips or embedder.ready()):
                self._looked(policy, space, began_ns)
            return Found(None, (NearMiss(entry_id="", kind="semantic", why=OFF),) if skips else (), ticket)
        found = self._shelf.nearest(asked.scope, vector, NEIGHBOURS, now_ns=now_ns)
        by = asker(request)
        bars = self._admission.bars
        told = [
            Near(a.kept, cosine, in_context, bars(asked, by, a) if cosine >= decider.least else "")
            for a, cosine, in_context in found
        ]
        look = Look(asked.text, told, asked.context, request.controls.max_error)
        verdict = decider.decide(look)
        near = tuple(one.answer for one in found)
        ticket = ticket._replace(look=look, near=near, verdict=verdict)
        self._looked(policy, space, began_ns)
        watched.alarm.asked(served=verdict.serve)
        shadow = policy.cache.mode == "shadow"
        if verdict.serve:
            self._admission.served(found[verdict.chosen].answer, by, text_of(vector, asked))
        elif verdict.why in REASONS:
            self._admission.barred[policy.name, verdict.why] += 1
        if not verdict.serve or shadow:
            return Found(None, _missed(found, verdict, shadow=shadow), ticket, embedder.digest)
        chosen = found[verdict.chosen]
        hit = self._hit(chosen.answer, request, "semantic", now_ns)
        watched.gains[space].hit(chosen.answer.worth)
        audit = self._random.random() < verdict.audit
        hit = msgspec.structs.replace(hit, cosine=chosen.cosine, p_correct=verdict.p_correct, audit=audit)
        ticket = ticket._replace(chance=verdict.audit)
        return Found(hit, _missed(found, verdict, shadow=False), ticket if audit else None, embedder.digest)

    def _looked(self, policy: Policy, space: Space, began_ns: int) -> None:
        """Count a look; where likeness pays again, what was kept meanwhile gets its vectors."""
        gain = self._watches[policy.name].gains[space]
        was_off = gain.off
        gain.look(self._clock.mono_ns() - began_ns)
        if was_off and not gain.off:
            self._lighten(policy.name, space)

    def _lighten(self, policy: str, space: Space | None = None) -> None:
        """Have vectors made for what was kept while nobody looked."""
        dark = [(number, self._shelf.by_number(number)) for number in self._dark]
        self._dark.clear()
        for number, a in dark:
            if a is not None and a.policy == policy and space in (None, Space(a.tenant, a.namespace)):
                self._behind.add([number])
            elif a is not None:
                self._dark.append(number)

    def _hit(self, answer: Answer, request: Request, kind: Any, now_ns: int) -> Hit:
        self._shelf.used(answer)
        self._served[request.id] = Served(answer.tenant, answer.number)
        if len(self._served) > MAX_SERVED:
            self._served.popitem(last=False)
        return Hit(
            kind=kind,
            body=answer.body,
            usage=answer.usage or _told(answer.body),
            origin_id=answer.origin_id,
            target=answer.target,
            age_ms=(now_ns - answer.kept_ns) // 1_000_000,
        )

    async def _ready(self, policy: Policy) -> tuple[Embedder, Decider]:
        """Give the embedder and the policy's decider."""
        if self._embedder is None:
            self._embedder = embedder = self._lend()
            self._charging = embedder if isinstance(embedder, Charging) else None
            await embedder.start()
            self._behind.start()
        self.opened()
        assert policy.cache is not None
        rules, before = self._deciders.get(policy.name, (None, None))
        if before is not None and rules == policy.cache:
            return self._embedder, before
        decider = self._make(policy.cache, self._embedder)
        self._deciders[policy.name] = policy.cache, decider
        self._follow(policy.name, policy.cache)
        self._lighten(policy.name)
        if before is not None and before.name == decider.name:
            # Other rules, from a reload: what was learned goes on, also while requests still end by the old ones.
            self._go_on(policy.name, decider, before.save())
        elif self._file is not None:
            self._go_on(policy.name, decider, self._file.learned(policy.name, decider.name))
        return self._embedder, decider

    def opened(self) -> bool:
        """Read what is on the disk, and its vectors once it is known whose are to be read; tell whether that is."""
        embedder = self._embedder
        if embedder is None:
            return False
        if self._file is not None and not self._opened:
            self._file.open(embedder.digest, self)
        elif self._file is not None and embedder.digest and not self._known:
            self._file.know(embedder.digest)
            self._behind.read_again()
            for name, (_, decider) in self._deciders.items():  # there were before that; without vectors none learned
                self._go_on(name, decider, self._file.learned(name, decider.name))
                self._watch_on(name)
        self._opened, self._known = True, bool(embedder.digest)
        return self._known and not embedder.ready()

    def _go_on(self, policy: str, decider: Decider, saved: bytes | None) -> None:
        """Have a decider go on from what was learned before."""
        if saved:
            try:
                decider.restore(saved)
            except ValueError as error:
                self._tell(f"The cache of policy {policy!r} begins to learn anew: {error}")

    def _follow(self, name: str, rules: CachePolicy) -> None:
        """Have what comes of a policy's looks watched, by its rules of now."""
        if name in self._watches:
            self._watches[name].follow(rules)
            return
        self._watches[name] = Watch(name, rules, clock=self._clock, random=self._random, tell=self._tell)
        self._watch_on(name)

    def _watch_on(self, name: str) -> None:
        saved = None if self._file is None else self._file.learned(name, watch.NAME)
        if saved:
            self._watches[name].restore(saved)

    async def _meant(
        self, request: Request, policy: Policy, body: dict[str, Any], decider: Decider
    ) -> "tuple[Question | None, NDArray[np.float32] | None]":
        """Say what is asked, and its vector if it has one."""
        asked = question(request, policy, body, in_context=decider.in_context)
        if asked is None:
            return None, None
        vector, whole = await self._vector(asked, request, policy)
        if asked.context and not whole:
            # More was said before than an embedder reads: then it is to be the same word by word.
            asked = question(request, policy, body)
            assert asked is not None
            vector, _ = await self._vector(asked, request, policy)
        return asked, vector

    async def _vector(self, asked: Question, request: Request, policy: Policy) -> Meant:
        if not self._may_show(request.permit.targets):
            return Meant(None, whole=False)  # this key's questions are compared word by word
        account = Account(
            of=request.id,
            tenant=request.tenant,
            key_id=request.key_id,
            labels=request.labels,
            policy=policy.name,
            permit=request.permit,
        )
        meant = await self._embed(asked, account, Space(request.tenant, request.controls.namespace))
        if meant.vector is not None and self._behind:
            self._behind.wake()
        return meant

    async def _embed(self, asked: Question, account: Account, space: Space) -> Meant:
        patience_s = self._patience_s
        if self._charging is not None:  # which keeps its own time; ours is for one that does not
            patience_s = self._charging.patience_s + 1.0
        try:
            return await vector_of(asked, self._on(account), self._troubles, patience_s=patience_s)
        finally:
            self._spent(account, space)

    def _may_show(self, may_call: Collection[str]) -> bool:
        """Tell whether a key that may call these targets has its words shown to the one that makes vectors."""
        return self._charging is None or not may_call or self._charging.target in may_call

    def _on(self, account: Account) -> Embedder:
        """Give the embedder, for work on an account where it asks on one."""
        assert self._embedder is not None
        return self._embedder if self._charging is None else self._charging.on(account)

    def _spent(self, account: Account, space: Space) -> None:
        if account.cost_nanos and account.policy in self._watches:
            self._watches[account.policy].gains[space].sums.spent += account.cost_nanos

    # What is kept, and what it teaches.

    async def keep(
        self, request: Request, policy: Policy, entry: Entry, body: bytes, *, ticket: object
    ) -> Doubt | None:
        """Keep an answer; what it teaches is worked out in the background, or given back as a doubt."""
        assert policy.cache is not None
        if policy.cache.mode == "exact":
            await self._exact.keep(request, policy, entry, body, ticket=ticket)
            return None
        if not isinstance(ticket, _Ticket):
            made = fingerprint(request, policy)
            asked, vector = None, None
            if made is not None and made.plain():
                _, decider = await self._ready(policy)
                asked, vector = await self._meant(request, policy, made.body, decider)
            if made is None or asked is None:
                await self._exact.keep(request, policy, entry, body, ticket=ticket)
                return None
            ticket = _Ticket(made.digest, asked, vector, Look(asked.text, (), asked.context), (), None)
        if _refused(body):
            return None
        space = Space(request.tenant, request.controls.namespace)
        if policy.name in self._watches:
            spent = (entry.outcome.cost_nanos or 0) if request.audit_of else 0
            took_ns = sum(attempt.took_ns for attempt in entry.outcome.attempts)
            self._watches[policy.name].gains[space].answered(took_ns, spent)
        if len(self._learning) >= MAX_LEARNING:
            self._troubles.count("busy", f"{MAX_LEARNING} answers are being compared already")
            ticket = ticket._replace(verdict=None)
        try:
            answer = await self._put(request, policy, entry, body, ticket)
        except Exception as error:  # noqa: BLE001  # the client has waited long enough: it gets its answer's end
            self._troubles.count("defect", f"{type(error).__name__}: {error}")
            return None
        if answer is None or ticket.verdict is None:
            return None
        found = self._unsettled(policy, answer, ticket)
        if found is None:
            self._aside(self._learn(policy, answer, ticket))
            return None
        asks = self._jury.call(policy.name, _asked(ticket), found, always=ticket.verdict.serve)
        if not asks:
            self._aside(self._learn(policy, answer, ticket, judged=False))
            return None
        return Doubt(policy.cache.judge, asks, _Lesson(policy, answer, ticket, len(asks), space))

    def _unsettled(self, policy: Policy, answer: Answer, ticket: _Ticket) -> Prose | None:
        """Give the two answers that a model is to compare; None: no model is, or there is nothing to learn."""
        verdict = ticket.verdict
        assert policy.cache is not None
        if policy.cache.judge in JUDGES or verdict is None or verdict.chosen < 0 or verdict.p_correct is None:
            return None
        found = alike.settled(answer.body, ticket.near[verdict.chosen].body)
        return found if isinstance(found, Prose) else None

    def heard(self, doubt: Doubt, bodies: Sequence[bytes | None], cost_nanos: Nanos) -> None:
        """Hear what a model says of two answers; see the seam."""
        policy, answer, ticket, asked, space = cast("_Lesson", doubt.ticket)
        self._watches[policy.name].gains[space].sums.spent += cost_nanos
        same = self._jury.heard(policy.name, bodies, asked)
        self._aside(self._learn(policy, answer, ticket, same=same, judged=same is not None))

    async def _put(self, request: Request, policy: Policy, entry: Entry, body: bytes, ticket: _Ticket) -> Answer | None:
        assert policy.cache is not None
        assert ticket.asked is not None
        vector, whole = ticket.vector, True
        if vector is None and not ticket.skipped:
            vector, whole = await self._vector(ticket.asked, request, policy)
        tried = vector is not None or not whole
        now_ns = self._clock.now_ns()
        number = self._random.getrandbits(63)
        outcome = entry.outcome
        baseline = entry.baseline.cost_nanos if entry.baseline else None
        answer = Answer(
            number=number,
            scope=ticket.asked.scope,
            digest=ticket.digest,
            tenant=request.tenant,
            policy=policy.name,
            namespace=request.controls.namespace,
            kept=Kept(text=ticket.asked.text, context=ticket.asked.context, group=number),
            body=body,
            usage=None if _told(body) == outcome.usage else outcome.usage,
            origin_id=entry.id,
            target=outcome.target,
            kept_ns=now_ns,
            expires_ns=now_ns + int(policy.cache.ttl_s * 1e9),
            tags=request.controls.cache_tags,
            asker=asker(request),
            may_call=request.permit.targets,
            leads=leads_of(body, request),
            worth=baseline or outcome.cost_nanos or Nanos(0),
        )
        if not self._shelf.add(answer, vector):
            return None
        self._admission.kept(answer)
        if self._file is not None:
            self._file.put(Row.of(answer, vector, tried=tried))
        if ticket.skipped:
            self._dark.append(number)
        elif not tried:
            self._behind.add([number])
        return answer if vector is not None else None

    # Answers that have no vector of this embedder: what `behind.py` has done with them.

    def next(self, numbers: Iterable[int]) -> tuple[Sequence[Answer], Sequence[int]]:
        """Choose some; of one tenant and policy, where they are to pay for it."""
        some: list[Answer] = []
        without: list[int] = []
        for number in islice(numbers, 4 * BATCH):
            a = self._shelf.by_number(number)
            if a is None or a.width or not self._may_show(a.may_call):
                without.append(number)
            elif not self._looks(a):
                without.append(number)
                self._dark.append(number)
            elif self._charging is None or not some or (a.tenant, a.policy) == (some[0].tenant, some[0].policy):
                some.append(a)
            if len(some) >= BATCH:
                break
        return some, without

    def _looks(self, answer: Answer) -> bool:
        """Tell whether anybody may ever look for what is like it, and it pays."""
        watched = self._watches.get(answer.policy)
        return watched is not None and not watched.gains[Space(answer.tenant, answer.namespace)].off

    async def embed(self, answers: Sequence[Answer]) -> Sequence[Meant]:
        """Turn their questions into vectors, on their tenant's account; what that costs is no look's."""
        first = answers[0]
        account = Account(of="kept", tenant=first.tenant, policy=first.policy, patient=True)
        asked = [Question(a.scope, a.kept.text, a.kept.context) for a in answers]
        patience_s = self._patience_s * BATCH if self._charging is None else PATIENT_S
        try:
            return await vectors_of(asked, self._on(account), self._troubles, patience_s=patience_s)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
            self._troubles.count("defect", f"{type(error).__name__}: {error}")
            return [Meant(None)] * len(answers)

    def caught_up(self, answer: Answer, meant: Meant) -> None:
        """Have its question found by its likeness too."""
        if meant.vector is not None and not self._shelf.give(answer.number, meant.vector):
            return
        if self._file is not None and answer.number in self._shelf:
            self._file.move(Row.of(answer, meant.vector))

    async def _learn(
        self, policy: Policy, answer: Answer, ticket: _Ticket, *, same: bool | None = None, judged: bool = True
    ) -> None:
        """Compare a fresh answer with those of its neighbours: the decider learns, and like answers form a group.

        Args:
            same: what a model said of it and the chosen one, if one was asked.
            judged: False: a model should say, and does not this time; then the decider learns nothing.
        """
        verdict = ticket.verdict
        assert verdict is not None
        assert policy.cache is not None
        _, decider = await self._ready(policy)
        account = Account(of=answer.origin_id, tenant=answer.tenant, policy=answer.policy, patient=True)
        order = sorted(range(len(ticket.near)), key=lambda i: i != verdict.chosen)
        told: dict[int, bool] = {}
        for i in order:
            other = ticket.near[i]
            agreed = told.get(other.kept.group)
            if agreed is None:
                agreed = same if i == verdict.chosen else None
                if agreed is None:
                    agreed = await alike.same(answer.body, other.body, self._on(account), by=policy.cache.judge)
                if agreed is None:
                    continue
                told[other.kept.group] = agreed
            if i == verdict.chosen and judged:
                decider.learn(ticket.look, verdict, same=agreed, audited=verdict.serve)
                if verdict.serve:
                    self._watches[policy.name].audited(ticket.chance, same=agreed)
                if verdict.p_correct is not None:
                    answer.kept.residual = float(agreed) - verdict.p_correct
            if agreed and answer.number in self._shelf and other.number in self._shelf:
                self._shelf.regroup(answer, other.kept.group)
                break
        self._spent(account, Space(answer.tenant, answer.namespace))
        if verdict.chosen >= 0:
            chosen = ticket.near[verdict.chosen]
            self._noted(chosen)
            if told.get(chosen.kept.group) and not decider.keeps_same:
                self._take_off([answer])
                return
        self._noted(answer)
        if self._file is not None:
            self._file.learn(policy.name, decider.name, decider.save)
            self._file.learn(policy.name, watch.NAME, self._watches[policy.name].save)
            self._file.save(every_s=SAVE_EVERY_S)

    def _noted(self, answer: Answer) -> None:
        self._shelf.noted(answer)
        if self._file is not None:
            self._file.update(answer.number, answer.kept)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._learning.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._learning.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._troubles.count("learning", f"{type(error).__name__}: {error}")

    async def settled(self) -> None:
        """Wait until all that came so far has been learned from, and has its vector if one can be had."""
        while self._learning:
            await asyncio.wait(set(self._learning))
        await self._behind.settled()

    # What operators and clients say.

    def wrong(self, tenant: str, request_id: str, *, hit_of: str = "") -> bool:
        """Take off the answer that a request was served, and learn from it. False: no such hit is known."""
        served = self._served.get(request_id)
        if served is not None and served.tenant == tenant:
            answer = self._shelf.by_number(served.number)
            if answer is None:
                return True  # it was taken off already
        else:
            answer = self._shelf.by_origin(hit_of) if hit_of else None
        if answer is None or answer.tenant != tenant:
            return False
        known = self._deciders.get(answer.policy)
        if known is not None:
            known[1].feedback(answer.kept)
        self._take_off([answer])
        return True

    async def invalidate(
        self,
        tenant: str,
        *,
        tags: Sequence[str] = (),
        namespace: str | None = None,
        entry_id: str = "",
        like: str = "",
        cosine: float = 1.0,
        dry_run: bool = False,
    ) -> Sequence[Forgotten]:
        """Take off what is meant, at once; see the seam."""
        chosen = [number for tag in tags for number in self._shelf.tagged(tag)]
        if namespace is not None:
            chosen += self._shelf.numbers(namespace=namespace)
        if entry_id:
            served = self._served.get(entry_id)
            one = self._shelf.by_number(served.number) if served else None
            one = one or self._shelf.by_origin(entry_id)
            chosen += [] if one is None else [one.number]
        if like and self._embedder is not None:
            rows = (await self._on(Account(of="asked", tenant=tenant)).embed([like])).rows
            for some in self._shelf.alike(rows[0], cosine):
                chosen += [number for number, _ in some]
                await asyncio.sleep(0)
        told = []
        now_ns = self._clock.now_ns()
        for n, number in enumerate(dict.fromkeys(chosen)):
            if n % TAKEN_OFF_AT_ONCE == TAKEN_OFF_AT_ONCE - 1:
                await asyncio.sleep(0)
            a = self._shelf.by_number(number)
            if a is None or a.tenant != tenant:
                continue
            if not dry_run:
                self._take_off([a])
            age_ms = (now_ns - a.kept_ns) // 1_000_000
            told.append(Forgotten(a.origin_id, a.policy, a.namespace, a.tags, a.kept.text, age_ms))
        return told

    def _take_off(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._shelf.remove(answer.number)
            if self._file is not None:
                self._file.remove(answer.number)

    def state(self) -> CacheState:
        """Say how it stands."""
        return CacheState(
            answers=len(self._exact) + len(self._shelf),
            bytes=self._exact.bytes + self._shelf.bytes,
            troubles={**self._troubles.counts, **self._jury.troubles},
            behind=len(self._behind),
            deciders={
                n: {**d.report(), **self._watches[n].report(), **self._admission.report(n)}
                for n, (_, d) in self._deciders.items()
            },
            barred={(n, why): self._admission.barred[n, why] for n in self._deciders for why in REASONS},
        )

    # What the file has, or another process put into it.

    def drawn(self, drawn: Drawn) -> None:
        """Take a graph of a scope's questions."""
        self._shelf.draw(drawn.scope, drawn.change)
        self._settle(drawn.scope)

    def _settle(self, scope: bytes) -> None:
        if self._shelf.settle(scope):
            asyncio.get_running_loop().call_later(SETTLE_EVERY_S, self._settle, scope)

    def loaded(self, rows: Iterable[Loaded]) -> None:
        """Take answers."""
        now_ns = self._clock.now_ns()
        for answer, vector, in_graph, behind in rows:
            number = answer.number
            if self._wanted(answer, now_ns):
                self._shelf.add(answer, vector, in_graph=in_graph)
                self._admission.kept(answer)
            elif vector is not None:
                self._shelf.give(number, vector, in_graph=in_graph)
            if not behind:
                self._behind.drop(number)
            elif (held := self._shelf.by_number(number)) is not None and not held.width:
                self._behind.add([number], read=True)

    def _wanted(self, answer: Answer, now_ns: int) -> bool:
        """Say whether an answer of another process comes in.

        Where both have kept one to the same request at once, both see the same of the two stay: were it the other's
        each time, each would take off what the other took in, and none would be left.
        """
        if answer.number in self._shelf or not answer.kept_ns <= now_ns < answer.expires_ns:
            return False
        own = self._shelf.by_digest(answer.digest, now_ns=now_ns)
        return own is None or (own.kept_ns, own.number) < (answer.kept_ns, answer.number)

    def gone(self, numbers: Iterable[int]) -> None:
        """Take answers off."""
        for number in numbers:
            self._shelf.remove(number)

    def dropped(self, number: int) -> None:
        """Hear that the shelf took an answer off by itself."""
        if self._file is not None:
            self._file.remove(number)

    async def aclose(self) -> None:
        """Write out what was learned, and let go of everything. May be called twice."""
        for task in list(self._learning):
            task.cancel()
        await self._behind.aclose()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._learning, return_exceptions=True)
        if self._file is not None:
            for name, (_, decider) in self._deciders.items():
                self._file.learn(name, decider.name, decider.save)
                self._file.learn(name, watch.NAME, self._watches[name].save)
            self._file.save()
            try:
                await asyncio.to_thread(self._file.close)
            except RuntimeError:  # the interpreter is ending and starts no threads any more (`trivet.openai()` at exit)
                self._file.close()
        if self._embedder is not None:
            await self._embedder.aclose()
            self._embedder = None
        self._shelf.clear()
        await self._exact.aclose()


def _missed(found: Iterable[AnswerNear], verdict: Verdict, *, shadow: bool) -> tuple[NearMiss, ...]:
    """Say what was near and was not served, and why."""
    told = []
    for i, (answer, cosine, _) in enumerate(found):
        chosen = i == verdict.chosen
        if chosen and verdict.serve and not shadow:
            continue
        why = ("shadow: would be served" if verdict.serve else verdict.why) if chosen else "farther"
        p_correct = verdict.p_correct if chosen else None
        told.append(
            NearMiss(entry_id=answer.origin_id, kind="semantic", why=why, cosine=round(cosine, 4), p_correct=p_correct)
        )
    return tuple(told[:TOLD])


def _asked(ticket: _Ticket) -> str:
    """Give the question as a judge is told it: what the user said before, and the last words."""
    return "\n".join(words for words in (ticket.look.context, ticket.look.text) if words)


def _refused(body: bytes) -> bool:
    """Tell whether the model would not answer: a refusal to one is no answer to others."""
    return b'"refusal"' in body and not (b'"refusal":null' in body or b'"refusal": null' in body)


def _told(body: bytes) -> Any:
    """Read the usage that an answer itself reports."""
    try:
        return read_piece(body, streamed=False).usage
    except UpstreamError:
        return None


def place(home: Path) -> Path:
    """Say where answers are kept."""
    return home / "cache" / "semantic.sqlite3"


def build(settings: CacheSettings, kit: Kit) -> Tiers:
    """Build the cache from `[cache]`. The embedder and the file are opened by the first policy that needs them."""
    bounds = {"max_entries": settings.max_entries, "max_bytes": settings.max_bytes}
    return Tiers(
        Exact(**bounds, clock=kit.clock),
        Shelf(**bounds),
        embedder=lambda: kit.embedder("auto"),
        make=lambda rules, embedder: decider(rules, embedder.name, random=kit.random),
        clock=kit.clock,
        random=kit.random,
        tell=kit.tell,
        file=File(place(kit.home), clock=kit.clock, tell=kit.tell),
    )
