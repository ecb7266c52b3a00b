"""Gemini's `usageMetadata` as tokens: for the ledger (`types.Usage`), and as the `usage` that clients see.

Not here: prices. Gemini counts apart what others count inside: thoughts are not in `candidatesTokenCount`, and what
its own tools put before the model is not in `promptTokenCount`; both are billed, so both are added here. What it read
from a cache is inside `promptTokenCount`.
Invariant: parts are subsets of their wholes, or there is no usage at all.
"""

from typing import Any

import msgspec
from msgspec import Struct

from trivet.types import Usage

Json = dict[str, Any]


class _Modality(Struct, gc=False):
    modality: str = ""
    tokenCount: int = 0  # noqa: N815  # Gemini's name


class _Metadata(Struct, gc=False):
    promptTokenCount: int = 0  # noqa: N815  # Gemini's names, here and below
    toolUsePromptTokenCount: int = 0  # noqa: N815
    cachedContentTokenCount: int = 0  # noqa: N815
    candidatesTokenCount: int = 0  # noqa: N815
    thoughtsTokenCount: int = 0  # noqa: N815
    totalTokenCount: int = 0  # noqa: N815
    promptTokensDetails: list[_Modality] = []  # noqa: N815
    toolUsePromptTokensDetails: list[_Modality] = []  # noqa: N815
    candidatesTokensDetails: list[_Modality] = []  # noqa: N815


def counted(metadata: object) -> Usage | None:
    """Read the tokens; None where there are none, or where they say what cannot be."""
    if not isinstance(metadata, dict):
        return None
    try:
        m = msgspec.convert({name: value for name, value in metadata.items() if value is not None}, _Metadata)
    except msgspec.ValidationError:
        return None
    into, thoughts = m.promptTokenCount + m.toolUsePromptTokenCount, m.thoughtsTokenCount
    # Some of its servers count thoughts inside the candidates' tokens; their total tells.
    inside = thoughts and m.totalTokenCount == into + m.candidatesTokenCount
    usage = Usage(
        input_tokens=into,
        output_tokens=m.candidatesTokenCount + (0 if inside else thoughts),
        cached_tokens=m.cachedContentTokenCount,
        reasoning_tokens=thoughts,
        input_audio_tokens=_audio(m.promptTokensDetails) + _audio(m.toolUsePromptTokensDetails),
        output_audio_tokens=_audio(m.candidatesTokensDetails),
    )
    return usage if _possible(usage) else None


def _audio(details: list[_Modality]) -> int:
    return sum(one.tokenCount for one in details if one.modality == "AUDIO")


_MOST_TOKENS = 1_000_000_000  # as in `chat.py`: no answer has more


def _possible(u: Usage) -> bool:
    into, out = u.input_tokens, u.output_tokens
    return (
        into + out > 0
        and max(into, out) <= _MOST_TOKENS
        and all(0 <= part <= into for part in (0, u.cached_tokens, u.input_audio_tokens))
        and all(0 <= part <= out for part in (0, u.reasoning_tokens, u.output_audio_tokens))
    )


def told(usage: Usage, metadata: Json) -> Json:
    """Write OpenAI's `usage`; Gemini's own count is beside it, for what only it tells (pictures, tools, tiers)."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
        "extra_content": {"google": metadata},
    }
