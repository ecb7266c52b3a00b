"""What clients say of answers is kept where a policy says so, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge_kit import bearer, post, raw
from tests.labels.labels_kit import KEPT, Room, metrics, room
from trivet.labels.labels import MAX_TEXT
from trivet.routing.triangle.router import words_of
from trivet.testing.cache_suite import ask
from trivet.testing.upstream import Answer

pytestmark = pytest.mark.anyio


def key(here: Room, tenant: str) -> str:
    return (here.keys / tenant).read_text()


async def test_a_short_last_turn_is_kept_with_what_was_said_before_it_as_routers_read_it(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT) as here:
        turns = [("user", "How tall is Everest?"), ("assistant", "8,849 m"), ("user", "why?")]
        body: dict[str, Any] = {"model": "p", "messages": [{"role": role, "content": text} for role, text in turns]}
        await raw(here.url, post(body))
        ((prompt,),) = await here.rows("SELECT prompt FROM asked")
        assert prompt == words_of(ask(**body))
        assert "Everest" in prompt
        assert "8,849" not in prompt


async def test_an_answered_request_is_kept_with_what_a_router_learns_from(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT) as here:
        system = {"role": "system", "content": "Be brief."}
        earlier = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
        last = {"role": "user", "content": [{"type": "text", "text": "x" * MAX_TEXT}, {"type": "text", "text": "y"}]}
        body = {"model": "p", "messages": [system, *earlier, last], "trivet": {"feature": "sums"}}
        reply = await raw(here.url, post(body))
        (entry,) = await here.entries()
        (row,) = await here.rows("SELECT * FROM asked")
        assert row[1:10] == (reply.headers["x-trivet-id"], "local", "p", "x" * MAX_TEXT, "sums", "small", 1.0, "",
                             entry.outcome.cost_nanos)  # fmt: skip
        assert row[10:] == (entry.at_ns, entry.at_ns + 90 * 86_400 * 10**9)


@pytest.mark.parametrize("more", ["", "keep = false\n"])
async def test_without_a_word_for_it_nothing_is_kept_and_there_is_no_file(tmp_path: Path, more: str) -> None:
    quiet = KEPT.replace("[policies.p.labels]\nkeep = true\n", more and f"[policies.p.labels]\n{more}")
    async with room(tmp_path, quiet) as here:
        reply = await here.ask()
        status, told = await here.say(reply, label="good")
        assert (status, told["error"]["code"]) == (409, "no_labels")
        assert "`labels.keep = true`" in told["error"]["message"]
        assert not here.path.exists()


async def test_a_target_named_directly_and_requests_without_an_answer_are_not_kept(tmp_path: Path) -> None:
    async with room(
        tmp_path, KEPT, small=lambda body: Answer(status=400), large=lambda body: Answer(pieces=("x",))
    ) as here:
        direct, failed = await here.ask(model="large"), await here.ask()
        assert (direct.status, failed.status) == (200, 400)
        assert [(await here.say(reply, score=1))[0] for reply in (direct, failed)] == [409, 409]
        assert "was not answered (failed)" in (await here.say(failed, score=1))[1]["error"]["message"]
        assert await here.rows("SELECT * FROM asked") == []


@pytest.mark.parametrize(
    ("words", "score"),
    [({"score": 0.25}, 0.25), ({"label": "good"}, 1.0), ({"label": "bad"}, 0.0), ({"wrong": True}, 0.0)],
    ids=str,
)
async def test_feedback_becomes_a_label_of_the_target_that_answered(
    tmp_path: Path, words: dict[str, Any], score: float
) -> None:
    async with room(tmp_path, KEPT) as here:
        reply = await here.ask()
        id_ = reply.headers["x-trivet-id"]
        assert await here.say(reply, **words) == (200, {"id": id_, "object": "trivet.feedback", "score": score})
        found = await here.rows("SELECT id, target, source, score, propensity, reference FROM labels")
        assert found == [(id_, "small", "feedback", score, 1.0, 0)]


async def test_the_last_word_counts_and_is_the_only_one(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT) as here:
        reply = await here.ask()
        for score in (0.0, 1.0, 0.5):
            assert (await here.say(reply, score=score))[0] == 200
        assert await here.rows("SELECT score FROM labels") == [(0.5,)]
        told = await metrics(here)
        assert told['trivet_labels_total{source="feedback"}'] == 3
        assert told["trivet_labels_asked_total{}"] == 1


async def test_another_tenant_s_request_is_unknown_in_the_words_of_one_that_never_was(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT, tenants=("acme", "globex")) as here:
        reply = await here.ask(key=key(here, "acme"))
        id_ = reply.headers["x-trivet-id"]
        theirs = await here.say(id_, label="bad", key=key(here, "globex"))
        never = await here.say(id_[:-1] + "z", label="bad", key=key(here, "globex"))
        assert theirs[0] == never[0] == 404
        assert theirs[1]["error"]["code"] == "unknown_request"
        assert theirs[1]["error"]["message"] == never[1]["error"]["message"].replace(id_[:-1] + "z", id_)
        assert await here.rows("SELECT * FROM labels") == []
        assert (await here.say(id_, label="good", key=key(here, "acme")))[0] == 200
        nobody = await raw(here.url, post({"id": id_, "label": "bad"}, path="/trivet/v1/feedback"))
        stranger = await raw(
            here.url, post({"id": id_, "label": "bad"}, bearer("sk-trivet-x"), path="/trivet/v1/feedback")
        )
        assert (nobody.status, stranger.status) == (401, 401)
        assert await here.rows("SELECT score FROM labels") == [(1.0,)]


async def test_of_a_hit_it_can_be_said_that_it_was_wrong_and_no_more(tmp_path: Path) -> None:
    async with room(tmp_path, KEPT.replace('judge = "equality"', 'judge = "equality"\nmode = "exact"')) as here:
        await here.ask()
        hit = await here.ask()
        assert hit.headers["x-trivet-cache"].startswith("hit")
        status, told = await here.say(hit, score=0.5)
        assert (status, told["error"]["code"]) == (409, "no_labels")
        assert "came from the cache" in told["error"]["message"]
        assert await here.rows("SELECT count(*) FROM asked") == [(1,)]


async def test_a_disk_that_is_gone_costs_the_client_of_feedback_a_word_and_the_others_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "labels.db").mkdir()  # a folder where the file should be
    async with room(tmp_path, KEPT) as here:
        replies = [await here.ask(str(n)) for n in range(20)]
        assert {reply.status for reply in replies} == {200}
        assert len(await here.entries()) == 20
        status, told = await here.say(replies[0], label="good")
        assert (status, told["error"]["code"]) == (503, "labels_unavailable")
        assert (await metrics(here))['trivet_labels_troubles_total{kind="disk"}'] > 0
        assert sum("cannot be written" in line for line in here.told) == 1


async def test_openapi_says_what_feedback_is(tmp_path: Path) -> None:
    from tests.edge_kit import get

    async with room(tmp_path, KEPT) as here:
        reply = await raw(here.url, get("/openapi.json"))
        schema = json.loads(reply.body)["components"]["schemas"]["Feedback"]
        assert set(schema["properties"]) == {"id", "score", "label", "wrong", "wrong_hit"}
        assert schema["required"] == ["id"]
