"""A policy that holds legs of the triangle: what it refuses, where its requests go, and when they stay."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.routing.triangle.world import EASY, HARD, file
from trivet.config import parse
from trivet.errors import BadRequestError, ConfigError
from trivet.routing.policies import Policies
from trivet.routing.triangle.router import LearnedRouter, build, build_clusters, words_of
from trivet.seams import Known, Profile, Rates
from trivet.testing.cache_suite import ask
from trivet.testing.house import kit
from trivet.testing.router_suite import RouterSuite
from trivet.types import Candidate, Controls, Policy, Request

TARGETS = "".join(
    f'[targets.{name}]\nprovider = "openai"\nmodel = "{model}"\nbase_url = "http://127.0.0.1:9/v1"\n'
    for name, model in (("cheap", "tiny"), ("mid", "small"), ("dear", "large"))
)
RATES = {"cheap": Rates(1e-6, 4e-6, 1e-6), "dear": Rates(3e-6, 15e-6, 3e-7)}


class TestLearned(RouterSuite):
    def make(self) -> LearnedRouter:
        return build(parse("", source="t"), kit(Path("never-made")))


class TestClusters(RouterSuite):
    def make(self) -> LearnedRouter:
        return build_clusters(parse("", source="t"), kit(Path("never-made")))


def policy(folder: Path, text: str, *, pool: str = '["cheap", "dear"]') -> Policy:
    whole = f'{TARGETS}[policies.p]\npool = {pool}\nroute = "learned"\nrouter = "{folder / "router.trv"}"\n{text}'
    return Policies(parse(whole, source="trivet.toml")).find("p")


def made(
    folder: Path, text: str, *, profiles: Mapping[str, Profile] | None = None, by: Any = "learned", **more: Any
) -> tuple[LearnedRouter, Policy, list[str]]:
    file(folder)
    told: list[str] = []
    router = LearnedRouter(kit(folder)._replace(tell=told.append), by=by)
    found = policy(folder, text, **more)
    models = {"cheap": "tiny", "mid": "small", "dear": "large"}
    asyncio.run(router.compile([found], Known(models, profiles or {}, RATES)))
    return router, found, told


def said(*turns: str, **more: Any) -> Request:
    roles = ("user", "assistant")
    return ask(messages=[{"role": roles[i % 2], "content": t} for i, t in enumerate(turns)], **more)


def go(router: LearnedRouter, found: Policy, request: Request) -> tuple[Candidate, ...]:
    return asyncio.run(router.rank(request, found))


def test_the_cheap_one_gets_what_it_can_do_and_the_dear_one_the_rest(tmp_path: Path) -> None:
    router, found, told = made(tmp_path, 'quality = "0.9 of dear"')
    easy, hard = go(router, found, said(EASY)), go(router, found, said(HARD))
    assert [c.target for c in easy] == ["cheap", "dear"]
    assert [c.target for c in hard] == ["dear", "cheap"]
    assert easy[0].why.endswith("likely")
    assert easy[0].score > hard[1].score
    assert len(router.digest("p")) == 64
    assert len(told) == 1
    assert "At least 0.9 of dear's quality, 90% sure, by 900 labels of the outcomes of training." in told[0]


def test_clusters_part_ways_as_well(tmp_path: Path) -> None:
    router, found, told = made(tmp_path, 'quality = "0.9 of dear"', by="clusters")
    assert [go(router, found, said(text))[0].target for text in (EASY, HARD)] == ["cheap", "dear"]
    assert "by 900 labels" in told[0]


def test_a_stricter_floor_sends_more_to_the_dear_one_and_a_laxer_one_changes_nothing(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.5 of dear"')
    assert go(router, found, said(HARD))[0].target == "cheap"
    for quality, target in ((0.97, "dear"), (0.4, "cheap")):
        request = replace(said(HARD), controls=Controls(quality=quality))
        assert go(router, found, request)[0].target == target


def test_text_of_another_kind_goes_to_the_reference(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.5 of dear"')
    for text in ("", "Wie spät ist es jetzt bei euch drüben?", "日本の首都はどこですか"):
        first = go(router, found, said(text))[0]
        assert (first.target, first.why) == ("dear", "unfamiliar text")


def test_of_fewer_targets_the_best_that_is_left_is_asked(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"', pool='["cheap", "mid", "dear"]')
    smaller = replace(found, pool=("mid", "cheap"))
    assert [c.target for c in go(router, smaller, said(HARD))] == ["mid", "cheap"]
    assert [c.target for c in go(router, smaller, said(""))] == ["mid", "cheap"]


def test_quality_is_made_large_where_the_cost_is_held(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'maximize = "quality"\ncost = "$0.0012"')
    assert go(router, found, said(HARD))[0].target == "dear"
    assert go(router, found, said(EASY))[0].target == "cheap"
    router, found, _ = made(tmp_path, 'maximize = "quality"\ncost = "$1"')
    assert go(router, found, said(HARD))[0].target == "dear"


def test_latency_is_held_by_what_was_measured(tmp_path: Path) -> None:
    quick, slow = Profile(ttfts_s=(0.1,) * 100), Profile(ttfts_s=(2.0,) * 100)
    router, found, _ = made(
        tmp_path, 'quality = "0.8 of dear"\nminimize = "latency"', profiles={"cheap": quick, "dear": slow}
    )
    assert go(router, found, said(EASY))[0].target == "cheap"
    with pytest.raises(ConfigError, match=r"policies\.p: The time to the first token of dear was not measured"):
        made(tmp_path, 'quality = "0.8 of dear"\nttft = "p95 <= 800ms"', profiles={"cheap": quick})


def test_what_cannot_be_held_is_refused_with_what_can_be_had(tmp_path: Path) -> None:
    profiles = {"cheap": Profile(ttfts_s=(0.1,) * 100), "dear": Profile(ttfts_s=(2.0,) * 100)}
    with pytest.raises(ConfigError) as refused:
        made(tmp_path, 'quality = "0.98 of dear"\nttft = "p95 <= 800ms"', profiles=profiles)
    words = str(refused.value)
    assert "cannot be held together" in words
    assert "What can be had: quality" in words
    assert "first token in" in words
    router, found, _ = made(tmp_path, 'quality = "0.5 of dear"\nttft = "p95 <= 800ms"', profiles=profiles)
    with pytest.raises(BadRequestError, match=r"x-trivet-quality: 0\.98 cannot be held by 'p'.*What can be had"):
        go(router, found, replace(said(EASY), controls=Controls(quality=0.98)))


def test_with_too_few_labels_all_goes_to_the_reference_and_it_is_said(tmp_path: Path) -> None:
    file(tmp_path, n=900)
    router, found, told = made(tmp_path, 'quality = "1 of dear"\nconfidence = 0.99')
    first = go(router, found, said(EASY))[0]
    assert (first.target, first.why) == ("dear", "all to dear: too few labels")
    assert "dear 100%" in told[0]


def test_a_file_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"')
    path, before = tmp_path / "router.trv", go(router, found, said(EASY))
    whole = path.read_bytes()
    for data in (
        b"",
        whole[:-1],
        whole[: len(whole) // 2],
        b"trivetRT" + whole[9:],
        whole[:5000] + b"x" + whole[5001:],
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"router\.trv"):
            asyncio.run(router.compile([found], Known({"cheap": "tiny", "dear": "large"})))
        assert go(router, found, said(EASY)) == before
    path.unlink()
    with pytest.raises(ConfigError, match=r"router\.trv"):
        asyncio.run(router.compile([found], Known({"cheap": "tiny", "dear": "large"})))
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match=r"policies\.p: The router does not know 'dear'"):
        asyncio.run(router.compile([found], Known({"cheap": "tiny", "dear": "gpt-9"})))


def test_a_conversation_stays_where_its_prompt_is_cached_if_going_costs_more(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"')
    long = HARD + " tensor" * 6000
    assert go(router, found, said(long))[0].target == "dear"
    stays = go(router, found, said(long, "An answer.", EASY * 2))
    assert stays[0].target == "dear"
    assert "tokens are cached" in stays[0].why
    assert [c.target for c in stays] == ["dear", "cheap"]
    moved = go(router, found, said("Another beginning." + long, "An answer.", EASY * 2))
    assert moved[0].target == "cheap"


def test_it_goes_where_it_is_better_or_where_staying_saves_nothing(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"')
    long = EASY * 900
    assert go(router, found, said(long))[0].target == "cheap"
    assert go(router, found, said(long, "An answer.", HARD * 2))[0].target == "dear"
    assert go(router, found, said(HARD * 2))[0].target == "dear"
    assert go(router, found, said(HARD * 2, "Short.", EASY * 2))[0].target == "cheap"  # little is cached
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"\nsticky = "0s"')
    long = HARD + " tensor" * 6000
    assert go(router, found, said(long))[0].target == "dear"
    assert go(router, found, said(long, "An answer.", EASY * 2))[0].target == "cheap"


def test_what_is_routed_is_the_last_turn_or_more_where_that_is_short() -> None:
    assert words_of(said(EASY, "x", HARD * 2)) == HARD * 2
    assert words_of(said(EASY, "x", "why?")) == f"{EASY}\nwhy?"
    for prompt, words in (("tell me", "tell me"), (["one", "two"], "one"), ([1, 2], ""), ([], "")):
        assert words_of(replace(ask(prompt=prompt), kind="completions")) == words
    assert words_of(ask(messages=[{"role": 7}])) == ""


def test_a_policy_that_is_asked_on_anothers_account_is_routed_by_its_own_plan(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"')
    judging = replace(found, name="payer", known_as="p")
    assert [go(router, judging, said(text))[0].target for text in (EASY, HARD)] == ["cheap", "dear"]


def test_it_explains_itself(tmp_path: Path) -> None:
    router, found, _ = made(tmp_path, 'quality = "0.9 of dear"')
    told = router.explain(said(HARD), found)
    assert told["targets"]["dear"]["worth"] > told["targets"]["cheap"]["worth"]
    assert told["targets"]["cheap"]["price"] == pytest.approx(1e-5)
    assert (told["reference"], told["floor"], told["labels"]) == ("dear", 0.9, 900)
    assert [point["held"] for point in told["curve"]].count(True) == 1
    assert told["curve"][0]["shares"] == {"cheap": 0.0, "dear": 1.0}
