import numpy as np
import pytest

from tests.routing.pool.world import world
from trivet.routing.pool.plan import TIMES, Ask, Evidence, Plan, Refused, forecast, plan

OF = world(n=3000)
NAMES = ("m3", "m7", "m11")
AT = [3, 7, 11]
EVIDENCE = Evidence(
    names=NAMES,
    estimates=OF.true[:, AT],
    costs=OF.costs[:, AT],
    scores=OF.scores[:, AT],
    ttfts={"m3": [0.1] * 200, "m7": [0.3] * 200, "m11": [0.2] * 180 + [3.0] * 20},
)


def planned(ask: Ask, evidence: Evidence = EVIDENCE) -> Plan:
    found = plan(ask, evidence)
    assert isinstance(found, Plan)
    return found


def test_a_lower_floor_costs_less() -> None:
    costs = [planned(Ask(quality=q)).point.cost_usd for q in (0.99, 0.95, 0.9, 0.7)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.7 * costs[0]


def test_the_floor_holds_on_what_was_measured() -> None:
    found = planned(Ask(quality=0.95))
    both = zip(EVIDENCE.estimates.tolist(), EVIDENCE.costs.tolist(), strict=True)
    at = [found.choose(estimates, costs)[0] for estimates, costs in both]
    got = EVIDENCE.scores[np.arange(3000), at].mean()
    assert got >= 0.95 * EVIDENCE.scores[:, found.reference].mean()
    assert found.labels == 3000
    assert found.point.at_least >= 0.95


def test_no_labels_send_everything_to_the_reference() -> None:
    found = planned(Ask(quality=0.95, reference="m7"), EVIDENCE._replace(scores=np.full((3000, 3), np.nan)))
    assert found.weight == -1
    assert found.choose([0.9, 0.1, 0.5])[0] == 1
    assert found.labels == 0


def test_a_ceiling_on_the_cost_is_kept_and_quality_made_large() -> None:
    dear = planned(Ask(aim="quality")).point.cost_usd
    found = planned(Ask(aim="quality", cost_usd=dear / 2))
    assert found.point.cost_usd <= dear / 2


def test_a_slow_tail_keeps_a_target_out() -> None:
    found = planned(Ask(aim="quality", ttft_s=0.8, percentile=0.95))
    assert found.point.late <= 0.05
    assert found.point.shares[2] < 0.5


def test_what_cannot_be_held_together_is_refused_with_what_can() -> None:
    found = plan(Ask(quality=0.99, reference="m11", cost_usd=1e-7), EVIDENCE)
    assert isinstance(found, Refused)
    assert "the least here is $" in found.why
    qualities, costs = [p.quality for p in found.curve], [p.cost_usd for p in found.curve]
    assert qualities == sorted(qualities)
    assert costs == sorted(costs)
    assert len(found.curve) > 3


def test_times_and_prices_that_were_never_measured_are_refused() -> None:
    slow = plan(Ask(aim="latency", quality=0.9), EVIDENCE._replace(ttfts={}))
    assert isinstance(slow, Refused)
    assert "m3, m7, m11" in slow.why
    costs = EVIDENCE.costs.copy()
    costs[:, 1] = np.nan
    unpriced = plan(Ask(quality=0.9), EVIDENCE._replace(costs=costs))
    assert isinstance(unpriced, Refused)
    assert "m7" in unpriced.why


def test_latency_is_made_small_within_the_floor() -> None:
    strict, loose = (planned(Ask(aim="latency", quality=q)).point.ttft_s for q in (0.99, 0.7))
    assert loose <= strict


@pytest.mark.parametrize(
    ("ask", "evidence", "words"),
    [
        (Ask(quality=0.9), EVIDENCE._replace(names=()), "empty"),
        (Ask(quality=1.2), EVIDENCE, "1.2"),
        (Ask(quality=0.9, reference="gpt"), EVIDENCE, "not in the pool"),
    ],
)
def test_asks_that_mean_nothing_are_errors(ask: Ask, evidence: Evidence, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(ask, evidence)


def test_more_labels_are_foreseen_to_cost_no_more_and_about_what_they_turn_out_to_cost() -> None:
    few = EVIDENCE._replace(
        estimates=EVIDENCE.estimates[:300], costs=EVIDENCE.costs[:300], scores=EVIDENCE.scores[:300]
    )
    ask = Ask(quality=0.95, reference="m7")
    found = planned(ask, few)
    more = forecast(ask, few, found)
    assert [m.labels for m in more] == [300 * times for times in TIMES]
    costs = [found.point.cost_usd, *(m.point.cost_usd for m in more)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]
    assert costs[-1] == pytest.approx(planned(ask).point.cost_usd, rel=0.25), "3,000 labels were to be had"


def test_nothing_is_foreseen_without_labels_or_a_floor() -> None:
    none = EVIDENCE._replace(scores=np.full((3000, 3), np.nan))
    assert forecast(Ask(quality=0.95), none, planned(Ask(quality=0.95), none)) == ()
    assert forecast(Ask(aim="quality"), EVIDENCE, planned(Ask(aim="quality"))) == ()
