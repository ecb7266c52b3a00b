"""`/metrics` is well-formed, bounded, and says what the ledger says."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.edge_kit import ASK, POLICY, bearer, get, make_key, post, raw, until
from trivet.seams import BOUNDS_S, CacheState, Verdicts
from trivet.server.metrics import Metrics
from trivet.testing.house import house
from trivet.testing.store_suite import an_entry
from trivet.testing.upstream import Answer, Upstream
from trivet.types import Entry, Nanos, Outcome, Timing

_LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (-?[0-9.]+(?:e[+-][0-9]+)?)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"')
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    """Read Prometheus's text format strictly: every series once, and only under its own TYPE."""
    samples: Samples = {}
    kind = name = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name
            kind = line.split(" ")[3]
            assert kind in ("counter", "gauge", "histogram")
        else:
            match = _LINE.fullmatch(line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match[1]) if kind == "histogram" else match[1]
            assert base == name
            key = match[1], tuple(_LABEL.findall(match[2] or ""))
            assert key not in samples
            samples[key] = float(match[3])
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(v for (n, ls), v in samples.items() if n == name and labels.items() <= dict(ls).items())


@pytest.mark.anyio
async def test_it_agrees_with_the_ledger_after_all_kinds_of_requests(tmp_path: Path) -> None:
    answers = iter([Answer(pieces=("a", "b"))] * 3 + [Answer(status=500)] * 2 + [Answer(pieces=("x",), cut_after=1)])
    key = bearer(make_key(tmp_path / "keys", "tenant-that-is-nobodys-business"))
    async with (
        Upstream(script=lambda body: next(answers)) as upstream,
        house({"a": upstream.base_url}, POLICY, keys=tmp_path / "keys") as gateway,
    ):
        for body in (
            ASK, {**ASK, "model": "p"}, {**ASK, "model": "p"}, {**ASK, "stream": True}, ASK, {**ASK, "stream": True},
            {**ASK, "stream": True}, {**ASK, "model": "nobody"},
        ):  # fmt: skip
            await raw(gateway.url, post(body, key, ("x-trivet-customer", b"customer-7")))
        await raw(gateway.url, post(ASK))
        await until(lambda: gateway.app.metrics.requests == 9)
        reply = await raw(gateway.url, get("/metrics", key))
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples, entries = parse(reply.body.decode()), gateway.store.entries
    assert total(samples, "trivet_requests_total") == len(entries) == 9
    for status, count in Counter(e.outcome.status for e in entries).items():
        assert total(samples, "trivet_requests_total", status=status) == count
    assert total(samples, "trivet_requests_total", cache="exact") == 1
    assert total(samples, "trivet_cost_nanodollars_total") == sum(e.outcome.cost_nanos or 0 for e in entries)
    assert total(samples, "trivet_cost_unknown_total") == sum(e.outcome.cost_nanos is None for e in entries)
    assert total(samples, "trivet_attempts_total") == sum(len(e.outcome.attempts) for e in entries)
    assert total(samples, "trivet_attempts_total", status="failed") == 3
    called = [e.outcome.usage for e in entries if e.decision == "call" and e.outcome.usage]
    assert total(samples, "trivet_tokens_total", kind="output") == sum(u.output_tokens for u in called)
    assert total(samples, "trivet_saved_nanodollars", lever="exact") == sum(e.saved.get("exact", 0) for e in entries)
    assert total(samples, "trivet_request_seconds_count") == sum(e.outcome.status == "ok" for e in entries)
    assert total(samples, "trivet_target_ready", target="a") == 1
    for word in (b"nobodys-business", b"customer-7", b"sk-trivet"):  # attack 56
        assert word not in reply.raw


@pytest.mark.anyio
async def test_it_needs_a_key_once_there_are_keys(tmp_path: Path) -> None:
    """Attack 56."""
    key = make_key(tmp_path / "keys", "acme")
    async with house({"a": "http://127.0.0.1:9/v1"}, keys=tmp_path / "keys") as gateway:
        assert (await raw(gateway.url, get("/metrics"))).status == 401
        assert (await raw(gateway.url, get("/metrics", bearer(key)))).status == 200


def test_buckets_are_cumulative_and_end_with_all() -> None:
    metrics = Metrics()
    for ms in (1, 30, 30, 700, 90_000):
        outcome = Outcome(status="ok", http_status=200, target="a", timing=Timing(ttft_ns=ms * 1_000_000))
        metrics.count(Entry(id="e", at_ns=0, tenant="t", policy="p", cache="miss", outcome=outcome))
    samples = parse(metrics.text({}, {}))
    buckets = [v for (n, _), v in samples.items() if n == "trivet_ttft_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-1]) == (1, 5)
    assert total(samples, "trivet_ttft_seconds_bucket", le="0.05") == 3
    assert total(samples, "trivet_ttft_seconds_sum") == pytest.approx(90.761)


@pytest.mark.anyio
async def test_connections_of_each_target_are_counted_whether_anybody_asked_or_not() -> None:
    async with Upstream("x") as upstream, house({"a": upstream.base_url, "b": "http://127.0.0.1:9/v1"}) as gateway:
        for _ in range(3):
            assert (await raw(gateway.url, post(ASK))).status == 200
        samples = parse((await raw(gateway.url, get("/metrics"))).body.decode())
    told = {name.removeprefix("trivet_connections_"): value for (name, labels), value in samples.items()
            if name.startswith("trivet_connections_") and labels == (("target", "a"),)}  # fmt: skip
    assert told == {"open": 1, "idle": 1, "waiting": 0, "opened_total": 1, "reused_total": 2, "retried_total": 0}
    assert total(samples, "trivet_connect_seconds_count", target="a") == 1
    assert total(samples, "trivet_connect_seconds_bucket", target="a", le="+Inf") == 1
    assert 0 < total(samples, "trivet_connect_seconds_sum", target="a") < 10
    assert total(samples, "trivet_connections_opened_total", target="b") == 0
    assert ("trivet_connect_seconds_count", (("target", "b"),)) in samples


def test_names_cannot_break_out_of_their_quotes() -> None:
    metrics = Metrics()
    outcome = Outcome(status="ok", http_status=200, target='t"} 1\n# TYPE x counter\nx{a="\\', cost_nanos=Nanos(1))
    metrics.count(Entry(id="e", at_ns=0, tenant="t", policy='p"\\\n', outcome=outcome))
    samples = parse(metrics.text({'r"\n': "loading"}, {}))
    assert total(samples, "trivet_requests_total") == 1
    assert not [name for name, _ in samples if not name.startswith("trivet_")]


@pytest.mark.slow
def test_the_number_of_series_is_bounded_and_nothing_is_left_out() -> None:
    metrics = Metrics()
    entry = an_entry("e")
    for i in range(5000):
        outcome = Outcome(status="ok", http_status=200, target=f"t{i}", cost_nanos=Nanos(1))
        metrics.count(Entry(id="e", at_ns=0, tenant="t", policy=f"p{i}", outcome=outcome))
    metrics.count(entry)
    samples = parse(metrics.text({}, {}))
    assert sum(name == "trivet_requests_total" for name, _ in samples) <= 2100
    assert metrics.requests == 5001
    assert total(samples, "trivet_cost_nanodollars_total") == 5000 + (entry.outcome.cost_nanos or 0)


def test_a_broken_promise_has_a_gauge_of_its_own_and_so_has_likeness_that_is_off() -> None:
    figures = {
        "p": {"promise_broken": 1.0, "spaces_off": 2, "measured_error": 0.031},
        "q": {"promise_broken": 0.0, "spaces_off": 0, "measured_error": 0.0},
        "of a plugin": {"hits": 5.0},
    }
    state = CacheState(3, 100, {"judge_torn": 4}, figures, {("p", "instructions"): 3, ("p", "asks more"): 2})
    samples = parse(Metrics().text({}, answers=state, skipped={"audit": 1, "judge": 7}))
    assert total(samples, "trivet_cache_promise_broken", policy="p") == 1
    assert total(samples, "trivet_cache_promise_broken") == 1
    assert total(samples, "trivet_cache_spaces_off", policy="p") == 2
    assert total(samples, "trivet_cache_decider", policy="p", figure="measured_error") == 0.031
    assert total(samples, "trivet_cache_decider", policy="of a plugin", figure="hits") == 5
    assert total(samples, "trivet_cache_troubles_total", kind="judge_torn") == 4
    assert total(samples, "trivet_cache_barred_total", policy="p", reason="asks more") == 2
    assert total(samples, "trivet_cache_barred_total") == 5
    assert total(samples, "trivet_audits_skipped_total") == 1
    assert total(samples, "trivet_comparisons_skipped_total") == 7


def test_what_models_say_of_requests_before_they_are_routed_is_counted_by_policy() -> None:
    took = [0] * (len(BOUNDS_S) + 1)
    took[BOUNDS_S.index(0.1)] = 3
    verdicts = {"p": Verdicts({"simple": 5, "timeout": 1}, tuple(took), 240_000_000), "q": Verdicts({"complex": 2})}
    samples = parse(Metrics().text({}, verdicts=verdicts))
    assert total(samples, "trivet_route_verdicts_total", policy="p") == 6
    assert total(samples, "trivet_route_verdicts_total", policy="q", verdict="complex") == 2
    assert total(samples, "trivet_route_ask_seconds_bucket", policy="p", le="0.05") == 0
    assert total(samples, "trivet_route_ask_seconds_bucket", policy="p", le="0.1") == 3
    assert total(samples, "trivet_route_ask_seconds_sum", policy="p") == 0.24
    assert total(samples, "trivet_route_ask_seconds_count", policy="q") == 0
