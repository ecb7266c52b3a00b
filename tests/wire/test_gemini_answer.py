"""Gemini's answers become chat completions: transcripts of its wire format, and streams cut anywhere."""

import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UpstreamError
from trivet.testing.cache_suite import ask
from trivet.types import Chunk, Usage
from trivet.wire.answer import join
from trivet.wire.chat import read_piece
from trivet.wire.gemini_answer import Answer
from trivet.wire.sse import Events

GOLDEN = Path(__file__).parent / "golden" / "gemini"
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))
Json = dict[str, Any]


def whole(name: str) -> tuple[Json, Chunk]:
    chunk = Answer(ask()).answer((GOLDEN / name).read_bytes())
    return json.loads(chunk.data), chunk


def message(name: str) -> Json:
    document, _ = whole(name)
    return document["choices"][0]["message"]  # type: ignore[no-any-return]  # JSON


def streamed(data: bytes, cuts: Sequence[int] = ()) -> tuple[list[Chunk], Answer]:
    answer, events, chunks = Answer(ask(stream=True)), Events(), list[Chunk]()
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        for event in events.feed(data[start:end]):
            chunks += answer.event(event)
    rest = events.unfinished()
    return chunks + list(() if rest is None else answer.event(rest)), answer


def stream(name: str) -> tuple[list[Json], list[Chunk], Answer]:
    chunks, answer = streamed((GOLDEN / name).read_bytes())
    return [json.loads(chunk.data) for chunk in chunks], chunks, answer


def test_a_whole_answer_is_a_chat_completion_with_all_its_tokens() -> None:
    document, chunk = whole("text.json")
    assert document["id"] == "m5sgaYrcGpOkkdUP2bGaqQk"
    assert (document["object"], document["model"]) == ("chat.completion", "gemini-2.5-flash")
    (choice,) = document["choices"]
    assert choice["message"] == {"role": "assistant", "content": "A trivet has three legs."}
    assert choice["finish_reason"] == "stop"
    assert chunk.usage == Usage(input_tokens=8, output_tokens=28, reasoning_tokens=21)  # thoughts are paid for
    assert (chunk.speaks, chunk.finish, chunk.model) == (True, "stop", "gemini-2.5-flash")
    usage = document["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (8, 28, 36)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 21


def test_a_stream_ends_with_its_reason_and_then_the_last_count_of_tokens() -> None:
    documents, chunks, answer = stream("text.sse")
    text = [d["choices"][0]["delta"].get("content") for d in documents if d["choices"]]
    assert text == ["A trivet", " has three", " legs: ünï ✓.", None]
    assert documents[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk.finish for chunk in chunks] == [None, None, None, "stop", None]
    assert [chunk.speaks for chunk in chunks] == [True, True, True, False, False]
    assert [d["usage"]["completion_tokens"] for d in documents if "usage" in d] == [32]
    assert chunks[-1].usage == Usage(input_tokens=8, output_tokens=32, reasoning_tokens=21)
    assert answer.whole
    assert not answer.over


def test_what_was_counted_so_far_is_known_when_a_stream_is_left() -> None:
    _, chunks, _ = stream("text.sse")
    assert [chunk.usage.output_tokens for chunk in chunks if chunk.usage] == [23, 25, 32, 32]
    _, chunks, _ = stream("thoughts.sse")
    assert chunks[0].usage is None  # it has not counted what it says yet


def test_thoughts_are_reasoning_and_their_signature_comes_with_the_end() -> None:
    documents, chunks, _ = stream("thoughts.sse")
    deltas = [d["choices"][0]["delta"] for d in documents if d["choices"]]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == ("**Counting legs**\n\nA trivet stands on three.")
    assert "".join(d.get("content") or "" for d in deltas) == "Three."
    assert deltas[-1] == {"extra_content": {"google": {"thought_signature": "EpwCCpkCAXLI2nwx"}}}
    assert chunks[0].speaks


@pytest.mark.parametrize("name", ["calls.json", "calls.sse"])
def test_calls_come_whole_with_ids_and_signatures(name: str) -> None:
    if name.endswith("json"):
        document, chunk = whole(name)
        finish = chunk.finish
    else:
        documents, chunks, _ = stream(name)
        indexes = [call["index"] for d in documents for c in d["choices"] for call in c["delta"].get("tool_calls", ())]
        assert indexes == [0, 1]
        document = json.loads(join([chunk.data for chunk in chunks]))
        finish = next(chunk.finish for chunk in chunks if chunk.finish)
    first, second = document["choices"][0]["message"]["tool_calls"]
    assert first == {
        "id": "wmq0e8p1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Paris","days":2}'},
        "extra_content": {"google": {"thought_signature": "CiQBcsjafA=="}},
    }
    assert (second["id"], "extra_content" in second) == ("x1k9b2aa", False)
    assert document["choices"][0]["finish_reason"] == finish == "tool_calls"


def test_ids_are_made_where_there_are_none_and_are_the_same_each_time() -> None:
    ids = [call["id"] for call in message("calls_without_ids.json")["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(len(one) <= 40 for one in ids)  # OpenAI's limit
    assert ids == [call["id"] for call in message("calls_without_ids.json")["tool_calls"]]
    other = json.loads((GOLDEN / "calls_without_ids.json").read_text()) | {"responseId": "another"}
    made = json.loads(Answer(ask()).answer(json.dumps(other).encode()).data)["choices"][0]["message"]["tool_calls"]
    assert not {call["id"] for call in made} & set(ids)


def test_several_candidates_keep_apart_and_the_answer_is_whole_when_all_have_ended() -> None:
    document, chunk = whole("candidates.json")
    assert [(c["index"], c["finish_reason"]) for c in document["choices"]] == [(0, "stop"), (1, "length")]
    assert chunk.usage == Usage(input_tokens=5, output_tokens=10)
    data = (GOLDEN / "candidates.sse").read_bytes()
    chunks, answer = streamed(data)
    joined = json.loads(join([chunk.data for chunk in chunks]))
    assert [c["message"]["content"] for c in joined["choices"]] == ["Heads.", "Tails, and the coin rolled"]
    assert [chunk.finish for chunk in chunks if chunk.finish] == ["stop", "length"]
    assert joined["usage"]["completion_tokens"] == 10
    _, cut = streamed(b"\r\n\r\n".join(data.split(b"\r\n\r\n")[:2]) + b"\r\n\r\n")
    assert answer.whole
    assert not cut.whole


@pytest.mark.parametrize("name", ["blocked.json", "blocked.sse"])
def test_a_blocked_prompt_is_an_answer_that_was_filtered(name: str) -> None:
    if name.endswith("json"):
        document, chunk = whole(name)
        finish, usage = chunk.finish, chunk.usage
    else:
        _, chunks, answer = stream(name)
        document = json.loads(join([chunk.data for chunk in chunks]))
        finish, usage = next(c.finish for c in chunks if c.finish), chunks[-1].usage
        assert answer.whole
    (choice,) = document["choices"]
    assert choice["message"]["refusal"] == "Gemini blocked the prompt: PROHIBITED_CONTENT."
    assert not choice["message"]["content"]
    assert choice["finish_reason"] == finish == "content_filter"
    assert usage == Usage(input_tokens=14, output_tokens=0)
    assert document["extra_content"]["google"]["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"


def test_an_answer_that_was_filtered_says_by_what() -> None:
    document, chunk = whole("safety.json")
    assert chunk.finish == "content_filter"
    google = document["choices"][0]["message"]["extra_content"]["google"]
    assert google["finishReason"] == "SAFETY"
    assert google["safetyRatings"][0]["category"] == "HARM_CATEGORY_HARASSMENT"


def test_pictures_and_code_are_kept_as_parts_of_googles() -> None:
    said = message("image.json")
    assert said["content"] == "Here it is."
    (part,) = said["extra_content"]["google"]["parts"]
    assert part["inlineData"] == {"mimeType": "image/png", "data": "iVBORw0KGgo="}
    assert part["thoughtSignature"] == "Cs0BAdHtim8="
    said = message("code.json")
    assert said["content"] == "I compute it.It is 1024."
    assert [part.keys() - {"index"} for part in said["extra_content"]["google"]["parts"]] == [
        {"executableCode"},
        {"codeExecutionResult"},
    ]
    _, chunks, _ = stream("code.sse")
    joined = json.loads(join([chunk.data for chunk in chunks]))["choices"][0]["message"]
    assert joined["content"] == said["content"]
    assert joined["extra_content"] == said["extra_content"]


def test_what_tools_of_googles_put_before_the_model_is_input() -> None:
    _, chunk = whole("code.json")
    assert chunk.usage == Usage(input_tokens=120, output_tokens=58, reasoning_tokens=28)


def test_sources_and_citations_are_kept() -> None:
    google = message("grounded.json")["extra_content"]["google"]
    assert google["groundingMetadata"]["groundingChunks"][0]["web"]["uri"] == "https://example.org/a"
    assert google["citationMetadata"]["citations"][0]["endIndex"] == 5


def test_citations_of_a_stream_add_up() -> None:
    answer = Answer(ask(stream=True))
    for at in (1, 2):
        piece = {"content": {"parts": [{"text": "x"}]}, "citationMetadata": {"citations": [{"startIndex": at}]}}
        answer.event(json.dumps({"candidates": [piece]}).encode())
    (end,) = answer.event(b'{"candidates":[{"finishReason":"STOP"}]}')
    google = json.loads(end.data)["choices"][0]["delta"]["extra_content"]["google"]
    assert google == {"citationMetadata": {"citations": [{"startIndex": 1}, {"startIndex": 2}]}}


def test_log_probabilities_have_openais_shape() -> None:
    document, _ = whole("logprobs.json")
    first, second = document["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("H", -0.1, [72])
    assert [top["token"] for top in first["top_logprobs"]] == ["H", "J"]
    assert second["bytes"] == [195, 169]


@pytest.mark.parametrize("name", ["malformed_call.json"])
def test_an_answer_that_gemini_calls_broken_is_an_error_that_another_target_may_mend(name: str) -> None:
    for read in (Answer(ask()).answer, Answer(ask(stream=True)).event):
        with pytest.raises(UpstreamError, match="MALFORMED_FUNCTION_CALL") as caught:
            read((GOLDEN / name).read_bytes())
        error = caught.value
        assert (error.status, error.code, error.again, error.spent) == (502, "malformed_function_call", True, True)
        assert "default_api" not in error.kept


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("RECITATION", "content_filter"), ("CONTINUATION", "length"), ("SOMETHING_NEW", "something_new")],
)
def test_each_reason_has_a_word(reason: str, finish: str) -> None:
    body = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": reason}]}
    document = json.loads(Answer(ask()).answer(json.dumps(body).encode()).data)
    assert document["choices"][0]["finish_reason"] == finish
    assert document["choices"][0]["message"]["extra_content"]["google"]["finishReason"] == reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "no candidates"),
        (b'{"candidates":[]}', "no candidates"),
        (b'{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}', "why it ended"),
        (b"[]", "not an answer of Gemini"),
        (b"nope", "not an answer of Gemini"),
        (b"7", "not an answer of Gemini"),
        (b'{"candidates":[{"content":{"parts":[{"text":7}]},"finishReason":"STOP"}]}', "not an answer of Gemini"),
        (b'{"candidates":[{"content":{"parts":["x"]},"finishReason":"STOP"}]}', "not an answer of Gemini"),
        (b'{"candidates":7}', "not an answer of Gemini"),
        (b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]},"finishReason":"STOP"}]}', "not an answer"),
        (b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}', "overloaded"),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_so(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        Answer(ask()).answer(body)


def test_text_is_text_whatever_else_its_part_says() -> None:
    part = {"text": "Hi.", "speechMetadata": {"speaker": "a"}}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    said = json.loads(Answer(ask()).answer(json.dumps(body).encode()).data)["choices"][0]["message"]
    assert said["content"] == "Hi."
    assert said["extra_content"]["google"] == {"speechMetadata": {"speaker": "a"}}


def test_a_call_in_pieces_is_an_error_and_not_several_calls() -> None:
    call = {"name": "f", "willContinue": True, "partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}
    body = {"candidates": [{"content": {"parts": [{"functionCall": call}]}}]}
    with pytest.raises(UpstreamError, match="streamFunctionCallArguments"):
        Answer(ask(stream=True)).event(json.dumps(body).encode())


def test_an_error_inside_a_stream_keeps_its_status() -> None:
    answer = Answer(ask(stream=True))
    answer.event(b'{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}')
    with pytest.raises(UpstreamError) as caught:
        answer.event(b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}')
    assert (caught.value.status, caught.value.code) == (503, "UNAVAILABLE")


def test_tokens_that_are_counted_after_the_end_go_out_too() -> None:
    answer = Answer(ask(stream=True))
    end = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    first = {"promptTokenCount": 3, "candidatesTokenCount": 1}
    chunks = list(answer.event(json.dumps(end | {"usageMetadata": first}).encode()))
    later = {"usageMetadata": first | {"candidatesTokenCount": 5}}
    chunks += answer.event(json.dumps(later).encode())
    chunks += answer.event(json.dumps(later).encode())
    assert [c.usage.output_tokens for c in chunks if c.usage and not c.speaks] == [1, 5]


@pytest.mark.parametrize("name", STREAMS)
def test_every_chunk_says_what_its_document_says(name: str) -> None:
    _, chunks, _ = stream(name)
    for chunk in chunks:
        again = read_piece(chunk.data, streamed=True)
        assert (again.speaks or bool(again.finish), again.finish) == (chunk.speaks or bool(chunk.finish), chunk.finish)
        assert again.usage is None or again.usage == chunk.usage


@given(st.sampled_from(STREAMS), st.data())
def test_however_a_stream_is_cut_the_same_chunks_come_out(name: str, data: st.DataObject) -> None:
    raw = (GOLDEN / name).read_bytes()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    assert streamed(raw, cuts)[0] == streamed(raw)[0]


PARTS = st.lists(
    st.one_of(
        st.builds(lambda text, thought: {"text": text, "thought": thought}, st.text(max_size=5), st.booleans()),
        st.builds(
            lambda name, args: {"functionCall": {"name": name, "args": args}},
            st.text(max_size=5),
            st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=2),
        ),
        st.builds(lambda data: {"inlineData": {"mimeType": "image/png", "data": data}}, st.text(max_size=3)),
    ),
    max_size=6,
)


@given(PARTS, st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]), st.data())
def test_a_stream_put_together_is_the_whole_answer(parts: list[Json], reason: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(parts)))
    head = {"responseId": "r", "modelVersion": "gemini-x"}
    pieces = [parts[:at], parts[at:]]
    answer, documents = Answer(ask(stream=True)), list[bytes]()
    for some, more in zip(pieces, ({}, {"finishReason": reason}), strict=True):
        event = {"candidates": [{"content": {"parts": some, "role": "model"}, **more}], **head}
        documents += [chunk.data for chunk in answer.event(json.dumps(event).encode())]
    entire = {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason}], **head}
    one = json.loads(Answer(ask()).answer(json.dumps(entire).encode()).data)
    two = json.loads(join(documents))
    for document in (one, two):
        document["choices"][0]["message"]["content"] = document["choices"][0]["message"]["content"] or ""
        document["choices"][0].pop("logprobs", None)
    assert two == one


WORDS = (
    "candidates content parts text functionCall finishReason usageMetadata index promptFeedback blockReason "
    "logprobsResult chosenCandidates citationMetadata error"
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_a_target_says_is_an_answer_or_an_upstream_error(document: Any) -> None:
    for convert in (Answer(ask()).answer, Answer(ask(stream=True)).event):
        made: Any = None
        with suppress(UpstreamError):  # and nothing else
            made = convert(json.dumps(document).encode())
        assert all(json.loads(chunk.data) for chunk in ([made] if isinstance(made, Chunk) else made or ()))
