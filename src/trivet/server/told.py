"""What a client is told about its request: the headers of the answer, and the report at its end.

Not here: the answer itself (`server/ask.py`), how lines are written (`server/head.py`).
Invariant: all of it is read off the Tally or its Entry, so headers, report and ledger cannot disagree.
"""

from trivet.ledger.money import usd
from trivet.server.head import lines
from trivet.tally import Tally
from trivet.types import Call, Entry, Nanos, Serve, Weigh
from trivet.wire.chat import with_report


def head(tally: Tally) -> bytes:
    """Write the headers that tell what happened, as far as that is known when they go out."""
    decision, entry = tally.decision, tally.entry
    if type(decision) is Call or type(decision) is Weigh:
        why = tally.why or (decision.targets[0].why if decision.targets else "")
        kind = "call" if type(decision) is Call else "weigh"
        told = f"x-trivet-decision: {kind}{f'; why={why}' if why else ''}\r\nx-trivet-cache: {tally.cache}\r\n"
    elif type(decision) is Serve:
        hit = decision.hit
        age_s = hit.age_ms // 1000
        likely = "" if hit.cosine is None else f"; cosine={hit.cosine:.3f}"
        likely += "" if hit.p_correct is None else f"; p_correct={hit.p_correct:.4f}"
        told = f"x-trivet-decision: serve\r\nx-trivet-cache: hit; kind={hit.kind}; age={age_s}{likely}\r\n"
    else:
        told = "x-trivet-decision: refuse\r\n"
    if tally.target:  # config.py lets no line end into a name
        told += f"x-trivet-target: {tally.target}\r\n"
    if entry is not None and entry.decision != "refuse":
        told += f"x-trivet-cost-usd: {_spent(entry)}\r\n"
        if entry.saved:
            told += f"x-trivet-saved-usd: {usd(_saved(entry))}\r\n"
    told = f"x-trivet-id: {tally.request.id}\r\n{told}server-timing: {_timing(tally)}\r\n"
    return told.encode("latin-1", "replace") + lines(tally.opened_headers)


def _timing(tally: Tally) -> str:
    """Write `Server-Timing` (W3C): milliseconds of each phase that was reached."""
    auth_ns, cache_ns, look_ns = tally.auth_ns, tally.cache_ns, tally.look_ns
    cache_ms = _ms(cache_ns - auth_ns) if cache_ns else "0"
    route_ms = _ms(look_ns - (cache_ns or auth_ns)) if look_ns else "0"
    waited = f"cascade;dur={_ms(tally.weighed_ns - look_ns)}, " if tally.weighed_ns else ""
    return (
        f"auth;dur={_ms(auth_ns)}, cache;dur={cache_ms}, route;dur={route_ms}, queue;dur=0, {waited}"
        f"connect;dur={_ms(tally.connect_ns)}, ttft;dur={_ms(tally.ttft_ns)}"
    )


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f}" if ns else "0"  # writing a fraction costs half a microsecond, and half of them are 0


def reported(tally: Tally, data: bytes) -> bytes:
    """Add `trivet` to the last document: for policies, or where the client asks; a target named directly stays pure."""
    asked, entry, policy = tally.request.controls.report, tally.entry, tally.policy
    assert entry is not None
    if asked is False or (asked is None and (policy is None or policy.transparent or not tally.request.stream)):
        return data
    return with_report(data, report(entry))


def report(entry: Entry) -> dict[str, object]:
    """Say what is known of a request once it is over."""
    outcome = entry.outcome
    told: dict[str, object] = {
        "id": entry.id,
        "target": outcome.target,
        "decision": entry.decision,
        "cache": entry.cache,
        "cost_usd": _spent(entry),
        "ttft_ms": round(outcome.timing.ttft_ns / 1e6, 3),
        "total_ms": round(outcome.timing.total_ns / 1e6, 3),
    }
    if entry.saved:
        told["saved_usd"] = usd(_saved(entry))
    return told


def _spent(entry: Entry) -> str:
    """Write the cost; one that is not known in full is not given as if it were."""
    outcome = entry.outcome
    return "unknown" if outcome.cost_nanos is None or outcome.cost_unknown else usd(outcome.cost_nanos)


def _saved(entry: Entry) -> Nanos:
    return Nanos(sum(entry.saved.values()))
