"""A learned cascade on live traffic: the floor holds on fresh answers, every call counted, one request at a time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.routing.cascade.world import MODELS, answers, file
from trivet.config import parse
from trivet.errors import ConfigError
from trivet.routing.cascade.live import REMEMBERED, Lengths
from trivet.routing.cascade.router import CascadeRouter
from trivet.routing.learned import learned
from trivet.routing.learned.data import Outcomes, read_outcomes
from trivet.routing.policies import Policies
from trivet.routing.triangle import calibration
from trivet.seams import Heard, Known
from trivet.testing.cache_suite import ask
from trivet.types import Policy, Request, Usage

TARGETS = "".join(
    f'[targets.t{m}]\nprovider = "openai"\nmodel = "{m}"\nbase_url = "http://127.0.0.1:9/v1"\n' for m in MODELS
)
POOL = '["ta", "tb", "tc", "tlarge"]'


def policy(folder: Path, more: str = 'quality = "0.95"\n', *, pool: str = POOL, router: Path | None = None) -> Policy:
    file(folder)
    head = f'{TARGETS}[policies.p]\npool = {pool}\nroute = "cascade"\nrouter = "{router or folder / "router.trv"}"\n'
    return Policies(parse(head + more, source="trivet.toml")).find("p")


def made(folder: Path, more: str = 'quality = "0.95"\n', **options: Any) -> tuple[CascadeRouter, Policy, list[str]]:
    told: list[str] = []
    found = policy(folder, more, **options)
    router = CascadeRouter(("p",), None, told.append)
    asyncio.run(router.compile([found], Known({f"t{model}": model for model in MODELS})))
    return router, found, told


def about(text: str) -> Request:
    return ask(messages=[{"role": "user", "content": text}])


def heard(target: str, content: str, tokens: int) -> Heard:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}
    return Heard(target, json.dumps(body).encode(), "stop", Usage(input_tokens=9, output_tokens=tokens))


async def one(
    router: CascadeRouter, found: Policy, text: str, told: dict[str, tuple[str, int]]
) -> tuple[str, list[str]]:
    """Serve one prompt whose answers are on record; gives who is served, and who was called."""
    request = about(text)
    ranked = await router.rank(request, found)
    if not ranked[0].weighed:
        return ranked[0].target, [ranked[0].target]
    called: list[str] = []
    answers_: list[Heard] = []
    for _ in range(9):
        step = await router.weigh(request, found, answers_, (), last=False)
        if step.take is not None:
            return answers_[step.take].target, called
        if step.relay:
            return step.relay, [*called, step.relay]
        called += step.ask
        answers_ += [heard(name, *told[name]) for name in step.ask]
    raise AssertionError


def fresh(folder: Path, *, seed: int) -> tuple[Outcomes, list[dict[str, tuple[str, int]]], list[dict[str, float]]]:
    read = read_outcomes(answers(folder / f"fresh{seed}", n=600, seed=seed))
    told: list[dict[str, tuple[str, int]]] = [{} for _ in read.prompts.pids]
    right: list[dict[str, float]] = [{} for _ in read.prompts.pids]
    lengths = read.numbers["out_tok"]
    for i, model, said, tokens in zip(read.prompt, read.model, read.answers, lengths, strict=True):
        told[i][f"t{read.models[model]}"] = (said, int(tokens))
    scores = read.matrix()
    for i in range(len(right)):
        right[i] = {f"t{model}": float(scores[i, j]) for j, model in enumerate(read.models)}
    return read, told, right


@pytest.mark.parametrize("together", ["true", "false"])
def test_the_floor_holds_on_fresh_answers_for_less(tmp_path: Path, together: str) -> None:
    router, found, told = made(tmp_path, f'quality = "0.95"\ncascade = {{ together = {together} }}\n')
    assert told[0].startswith("Policy 'p': "), told
    assert "first, tlarge where they do not settle it" in told[0]
    read, said, right = fresh(tmp_path, seed=7)

    async def all_of_it() -> list[tuple[str, list[str]]]:
        return [await one(router, found, text, said[i]) for i, text in enumerate(read.prompts.texts)]

    results = asyncio.run(all_of_it())
    quality = sum(right[i][served] for i, (served, _) in enumerate(results))
    large = sum(row["tlarge"] for row in right)
    cost = sum(MODELS[name[1:]][2] for _, called in results for name in called)
    assert quality >= 0.95 * large
    assert cost < 0.75 * len(results) * MODELS["large"][2]
    assert {len(called) for _, called in results} <= ({1, 3, 4} if together == "true" else {1, 2, 3, 4})
    first = asyncio.run(router.weigh(about(read.prompts.texts[0]), found, (), (), last=False)).ask
    assert len(first) == (3 if together == "true" else 1)


def test_models_that_training_never_saw_have_stand_ins_and_are_told(tmp_path: Path) -> None:
    pool = '["ta", "tnew", "tlarge"]'
    target = '[targets.tnew]\nprovider = "openai"\nmodel = "new"\nprice = { input = "$1", output = "$1" }\n'
    file(tmp_path)
    text = f'{TARGETS}{target}[policies.p]\npool = {pool}\nroute = "cascade"\nrouter = "{tmp_path / "router.trv"}"\n'
    found = Policies(parse(f'{text}quality = "0.9"\n', source="t")).find("p")
    router = CascadeRouter(("p",), None)
    with pytest.raises(ConfigError, match=r"what a call to ta and tnew and tlarge costs is not known.*Set `price`"):
        asyncio.run(router.compile([found], Known({"tnew": "new", "ta": "a", "tlarge": "large"})))


def test_where_nothing_is_proven_all_goes_to_the_large_one_and_the_operator_is_told(tmp_path: Path) -> None:
    router, found, told = made(tmp_path, 'quality = "1"\nconfidence = 0.999\n')
    assert (
        "all to tlarge. 1,200 labels of the outcomes of training do not show that a cascade keeps the floor for less."
        in told[0]
    )
    first = asyncio.run(router.rank(about("About x?"), found))[0]
    assert (first.target, first.weighed, first.why) == ("tlarge", False, "too few labels")


def test_text_that_training_says_nothing_of_goes_to_the_large_one(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path)
    first = asyncio.run(router.rank(about("Wie spät ist es jetzt bei euch drüben?"), found))[0]
    assert (first.target, first.why) == ("tlarge", "unfamiliar text")


def test_a_smaller_pool_has_no_rule(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path)
    smaller = replace(found, pool=("ta", "tb", "tlarge"))
    first = asyncio.run(router.rank(about("About x?"), smaller))[0]
    assert (first.target, first.why) == ("tlarge", "not all of the pool can answer")


def test_where_the_large_one_fails_the_best_of_the_others_is_served(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path)
    said = [heard("ta", "1", 60), heard("tb", "2", 60), heard("tc", "", 60), Heard("tlarge", None, why="failed: 503")]
    step = asyncio.run(router.weigh(about("About x?"), found, said, (), last=False))
    assert step.take in (0, 1)
    assert step.why == "the large target failed"
    nobody = [Heard(name, None, why="failed: 500") for name in found.pool]
    step = asyncio.run(router.weigh(about("About x?"), found, nobody, (), last=False))
    assert (step.take, step.relay, step.ask) == (None, "", ())


def test_a_router_without_a_cascade_is_refused(tmp_path: Path) -> None:
    read = answers(tmp_path / "plain", n=300, ans=False)
    learned.train(read_outcomes(read), date="2026-11-23").save(tmp_path / "plain.trv")
    with pytest.raises(ConfigError, match="no cascade"):
        asyncio.run(CascadeRouter(("p",), None).compile([policy(tmp_path, router=tmp_path / "plain.trv")], Known({})))


@given(st.lists(st.integers(1, 500), max_size=REMEMBERED * 2))
def test_lengths_are_placed_among_the_last_ones(told: list[int]) -> None:
    lengths = Lengths()
    for tokens in told:
        lengths.note(tokens)
    last = sorted(told[-REMEMBERED:])
    for tokens in (0, 250, 501):
        below, upto = sum(n < tokens for n in last), sum(n <= tokens for n in last)
        assert lengths.place(tokens) == ((below + upto) / (2 * len(last)) if len(last) >= 30 else 0.5)


def test_labels_of_ones_own_traffic_are_what_the_floor_rests_on(tmp_path: Path) -> None:
    """Here the cheap ones are not what they were in training: all of them are as bad as d is."""
    own = {"a": "d", "b": "d", "c": "d", "large": "large"}
    read = read_outcomes(answers(tmp_path / "own", n=500, seed=3, models=own))
    router = learned.load(file(tmp_path))
    section, trained_on = calibration.section(router, read)
    assert trained_on == 0
    router.others[calibration.NAME] = section
    router.save(tmp_path / "own.trv")
    made_, found, told = made(tmp_path, 'quality = "0.9"\n', router=tmp_path / "own.trv")
    _, _, before = made(tmp_path, 'quality = "0.9"\n')
    assert "labels of calibration." in told[0]
    assert "labels of the outcomes of training." in before[0]
    fresh_ = read_outcomes(answers(tmp_path / "fresh", n=500, seed=4, models=own))
    scores, lengths = fresh_.matrix(), fresh_.numbers["out_tok"]
    said: list[dict[str, tuple[str, int]]] = [{} for _ in fresh_.prompts.pids]
    for i, model, ans, tokens in zip(fresh_.prompt, fresh_.model, fresh_.answers, lengths, strict=True):
        said[i][f"t{fresh_.models[model]}"] = (ans, int(tokens))

    async def quality() -> float:
        total = 0.0
        for i, text in enumerate(fresh_.prompts.texts):
            served, _ = await one(made_, found, text, said[i])
            total += scores[i, fresh_.models.index(served[1:])]
        return total

    assert asyncio.run(quality()) >= 0.9 * scores[:, fresh_.models.index("large")].sum()


def test_a_calibration_without_answers_leaves_cascades_to_the_training(tmp_path: Path) -> None:
    router = learned.load(file(tmp_path))
    read = read_outcomes(answers(tmp_path / "own", n=200, seed=3, ans=False))
    router.others[calibration.NAME], _ = calibration.section(router, read)
    router.save(tmp_path / "own.trv")
    _, _, told = made(tmp_path, 'quality = "0.9"\n', router=tmp_path / "own.trv")
    assert "labels of the outcomes of training." in told[0]


def test_where_answers_agree_no_more_all_go_to_the_large_one_and_some_are_tried(tmp_path: Path) -> None:
    router, found, told = made(tmp_path, 'quality = "0.9"\n')
    text = read_outcomes(answers(tmp_path / "some", n=60, seed=5)).prompts.texts
    texts = [one for one in text if not router._floors["p"]._made[None].at_once(one)]

    async def asked(count: int, *, agree: bool) -> list[tuple[str, int]]:
        ends = []
        for i in range(count):
            same = {name: (f"{i}" if agree else f"{name} {i}", 60) for name in found.pool[:-1]}
            served, called = await one(router, found, texts[i % len(texts)], same)
            ends.append((served, len(called)))
        return ends

    assert {served for served, _ in asyncio.run(asked(1100, agree=True))} == {"ta"}
    assert not router.drifted()["p"]
    before = asyncio.run(asked(300, agree=False))
    assert router.drifted()["p"]
    assert "Policy 'p': cheap answers agree on another share of the requests than before" in told[-1]
    assert "All go to the large one meanwhile, and one in 10 to both." in told[-1]
    assert before[-1] == ("tlarge", 1)
    after = asyncio.run(asked(100, agree=True))
    assert {served for served, _ in after} == {"tlarge"}, "whoever is tried is not served"
    assert sum(called > 1 for _, called in after) == 10
    asyncio.run(asked(2500, agree=True))
    assert not router.drifted()["p"]
    assert told[-1] == "Policy 'p': cheap answers agree as often as before again."
    same = CascadeRouter(("p",), None)
    same.follow(router)
    assert same._drifts["p"] is not router._drifts["p"], "another configuration is another rate"
