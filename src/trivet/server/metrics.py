"""`/metrics`: what happened since the start of this process, for Prometheus.

Not here: anything that is about a tenant, customer or feature; that is what the ledger is for (labels are bounded:
policy, target, status, cache). Invariant: every number about requests is added up from Entries, so metrics and ledger
cannot disagree; those of connections, which belong to no request, are asked of the providers.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from trivet.labels.labels import LabelsState
from trivet.seams import BOUNDS_S, CacheState, Connections, Verdicts
from trivet.types import Entry

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS_S)
_BY_REQUEST = ("policy", "target", "status", "cache")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_MAX_SERIES = 2000
"""Names of wildcard policies come from the configuration, so this is never met in earnest; it bounds memory."""

_NONE: Mapping[str, Connections] = MappingProxyType({})
_NO_COUNTS: Mapping[str, int] = MappingProxyType({})
_NO_ENDS: Mapping[str, Mapping[str, int]] = MappingProxyType({})
_NO_VERDICTS: Mapping[str, Verdicts] = MappingProxyType({})

Labels = tuple[str, ...]
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class Series:
    """What happened under one set of labels, added up in place: a counter for each number costs a look-up each."""

    __slots__ = (
        "added_counts", "added_ns", "answered", "attempts", "cached", "cost_nanos", "cost_unknown", "input", "ok",
        "output", "requests", "saved", "total_counts", "total_ns", "ttft_counts", "ttft_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.ok = self.answered = self.cost_nanos = self.cost_unknown = 0
        self.input = self.output = self.cached = self.ttft_ns = self.total_ns = self.added_ns = 0
        self.saved: Counter[str] = Counter()
        self.attempts: Counter[Labels] = Counter()
        self.ttft_counts = [0] * (len(BOUNDS_S) + 1)
        self.total_counts = [0] * (len(BOUNDS_S) + 1)
        self.added_counts = [0] * (len(BOUNDS_S) + 1)

    def add(self, entry: Entry) -> None:
        """Add one Entry."""
        outcome = entry.outcome
        self.requests += 1
        usage = outcome.usage
        if usage is not None and entry.decision in ("call", "weigh"):
            self.input += usage.input_tokens
            self.output += usage.output_tokens
            self.cached += usage.cached_tokens
        if outcome.cost_unknown:
            self.cost_unknown += 1
        self.cost_nanos += outcome.cost_nanos or 0
        if entry.saved:
            for lever, nanos in entry.saved.items():
                self.saved[lever] += nanos
        busy_ns = 0
        attempts = outcome.attempts
        if len(attempts) == 1 and attempts[0].status == "ok":  # nearly always, and of the series' own target
            self.answered += 1
            busy_ns = attempts[0].took_ns
        else:
            for attempt in attempts:
                self.attempts[(attempt.target, attempt.status)] += 1
                busy_ns += attempt.took_ns
        if outcome.status == "ok":
            self.ok += 1
            timing = outcome.timing
            self.ttft_ns += timing.ttft_ns
            self.ttft_counts[bisect_left(_BOUNDS_NS, timing.ttft_ns)] += 1
            self.total_ns += timing.total_ns
            self.total_counts[bisect_left(_BOUNDS_NS, timing.total_ns)] += 1
            added_ns = timing.total_ns - busy_ns if timing.total_ns > busy_ns else 0
            self.added_ns += added_ns
            self.added_counts[bisect_left(_BOUNDS_NS, added_ns)] += 1

    def merge(self, other: "Series") -> None:
        """Add what another process counted under the same labels."""
        for name in self.__slots__:
            mine, its = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(its)
            else:
                added = [x + y for x, y in zip(mine, its, strict=True)] if isinstance(mine, list) else mine + its
                setattr(self, name, added)


class Metrics:
    """All numbers of one process; `count` is called once for each Entry."""

    def __init__(self) -> None:
        self._series: dict[Labels, Series] = {}
        self.reloads: Counter[str] = Counter(ok=0, refused=0)
        """Of the configuration, by result."""

    @property
    def requests(self) -> int:
        """All that were counted."""
        return sum(series.requests for series in self._series.values())

    def count(self, entry: Entry) -> None:
        """Add one Entry."""
        outcome = entry.outcome
        key = (entry.policy, outcome.target, outcome.status, entry.cache)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= _MAX_SERIES:
                key = ("(other)", "(other)", outcome.status, "(other)")
            series = self._series.setdefault(key, Series())
        series.add(entry)

    def merge(self, other: "Metrics") -> None:
        """Add what another process counted."""
        self.reloads.update(other.reloads)
        for labels, series in other._series.items():  # noqa: SLF001  # of this class
            self._series.setdefault(labels, Series()).merge(series)

    def dump(self) -> bytes:
        """Write all numbers down."""
        every = self._series.items()
        rows = [(labels, _plain([getattr(series, name) for name in Series.__slots__])) for labels, series in every]
        return _encode((self.reloads, rows))

    @classmethod
    def load(cls, dumped: bytes) -> "Metrics":
        """Read what `dump` wrote. Raises msgspec.DecodeError, ValueError: it is something else."""
        metrics = cls()
        try:
            reloads, rows = _decode(dumped)
            metrics.reloads = Counter(reloads)
            for labels, values in rows:
                series = metrics._series[tuple(labels)] = Series()
                for name, value in zip(Series.__slots__, values, strict=True):
                    kind = type(getattr(series, name))
                    known = {tuple(key): n for key, n in value} if name == "attempts" else value
                    setattr(series, name, kind(known))
        except (TypeError, AttributeError) as error:
            raise ValueError(f"these are no metrics: {error}") from error
        return metrics

    def text(
        self,
        ready: Mapping[str, str],
        connections: Mapping[str, Connections] = _NONE,
        *,
        answers: CacheState | None = None,
        skipped: Mapping[str, int] = _NO_COUNTS,
        verdicts: Mapping[str, Verdicts] = _NO_VERDICTS,
        weighed: Mapping[str, Mapping[str, int]] = _NO_ENDS,
        drifted: Mapping[str, bool] = MappingProxyType({}),  # it cannot be changed
        labels: LabelsState | None = None,
    ) -> str:
        """Write everything in Prometheus's text format (version 0.0.4).

        Args:
            ready: for each target why it cannot be asked, or "".
            connections: for each target that says so; of the process that answers, where there are several.
            answers: how the cache stands in the process that answers, if it says so.
            skipped: what was not begun there of the work on the side, by kind.
            verdicts: what models said there of requests that were to be routed, by policy.
            weighed: how requests ended there whose answers were weighed, by policy and end.
            drifted: of those policies, whether answers agree otherwise than before.
            labels: how labels stand there.
        """
        lines: list[str] = []
        every = sorted(self._series.items())
        requests, tokens, spent, unknown, saved, attempts = (Counter[Labels]() for _ in range(6))
        ttft, total, added = Histogram(), Histogram(), Histogram()
        for (policy, target, status, cache), one in every:
            requests[(policy, target, status, cache)] += one.requests
            for kind in ("input", "output", "cached"):
                tokens[(target, kind)] += getattr(one, kind)
            if one.cost_nanos or not one.cost_unknown:  # a price that is not known is no 0
                spent[(policy, target)] += one.cost_nanos
            unknown[(policy, target)] += one.cost_unknown
            for lever, nanos in one.saved.items():
                saved[(policy, lever)] += nanos
            attempts.update(one.attempts)
            if one.answered:
                attempts[(target, "ok")] += one.answered
            if one.ok:
                ttft.add((policy, target, cache), one.ttft_counts, one.ttft_ns)
                total.add((policy, target, cache), one.total_counts, one.total_ns)
                added.add((policy,), one.added_counts, one.added_ns)
        _counter(lines, "trivet_requests_total", "Requests, each with one ledger entry.", _BY_REQUEST, requests)
        _counter(lines, "trivet_tokens_total", "Tokens of calls to targets.", ("target", "kind"), tokens)
        by_cost = ("policy", "target")
        _counter(lines, "trivet_cost_nanodollars_total", "Spent, where the price is known.", by_cost, spent)
        _counter(lines, "trivet_cost_unknown_total", "Requests whose cost is not known in full.", by_cost, unknown)
        _gauge(lines, "trivet_saved_nanodollars", "Saved against the baseline.", ("policy", "lever"), saved)
        _counter(lines, "trivet_attempts_total", "Targets asked.", ("target", "status"), attempts)
        by_time = ("policy", "target", "cache")
        _histogram(lines, "trivet_ttft_seconds", "Arrival to first content handed on.", by_time, ttft)
        _histogram(lines, "trivet_request_seconds", "Arrival to settled.", by_time, total)
        _histogram(lines, "trivet_added_seconds", "Arrival to settled, less the time of targets.", ("policy",), added)
        reloads: Counter[Labels] = Counter({(result,): count for result, count in self.reloads.items()})
        _counter(lines, "trivet_reloads_total", "Times the configuration was read again.", ("result",), reloads)
        up: Counter[Labels] = Counter({(target,): int(not why) for target, why in ready.items()})
        _gauge(lines, "trivet_target_ready", "Whether the target can be asked.", ("target",), up)
        _connections(lines, connections)
        if answers is not None:
            _cache(lines, answers, skipped)
        _verdicts(lines, verdicts)
        ends: Counter[Labels] = Counter({(p, end): n for p, told in weighed.items() for end, n in told.items()})
        words = "Requests whose answers were weighed, by how that ended: docs/cascades.md."
        _counter(lines, "trivet_cascade_total", words, ("policy", "end"), ends)
        words = "1: cheap answers agree on another share of the requests than before."
        _gauge(
            lines, "trivet_cascade_drift", words, ("policy",), Counter({(p,): int(off) for p, off in drifted.items()})
        )
        if labels is not None:
            _learning(lines, labels, skipped)
        return "\n".join(lines) + "\n"


def _plain(values: list[Any]) -> list[Any]:
    """Keys of a counter may be tuples, which msgpack writes as keys of no map."""
    return [list(v.items()) if isinstance(v, Counter) and any(isinstance(k, tuple) for k in v) else v for v in values]


def _connections(lines: list[str], targets: Mapping[str, Connections]) -> None:
    by_target = ("target",)
    for field, words in (
        ("open", "Connections to the target: connecting, busy or idle."),
        ("idle", "Connections that wait for a request."),
        ("waiting", "Requests that wait for a connection."),
    ):
        now: Counter[Labels] = Counter({(name,): getattr(told, field) for name, told in targets.items()})
        _gauge(lines, f"trivet_connections_{field}", words, by_target, now)
    for field, words in (
        ("opened", "Connections opened."),
        ("reused", "Requests sent on a connection that was open."),
        ("retried", "Requests sent once more because their connection had gone stale."),
    ):
        since: Counter[Labels] = Counter({(name,): getattr(told, field) for name, told in targets.items()})
        _counter(lines, f"trivet_connections_{field}_total", words, by_target, since)
    took = Histogram()
    for name, told in targets.items():
        took.add((name,), list(told.connect_counts), told.connect_ns)
    _histogram(lines, "trivet_connect_seconds", "Name look-up, proxy, TCP and TLS together.", by_target, took)


def _cache(lines: list[str], cache: CacheState, skipped: Mapping[str, int]) -> None:
    _gauge(lines, "trivet_cache_answers", "Answers that are kept.", (), Counter({(): cache.answers}))
    _gauge(lines, "trivet_cache_bytes", "Memory that they take.", (), Counter({(): cache.bytes}))
    words = "Answers that wait for a vector of the embedder."
    _gauge(lines, "trivet_cache_behind", words, (), Counter({(): cache.behind}))
    troubles: Counter[Labels] = Counter({(kind,): count for kind, count in cache.troubles.items()})
    words = "Faults: looks that were a miss, comparisons without a verdict."
    _counter(lines, "trivet_cache_troubles_total", words, ("kind",), troubles)
    words = "Looks in which the near answer may not be given to whoever asks: docs/cache.md."
    barred: Counter[Labels] = Counter(dict(cache.barred.items()))
    _counter(lines, "trivet_cache_barred_total", words, ("policy", "reason"), barred)
    for kind, name, words in (
        ("audit", "trivet_audits_skipped_total", "Audits of hits that were too many at once."),
        ("judge", "trivet_comparisons_skipped_total", "Comparisons by a model that were too many at once."),
    ):
        _counter(lines, name, words, (), Counter({(): skipped.get(kind, 0)}))
    for figure, name, words in (
        ("promise_broken", "trivet_cache_promise_broken", "1: audits show more wrong hits than max_error."),
        ("spaces_off", "trivet_cache_spaces_off", "Tenants and namespaces where likeness does not pay and is off."),
    ):
        told = {policy: figures[figure] for policy, figures in cache.deciders.items() if figure in figures}
        _gauge(lines, name, words, ("policy",), Counter({(policy,): int(value) for policy, value in told.items()}))
    _head(lines, "trivet_cache_decider", "What the decider of a policy says of itself: docs/cache.md.", "gauge")
    for policy, figures in sorted(cache.deciders.items()):
        for name, value in sorted(figures.items()):
            labels = _labels(("policy", "figure"), (policy, name))
            lines.append(f"trivet_cache_decider{{{labels}}} {value:.9g}")


def _verdicts(lines: list[str], policies: Mapping[str, Verdicts]) -> None:
    counts: Counter[Labels] = Counter()
    took = Histogram()
    for policy, told in policies.items():
        counts.update({(policy, kind): count for kind, count in told.counts.items()})
        took.add((policy,), list(told.took_counts), told.took_ns)
    words = "Requests by what a model said of them before they were routed."
    _counter(lines, "trivet_route_verdicts_total", words, ("policy", "verdict"), counts)
    _histogram(lines, "trivet_route_ask_seconds", "How long that model took.", ("policy",), took)


def _learning(lines: list[str], labels: LabelsState, skipped: Mapping[str, int]) -> None:
    """Write how labels stand."""
    words = "Requests that were kept so that labels may come for them."
    _counter(lines, "trivet_labels_asked_total", words, (), Counter({(): labels.asked}))
    by_source: Counter[Labels] = Counter({(source,): count for source, count in labels.labels.items()})
    _counter(lines, "trivet_labels_total", "Labels that came.", ("source",), by_source)
    troubles: Counter[Labels] = Counter({(kind,): count for kind, count in labels.troubles.items()})
    _counter(lines, "trivet_labels_troubles_total", "Why labels did not come, or were lost.", ("kind",), troubles)
    words = "Shadows that were too many at once."
    _counter(lines, "trivet_shadows_skipped_total", words, (), Counter({(): skipped.get("shadow", 0)}))


class Histogram:
    """Counts of durations by bound, and their sum, for each set of labels."""

    def __init__(self) -> None:
        self.counts: dict[Labels, list[int]] = {}
        self.sums_ns: Counter[Labels] = Counter()

    def add(self, labels: Labels, counts: list[int], sum_ns: int) -> None:
        """Add the counts of a series."""
        before = self.counts.get(labels, [0] * len(counts))
        self.counts[labels] = [x + y for x, y in zip(before, counts, strict=True)]
        self.sums_ns[labels] += sum_ns


def _head(lines: list[str], name: str, words: str, kind: str) -> None:
    lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _labels(names: tuple[str, ...], values: Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in zip(names, values, strict=True))


def _counter(lines: list[str], name: str, words: str, names: tuple[str, ...], values: Counter[Labels]) -> None:
    _head(lines, name, words, "counter")
    lines += [f"{name}{{{_labels(names, labels)}}} {value}" for labels, value in sorted(values.items())]


def _gauge(lines: list[str], name: str, words: str, names: tuple[str, ...], values: Counter[Labels]) -> None:
    _head(lines, name, words, "gauge")
    lines += [f"{name}{{{_labels(names, labels)}}} {value}" for labels, value in sorted(values.items())]


def _histogram(lines: list[str], name: str, words: str, names: tuple[str, ...], histogram: Histogram) -> None:
    _head(lines, name, words, "histogram")
    for labels, counts in sorted(histogram.counts.items()):
        told, running = _labels(names, labels), 0
        for bound, count in zip((*BOUNDS_S, "+Inf"), counts, strict=True):
            running += count
            lines.append(f'{name}_bucket{{{told},le="{bound}"}} {running}')
        lines.append(f"{name}_sum{{{told}}} {histogram.sums_ns[labels] / 1e9:.9f}")
        lines.append(f"{name}_count{{{told}}} {running}")
