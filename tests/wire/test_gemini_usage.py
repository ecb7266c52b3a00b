"""Gemini's token counts become ours: parts are inside their wholes, and what cannot be is nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.types import Usage
from trivet.wire.chat import read_usage
from trivet.wire.gemini_usage import counted, told

GOLDEN = Path(__file__).parent / "golden" / "gemini"


def test_cached_and_audio_tokens_are_parts_of_the_prompt() -> None:
    metadata = json.loads((GOLDEN / "audio_cached.json").read_text())["usageMetadata"]
    usage = counted(metadata)
    assert usage == Usage(input_tokens=5000, output_tokens=3, cached_tokens=4096, input_audio_tokens=800)
    assert told(usage, metadata)["extra_content"]["google"]["promptTokensDetails"][1]["tokenCount"] == 800


def test_thoughts_that_are_counted_inside_the_answer_are_not_counted_twice() -> None:
    apart = {"promptTokenCount": 4, "candidatesTokenCount": 10, "thoughtsTokenCount": 6, "totalTokenCount": 20}
    inside = apart | {"totalTokenCount": 14}
    for metadata, output in ((apart, 16), (inside, 10)):
        usage = counted(metadata)
        assert usage == Usage(input_tokens=4, output_tokens=output, reasoning_tokens=6)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        7,
        {},
        {"promptTokenCount": "many"},
        {"promptTokenCount": -1, "candidatesTokenCount": 3},
        {"promptTokenCount": 3, "cachedContentTokenCount": 4},
        {"promptTokenCount": 3, "candidatesTokenCount": 10**10},
        {"promptTokenCount": 3, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}]},
    ],
)
def test_what_cannot_be_is_no_usage(metadata: Any) -> None:
    assert counted(metadata) is None


COUNT = st.integers(0, 1000)


@given(st.fixed_dictionaries({}, optional={
    "promptTokenCount": COUNT, "toolUsePromptTokenCount": COUNT, "cachedContentTokenCount": COUNT,
    "candidatesTokenCount": COUNT, "thoughtsTokenCount": COUNT, "totalTokenCount": COUNT,
}))  # fmt: skip
def test_what_clients_see_is_what_the_ledger_keeps(metadata: dict[str, int]) -> None:
    usage = counted(metadata)
    if usage is None:
        cached, into = metadata.get("cachedContentTokenCount", 0), metadata.get("promptTokenCount", 0)
        into += metadata.get("toolUsePromptTokenCount", 0)
        out = metadata.get("candidatesTokenCount", 0)
        assert cached > into or metadata.get("thoughtsTokenCount", 0) > out or not into + out
        return
    assert read_usage(json.dumps(told(usage, metadata)).encode()) == usage
