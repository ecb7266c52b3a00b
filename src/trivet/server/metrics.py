"""`/metrics`: what happened since the start of this process, for Prometheus.

Not here: anything that is about a tenant, customer or feature; that is what the ledger is for (labels are bounded:
policy, target, status, cache). Invariant: every number is added up from Entries, so metrics and ledger cannot disagree.
"""

from bisect import bisect_left
from collections import Counter

from trivet.types import Entry

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_MAX_SERIES = 2000
"""Names of wildcard policies come from the configuration, so this is never met in earnest; it bounds memory."""

Labels = tuple[str, ...]


class Histogram:
    """Counts of durations by bound, and their sum, for each set of labels."""

    def __init__(self) -> None:
        self.counts: dict[Labels, list[int]] = {}
        self.sums_ns: Counter[Labels] = Counter()

    def add(self, labels: Labels, ns: int) -> None:
        """Count one duration."""
        counts = self.counts.get(labels)
        if counts is None:
            counts = self.counts[labels] = [0] * (len(_BOUNDS_S) + 1)
        counts[bisect_left(_BOUNDS_S, ns / 1e9)] += 1
        self.sums_ns[labels] += ns


class Metrics:
    """All counters of one process; `count` is called once for each Entry."""

    def __init__(self) -> None:
        self.requests: Counter[Labels] = Counter()
        self.tokens: Counter[Labels] = Counter()
        self.cost_nanos: Counter[Labels] = Counter()
        self.cost_unknown: Counter[Labels] = Counter()
        self.saved_nanos: Counter[Labels] = Counter()
        self.attempts: Counter[Labels] = Counter()
        self.ttft = Histogram()
        self.total = Histogram()
        self.added = Histogram()

    def count(self, entry: Entry) -> None:
        """Add one Entry."""
        outcome = entry.outcome
        policy, target = entry.policy, outcome.target
        key = (policy, target, outcome.status, entry.cache)
        if key not in self.requests and len(self.requests) >= _MAX_SERIES:
            policy, target = "(other)", "(other)"
            key = (policy, target, outcome.status, entry.cache)
        self.requests[key] += 1
        if outcome.usage is not None and entry.decision == "call":
            self.tokens[(target, "input")] += outcome.usage.input_tokens
            self.tokens[(target, "output")] += outcome.usage.output_tokens
            self.tokens[(target, "cached")] += outcome.usage.cached_tokens
        if outcome.cost_unknown:
            self.cost_unknown[(policy, target)] += 1
        if outcome.cost_nanos is not None:
            self.cost_nanos[(policy, target)] += outcome.cost_nanos
        for lever, nanos in entry.saved.items():
            self.saved_nanos[(policy, lever)] += nanos
        for attempt in outcome.attempts:
            self.attempts[(attempt.target, attempt.status)] += 1
        if outcome.status == "ok":
            self.ttft.add((policy, target, entry.cache), outcome.timing.ttft_ns)
            self.total.add((policy, target, entry.cache), outcome.timing.total_ns)
            busy_ns = sum(attempt.took_ns for attempt in outcome.attempts)
            self.added.add((policy,), max(0, outcome.timing.total_ns - busy_ns))

    def text(self, ready: dict[str, str]) -> str:
        """Write everything in Prometheus's text format (version 0.0.4)."""
        lines: list[str] = []
        by_request = ("policy", "target", "status", "cache")
        _counter(lines, "trivet_requests_total", "Requests, each with one ledger entry.", by_request, self.requests)
        _counter(lines, "trivet_tokens_total", "Tokens of calls to targets.", ("target", "kind"), self.tokens)
        by_cost = ("policy", "target")
        _counter(lines, "trivet_cost_nanodollars_total", "Spent, where the price is known.", by_cost, self.cost_nanos)
        _counter(lines, "trivet_cost_unknown_total", "Requests whose price is not known.", by_cost, self.cost_unknown)
        _gauge(lines, "trivet_saved_nanodollars", "Saved against the baseline.", ("policy", "lever"), self.saved_nanos)
        _counter(lines, "trivet_attempts_total", "Targets asked.", ("target", "status"), self.attempts)
        by_time = ("policy", "target", "cache")
        _histogram(lines, "trivet_ttft_seconds", "Arrival to first content handed on.", by_time, self.ttft)
        _histogram(lines, "trivet_request_seconds", "Arrival to settled.", by_time, self.total)
        _histogram(
            lines, "trivet_added_seconds", "Arrival to settled, less the time of targets.", ("policy",), self.added
        )
        up: Counter[Labels] = Counter({(target,): int(not why) for target, why in ready.items()})
        _gauge(lines, "trivet_target_ready", "Whether the target can be asked.", ("target",), up)
        return "\n".join(lines) + "\n"


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
        for bound, count in zip((*_BOUNDS_S, "+Inf"), counts, strict=True):
            running += count
            lines.append(f'{name}_bucket{{{told},le="{bound}"}} {running}')
        lines.append(f"{name}_sum{{{told}}} {histogram.sums_ns[labels] / 1e9:.9f}")
        lines.append(f"{name}_count{{{told}}} {running}")
