"""Headers and report, read off a tally; over the wire they are in `test_ask.py` and `tests/docs`."""

import re

import pytest

from trivet.server.told import head, report, reported
from trivet.tally import Tally
from trivet.types import Call, Controls, Entry, Hit, Nanos, Outcome, Policy, Refuse, Request, Serve, Timing


def tally(**more: object) -> Tally:
    controls = Controls(report=more.pop("report", None))  # type: ignore[arg-type]
    request = Request(id="req_1", tenant="t", model="m", fields={}, stream=bool(more.pop("stream", False)),
                      controls=controls)  # fmt: skip
    made = Tally(request, 0)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def headers(told: Tally) -> dict[str, str]:
    text = head(told).decode("latin-1")
    assert text.endswith("\r\n")
    return dict(line.split(": ", 1) for line in text.split("\r\n")[:-1])


ENTRY = Entry(
    id="req_1", at_ns=1, tenant="t", decision="call", cache="miss",
    outcome=Outcome(status="ok", http_status=200, target="a", cost_nanos=Nanos(151_200),
                    timing=Timing(ttft_ns=2_000_000, total_ns=3_500_000)),
    saved={"route": Nanos(1_000_000_000)},
)  # fmt: skip


def test_a_call_tells_target_cost_and_each_phase_in_milliseconds() -> None:
    made = tally(decision=Call(()), cache="miss", target="a", entry=ENTRY, auth_ns=1_000_000, cache_ns=3_000_000,
                 look_ns=3_500_000, connect_ns=4_000_000, ttft_ns=9_000_000,
                 opened_headers=((b"x-request-id", b"theirs"),))  # fmt: skip
    assert headers(made) == {
        "x-trivet-id": "req_1", "x-trivet-decision": "call", "x-trivet-cache": "miss", "x-trivet-target": "a",
        "x-trivet-cost-usd": "0.0001512", "x-trivet-saved-usd": "1", "x-request-id": "theirs",
        "server-timing": "auth;dur=1.000, cache;dur=2.000, route;dur=0.500, queue;dur=0, "
                         "connect;dur=4.000, ttft;dur=9.000",
    }  # fmt: skip


def test_a_hit_tells_its_kind_and_age_and_a_refusal_no_cost() -> None:
    hit = Hit(kind="exact", body=b"{}", usage=None, origin_id="o", target="a", age_ms=61_999)
    assert headers(tally(decision=Serve(hit)))["x-trivet-cache"] == "hit; kind=exact; age=61"
    refused = headers(tally(decision=Refuse(fault=None), entry=None))  # type: ignore[arg-type]
    assert refused.keys() == {"x-trivet-id", "x-trivet-decision", "server-timing"}
    assert re.fullmatch(r"[a-z]+;dur=0(, [a-z]+;dur=0)+", refused["server-timing"])


def test_a_line_end_in_what_a_target_said_goes_no_further() -> None:
    with pytest.raises(ValueError, match="line end"):
        head(tally(decision=Call(()), opened_headers=((b"x", b"a\r\nb: c"),)))


@pytest.mark.parametrize(
    ("transparent", "stream", "asked", "told"),
    [(False, True, None, True), (False, False, None, False), (True, True, None, False),
     (True, True, True, True), (True, False, True, True), (False, True, False, False)],
)  # fmt: skip
def test_the_report_is_for_streams_of_policies_and_for_those_who_ask(
    *, transparent: bool, stream: bool, asked: bool | None, told: bool
) -> None:
    policy = Policy(name="p", digest="", pool=("a",), transparent=transparent)
    made = tally(policy=policy, stream=stream, report=asked, entry=ENTRY)
    assert (reported(made, b'{"a":1}') != b'{"a":1}') == told


def test_a_cost_that_is_not_known_is_not_given_as_a_number() -> None:
    assert report(ENTRY)["cost_usd"] == "0.0001512"
    unknown = Outcome(status="ok", http_status=200, cost_nanos=Nanos(5), cost_unknown="an attempt may have charged")
    entry = Entry(id="e", at_ns=1, tenant="t", outcome=unknown)
    assert (report(entry)["cost_usd"], "saved_usd" in report(entry)) == ("unknown", False)
