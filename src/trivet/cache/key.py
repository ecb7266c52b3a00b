"""The one place that makes cache keys: the whole of what can change an answer, and whose answer it is.

A *fingerprint* is of a whole request. A *question* is the last words of one; what is left without them is its scope,
and only questions of one scope are ever compared with each other.

Not here: whether a request may be looked up or kept (`pipeline.py` decides by the policy).
Invariants: a key cannot be made without a tenant; nothing of the request is left out but how it is delivered
(`stream`, `stream_options`); text is never normalised. Two requests share a key only if they are the same JSON value:
the order of members and the spelling of a character (`\\u00e9` or `é`) are all that may differ.
"""

import json
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from trivet.types import Labels, Policy, Request

_ANSWERING_HEADERS = (b"openai-", b"anthropic-")
"""Of the headers that are passed on, those that can change what is answered (betas, organisation, project)."""

_encode = msgspec.json.Encoder(order="sorted").encode
_encode_raw, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


class KeyParts(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Everything that a key is made of; every part is required, so none can be forgotten."""

    version: int
    kind: str
    tenant: str
    policy: str
    policy_digest: str
    namespace: str
    partition: tuple[tuple[str, str], ...]
    headers: tuple[tuple[bytes, bytes], ...]
    body: dict[str, Any]


class Fingerprint(Struct, frozen=True):
    """A key, and what was read for it."""

    digest: bytes
    """32 bytes."""
    raw: bytes
    """The members that count, as they came."""
    body: dict[str, Any]
    """The same, read."""

    def plain(self) -> bool:
        """Tell whether no object in the body names a member twice.

        Targets differ in which of the two they obey, so such a request must not decide what the plain one is answered.
        Written again as it was read, a body that comes out the same but for blanks has lost nothing; only others are
        searched, which takes twenty times as long.
        """
        again = _encode_raw(self.body)
        return self.raw == again or msgspec.json.format(self.raw, indent=-1) == again or _searched(self.raw)


def fingerprint(request: Request, policy: Policy) -> Fingerprint | None:
    """Make the key of a request; None if its body cannot be written one way only (then it is not cached).

    SHA-256, because a collision would hand one tenant's answer to another: no faster hash is safe against somebody who
    looks for one.
    """
    fields = request.fields
    if "stream" in fields or "stream_options" in fields:
        fields = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
    try:
        raw = _encode_raw(fields)
        body: dict[str, Any] = _decode(raw)
        return Fingerprint(_digest(request, policy, request.kind, body), raw, body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return None  # lone surrogates, 1e400, a thousand nested lists: legal to pass on, not safe to compare


class Question(NamedTuple):
    """The last words of a conversation, and all that they were said in."""

    scope: bytes
    """32 bytes: the fingerprint of the request without those words."""
    text: str
    context: str = ""
    """What the user said before, where that is compared by its meaning too and is not in the scope."""


def question(request: Request, policy: Policy, body: dict[str, Any], *, in_context: bool = False) -> Question | None:
    """Take the question out of a request; None where it does not end with the plain words of a user.

    Args:
        body: of the request's `Fingerprint`.
        in_context: take out what the user said in the turns before as well, where that is plain words. What was
            replied to it stays in the scope, word by word, and so do all other messages.
    """
    messages = body.get("messages")
    if request.kind != "chat" or not isinstance(messages, list) or not messages:
        return None
    text = _words(messages[-1]["content"]) if _is_said(messages[-1]) else ""
    if not text.strip():
        return None
    earlier = [(at, _words(m["content"])) for at, m in enumerate(messages[:-1]) if _is_said(m)] if in_context else []
    taken = [(at, words) for at, words in earlier if words.strip()]
    rest, shapes = list(messages), []
    for at, _ in [*taken, (len(messages) - 1, text)]:
        content = messages[at]["content"]
        rest[at] = {**messages[at], "content": None}
        # What was taken out where is told by the kind, which no request can write.
        shapes.append(f"{at}" if isinstance(content, str) else f"{at} of {len(content)}")
    scope = _digest(request, policy, f"question at {', '.join(shapes)}", {**body, "messages": rest})
    return Question(scope, text, "\n".join(words for _, words in taken))


def _is_said(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") == "user" and "content" in message


def _words(content: object) -> str:
    """Give the text of a message that has nothing but text, else ""."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict) and part.keys() == {"type", "text"}]
    texts = [part["text"] for part in parts if part["type"] == "text" and isinstance(part["text"], str)]
    return "\n".join(texts) if len(texts) == len(content) else ""


def _digest(request: Request, policy: Policy, kind: str, body: dict[str, Any]) -> bytes:
    assert policy.cache is not None
    partition, headers = policy.cache.partition, request.headers
    parts = KeyParts(
        version=1,
        kind=kind,
        tenant=request.tenant,
        policy=policy.name,
        policy_digest=policy.digest,
        namespace=request.controls.namespace,
        partition=_values(request.labels, partition) if partition else (),
        headers=tuple([h for h in headers if h[0].startswith(_ANSWERING_HEADERS)]) if headers else (),
        body=body,
    )
    return sha256(_encode(parts)).digest()


def _values(labels: Labels, partition: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    values = {"customer": labels.customer, "feature": labels.feature, "agent": labels.agent}
    return tuple((name, values[name]) for name in partition)


def _searched(raw: bytes) -> bool:
    def once(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError

    try:
        json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return False
    return True
