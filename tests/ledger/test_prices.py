"""What a request cost, and what that saved."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.config import PriceSettings, TargetSettings
from trivet.errors import ConfigError
from trivet.ledger.prices import Cost, Pace, Prices, savings
from trivet.types import Baseline, Nanos, Usage

AT_NS = 1_795_000_000 * 10**9
GOLDEN = Usage(input_tokens=1200, output_tokens=80, cached_tokens=1024)
TOKENS = PriceSettings(input="$0.15", output="$0.60", cached="$0.075")
TARGETS = {
    "mini": TargetSettings(provider="openai", model="gpt-4o-mini", region="us"),
    "own": TargetSettings(provider="openai", base_url="http://127.0.0.1:1/v1", model="x", region="local", price=TOKENS),
    "box": TargetSettings(provider="llamacpp", model="y", region="local", price=PriceSettings(hour="$0.80", slots=2)),
    "bare": TargetSettings(provider="llamacpp", model="gpt-4o-mini", region="local"),
    "foreign": TargetSettings(provider="openai", base_url="https://llm.example.org/v1", model="gpt-4o-mini"),
    "any": TargetSettings(provider="openai"),
}


def cost(target: str, *, model: str = "", usage: Usage | None = GOLDEN, took_ns: int = 10**9) -> Cost:
    return Prices(TARGETS).cost(target, model=model, usage=usage, took_ns=took_ns, at_ns=AT_NS)


def test_the_golden_request_costs_what_two_other_programs_say() -> None:
    """gpt-4o-mini, 1,200 in of which 1,024 cached, 80 out: MLflow and Phoenix give $0.0001512."""
    assert (cost("mini").nanos, cost("mini").why_unknown) == (151_200, "")
    assert cost("mini").version.startswith("genai-prices 0.")


def test_a_price_in_trivet_toml_goes_before_the_list() -> None:
    assert cost("own") == Cost(Nanos(151_200), "", "trivet.toml")


def test_cached_tokens_cost_as_input_where_no_price_is_given_for_them() -> None:
    target = TargetSettings(provider="openai", price=PriceSettings(input="$0.15", output="$0.60"))
    found = Prices({"t": target}).cost("t", model="", usage=GOLDEN, took_ns=0, at_ns=AT_NS)
    assert found.nanos == 1200 * 150 + 80 * 600


def test_a_machine_by_the_hour_costs_its_seconds_whatever_the_tokens() -> None:
    assert cost("box", took_ns=9 * 10**9).nanos == 1_000_000  # $0.80 / 3600 * 9 / 2
    assert cost("box", usage=None, took_ns=9 * 10**9).nanos == 1_000_000


def test_the_model_named_in_the_answer_sets_the_price() -> None:
    assert cost("any", model="gpt-4o-mini-2024-07-18").nanos == 151_200
    dearer = cost("mini", model="gpt-4o").nanos
    assert dearer is not None
    assert dearer > 151_200


@pytest.mark.parametrize(
    ("target", "model", "words"),
    [
        ("bare", "", "machine of yours"),
        ("foreign", "", "no prices for llm.example.org"),
        ("mini", "gpt-77-imaginary", "does not know the model 'gpt-77-imaginary'"),
        ("any", "", "does not know the model '*'"),
        ("nowhere", "", "No target is called 'nowhere'"),
    ],
)
def test_what_is_not_known_is_none_with_a_reason_and_never_zero(target: str, model: str, words: str) -> None:
    found = cost(target, model=model)
    assert found.nanos is None
    assert words in found.why_unknown


def test_the_reason_says_what_to_set() -> None:
    assert "`targets.bare.price`" in cost("bare").why_unknown


def test_an_answer_without_usage_has_no_known_cost() -> None:
    found = cost("mini", usage=None)
    assert (found.nanos, found.why_unknown) == (None, "mini did not report its tokens")


def test_a_model_listed_without_a_price_is_not_taken_for_free() -> None:
    target = TargetSettings(provider="openai", base_url="https://openrouter.ai/api/v1", model="qwen/qwq-32b:free")
    prices = Prices({"t": target})
    found = prices.cost("t", model="agentica-org/deepcoder-14b-preview:free", usage=GOLDEN, took_ns=0, at_ns=AT_NS)
    assert found.nanos is None
    assert "without a price" in found.why_unknown


@pytest.mark.parametrize(
    "price",
    [
        PriceSettings(),
        PriceSettings(input="$1"),
        PriceSettings(output="$1"),
        PriceSettings(hour="$1", input="$1", output="$1"),
    ],
)
def test_half_a_price_is_refused_when_the_settings_are_read(price: PriceSettings) -> None:
    with pytest.raises(ConfigError, match=r"targets\.t\.price"):
        Prices({"t": TargetSettings(provider="openai", price=price)})


def test_what_is_remembered_of_models_named_by_upstreams_is_bounded() -> None:
    prices = Prices({"t": TARGETS["mini"]})
    for i in range(5000):
        prices.cost("t", model=f"m{i}", usage=GOLDEN, took_ns=0, at_ns=AT_NS)
    assert len(prices._resolved) <= 4096


def test_the_price_list_is_not_loaded_for_machines_of_ones_own() -> None:
    """A pool of local models does not pay 17 MiB for prices that it has no use for."""
    code = """if True:
        import sys
        from trivet.config import TargetSettings
        from trivet.ledger.prices import Prices
        from trivet.types import Usage
        targets = {
            "a": TargetSettings(provider="llamacpp", model="m"),
            "b": TargetSettings(provider="openai", base_url="http://localhost:11434/v1", model="m"),
            "c": TargetSettings(provider="vllm", base_url="http://10.0.0.7:8000/v1", model="m"),
        }
        prices = Prices(targets)
        prices.warm()
        for name in targets:
            prices.cost(name, model="", usage=Usage(input_tokens=1, output_tokens=1), took_ns=1, at_ns=1)
        sys.exit("genai_prices" in sys.modules or "pydantic" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# ---- the baseline, and what was saved ------------------------------------------------------------------------------


def test_the_baseline_is_the_same_tokens_at_its_price() -> None:
    assert Prices(TARGETS).counterfactual("mini", usage=GOLDEN, at_ns=AT_NS) == Baseline(
        target="mini", cost_nanos=Nanos(151_200)
    )


def test_a_baseline_by_the_hour_needs_to_have_answered_before() -> None:
    prices = Prices(TARGETS)
    unknown = prices.counterfactual("box", usage=GOLDEN, at_ns=AT_NS)
    assert unknown.cost_nanos is None
    assert "its pace is not known" in unknown.why_unknown
    prices.learn("box", usage=Usage(input_tokens=50, output_tokens=50), took_ns=10**9)  # 10 ms a token
    known = prices.counterfactual("box", usage=Usage(input_tokens=800, output_tokens=100), at_ns=AT_NS)
    assert known == Baseline(target="box", cost_nanos=Nanos(1_000_000), estimated=True)


def test_a_pace_follows_a_machine_that_gets_slower() -> None:
    pace = Pace()
    for _ in range(200):
        pace.learn(100, 100)
    for _ in range(1000):
        pace.learn(100, 300)
    assert pace.guess_ns(1000) == pytest.approx(3000, rel=0.01)


def compare(baseline: str, *, target: str, hit: str = "", cost: int | None = 0) -> tuple[Baseline, dict[str, Nanos]]:
    return Prices(TARGETS).compare(
        baseline,
        target=target,
        hit=hit,
        usage=GOLDEN,
        cost=Cost(None, "why", "") if cost is None else Cost(Nanos(cost), "", ""),
        at_ns=AT_NS,
    )


def test_a_hit_saves_all_that_the_baseline_would_have_cost() -> None:
    assert compare("mini", target="mini", hit="exact")[1] == {"exact": 151_200}
    assert compare("mini", target="own", hit="exact")[1] == {"exact": 151_200}


def test_a_local_model_instead_of_a_remote_one_saves_by_being_local() -> None:
    assert compare("mini", target="box", cost=1_000)[1] == {"local": 150_200}


def test_another_model_saves_by_the_route() -> None:
    assert compare("own", target="box", cost=1_000)[1] == {"route": 150_200}
    assert compare("mini", target="foreign", cost=1_000)[1] == {"route": 150_200}


def test_what_cost_more_than_the_baseline_is_a_loss_and_said_so() -> None:
    assert compare("mini", target="box", cost=200_000)[1] == {"local": -48_800}


def test_the_baseline_itself_saves_nothing_and_costs_what_it_cost() -> None:
    assert compare("mini", target="mini", cost=5) == (Baseline(target="mini", cost_nanos=Nanos(5)), {})
    assert compare("mini", target="mini", cost=None) == (Baseline(target="mini", why_unknown="why"), {})


def test_savings_are_unknown_where_the_cost_or_the_baseline_is() -> None:
    assert compare("mini", target="foreign", cost=None)[1] == {}
    assert compare("bare", target="mini", cost=5)[1] == {}


def test_a_hit_whose_tokens_are_not_known_has_no_known_baseline() -> None:
    found, saved = Prices(TARGETS).compare(
        "mini", target="mini", hit="exact", usage=None, cost=Cost(Nanos(0), "", ""), at_ns=AT_NS
    )
    assert (found.cost_nanos, saved) == (None, {})
    assert found.why_unknown


@given(st.integers(min_value=0, max_value=10**15), st.integers(min_value=0, max_value=10**15))
def test_levers_sum_to_baseline_minus_cost(baseline: int, spent: int) -> None:
    found = savings(Baseline(target="b", cost_nanos=Nanos(baseline)), cost=Nanos(spent), lever="route")
    assert sum(found.values()) == baseline - spent
