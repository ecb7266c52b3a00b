"""Why Gemini ended an answer, in OpenAI's words; or that what it gave is no answer.

Not here: prompts that were blocked before there was an answer (`gemini_answer.py`).
"""

from trivet.errors import UpstreamError

FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
}
"""OpenAI's word for each reason. One that is not here goes out as it is, in small letters."""

BROKEN = {
    "MALFORMED_FUNCTION_CALL": 502,
    "MALFORMED_RESPONSE": 502,
    "UNEXPECTED_TOOL_CALL": 502,
    "TOO_MANY_TOOL_CALLS": 502,
    "OTHER": 502,
    "NO_IMAGE": 502,
    "IMAGE_OTHER": 502,
    "MISSING_THOUGHT_SIGNATURE": 400,
}
"""Reasons by which Gemini says that this is no answer, and the status of the error that it becomes: as `stop` it would
look like an answer that is empty, and be kept for one."""


def finish_of(reason: str, words: str | None) -> str:
    """Give OpenAI's word for a `finishReason`; `words` is what Gemini says about it.

    Raises:
        UpstreamError: the reason says that this is no answer. Another target may give one, and this one was paid for.
    """
    if reason in BROKEN:
        kept = f"Gemini ended its answer with {reason}."
        message = f"{kept[:-1]}: {words}" if words else kept
        raise UpstreamError(message, status=BROKEN[reason], code=reason.lower(), kept=kept)
    return FINISHES.get(reason, reason.lower())
