"""Errors of Google's APIs (`google.rpc.Status` as JSON) in OpenAI's shape; and our own refusal to ask at all.

Not here: reasons for which an answer ended (`gemini_finish.py`). Invariants: Google's words, its status and its
details go to the client; the ledger gets only the status, which is one of Google's words and never prose.
"""

import math
import re
from typing import Any

import msgspec

from trivet.errors import UnsupportedError, UpstreamError

Json = dict[str, Any]

_KINDS = {
    "UNAUTHENTICATED": "authentication_error",
    "PERMISSION_DENIED": "permission_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error",
    "INVALID_ARGUMENT": "invalid_request_error",
    "FAILED_PRECONDITION": "invalid_request_error",
    "OUT_OF_RANGE": "invalid_request_error",
    "NOT_FOUND": "invalid_request_error",
}
"""OpenAI's `type` for a `google.rpc.Code`; any other is `server_error`."""

_STATUS = re.compile(r"[A-Z][A-Z_]{1,63}")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
"""A protobuf Duration as JSON."""


def unsupported(what: str, *, param: str) -> UnsupportedError:
    """Make the refusal of something that Gemini cannot be asked."""
    return UnsupportedError(f"Gemini cannot be asked that: {what}", param=param)


def read_refusal(body: bytes) -> UpstreamError | None:
    """Read a document that is nothing but an error, alone or in a list; None if it is not in Google's shape."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(document, list):
        document = document[0] if document else None
    error = document.get("error") if isinstance(document, dict) else None
    return as_error(error) if isinstance(error, dict) else None


def as_error(error: Json) -> UpstreamError:
    """Convert the `error` of a document. Its `whose` is the operator where the key or the account is at fault."""
    code, status = error.get("code"), error.get("status")
    http_status = code if isinstance(code, int) and 400 <= code <= 599 else 502
    word = status if isinstance(status, str) and _STATUS.fullmatch(status) else "upstream_error"
    kept = f"The target sent an error: {http_status} {word}."
    details = [d for d in _list(error.get("details")) if isinstance(d, dict)]
    message = str(error.get("message") or kept)
    shown = {
        "message": message,
        "type": _KINDS.get(word, "server_error"),
        "param": _field(details),
        "code": word,
        **({"details": details} if details else {}),
    }
    made = UpstreamError(
        message,
        status=http_status,
        code=word,
        body=msgspec.json.encode({"error": shown}),
        kept=kept,
        retry_after_s=_retry_after_s(details),
    )
    if word in ("UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION") or _key_is_bad(details):
        made.whose = "operator"  # the key, the account or the place: another target may well answer
    return made


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _key_is_bad(details: list[Json]) -> bool:
    """Google says 400 INVALID_ARGUMENT for a key that it does not know, or that has expired."""
    return any(str(detail.get("reason", "")).startswith("API_KEY_") for detail in details)


def _retry_after_s(details: list[Json]) -> float | None:
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            found = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
            return (
                float(math.ceil(float(found[1]))) if found else None
            )  # a header has whole seconds, and 38 is too soon
    return None


def _field(details: list[Json]) -> str | None:
    for detail in details:
        for violation in _list(detail.get("fieldViolations")):
            if isinstance(violation, dict) and isinstance(violation.get("field"), str):
                return str(violation["field"])
    return None
