"""Gemini's answers as chat completions: whole ones, and streams event by event.

Not here: errors (`gemini_error.py`), why an answer ended (`gemini_finish.py`), its tokens (`gemini_usage.py`).
Invariants: however many events a stream is cut into, the same words come out in the same order; nothing that Gemini
says is left out: what OpenAI has no member for is in `extra_content.google` (docs/providers.md lists it); the ids that
are made for calls are the same each time the same answer is read.

A stream has no last word. Gemini says why it ended on the last event of each candidate, and counts tokens anew on
every event: the count that came with the end goes out, and goes out again if an event after it counts more.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from trivet.errors import UpstreamError
from trivet.types import Chunk, Request, Usage
from trivet.wire.gemini_error import as_error
from trivet.wire.gemini_finish import finish_of
from trivet.wire.gemini_usage import counted, told

Json = dict[str, Any]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_MISREAD = (msgspec.MsgspecError, ValueError, LookupError, RecursionError, AttributeError, TypeError)
"""What reading a document that is not Gemini's can raise."""

_READ = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_READ_OF_CANDIDATE = frozenset({"content", "finishReason", "index", "logprobsResult"})


class _Candidate:
    """One of the answers, as far as it has been read."""

    __slots__ = ("calls", "closed", "extra", "finish", "index", "parts", "reason", "signature", "spoke")

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls = self.parts = 0
        self.spoke = self.closed = False
        self.signature: str | None = None
        self.extra: Json = {}
        """What else is said of it; of each member the last word counts, but citations add up."""
        self.finish: str | None = None
        self.reason = ""


class Answer:
    """One answer being read (`upstream.remote.Reading`)."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._candidates: dict[int, _Candidate] = {}
        self._id = self._model = ""
        self._counted: Json | None = None
        self._blocked = False
        self.over = False
        """Never: the end of the stream is that of the connection's message."""

    @property
    def whole(self) -> bool:
        """Every candidate said why it ended."""
        done = all(candidate.finish is not None for candidate in self._candidates.values())
        return self._blocked or (done and bool(self._candidates))

    def event(self, data: bytes) -> Sequence[Chunk]:
        """Read one event of a stream. Raises UpstreamError: it is an error, or says that there is no answer."""
        try:
            return self._event(_read(data))
        except _MISREAD as error:
            raise _not_gemini(error) from error

    def answer(self, body: bytes) -> Chunk:
        """Read an answer that is not streamed. Raises UpstreamError as `event` does."""
        try:
            return self._answer(_read(body))
        except _MISREAD as error:
            raise _not_gemini(error) from error

    def _answer(self, said: Json) -> Chunk:
        choices = []
        for candidate, delta, logprobs in self._deltas(said):
            if candidate.finish is None:
                raise UpstreamError("The target's answer does not say why it ended.")
            message = {"role": "assistant", "content": None, **_merged(delta, _extra(candidate))}
            for call in message.get("tool_calls", ()):
                del call["index"]
            choices.append(_choice(candidate, "message", message, finish=candidate.finish, logprobs=logprobs))
        if not choices:
            raise UpstreamError("The target's answer has no candidates.")
        usage = counted(said.get("usageMetadata"))
        more = {"usage": told(usage, said["usageMetadata"])} if usage else {}
        document = self._document("chat.completion", choices, _rest(said), more)
        finish = str(choices[0]["finish_reason"])
        return Chunk(_encode(document), speaks=True, finish=finish, usage=usage, model=self._model or None)

    def _event(self, said: Json) -> list[Chunk]:
        metadata = said.get("usageMetadata")
        usage = counted(metadata)
        chunks = []
        for candidate, delta, logprobs in self._deltas(said):
            if delta or logprobs or (candidate.finish and not candidate.spoke):
                if not candidate.spoke:
                    delta = {"role": "assistant", "content": "", **delta}
                    candidate.spoke = True
                choice = _choice(candidate, "delta", delta, finish=None, logprobs=logprobs)
                # A caller that leaves now is still charged by what the target has counted so far.
                sofar = usage if metadata and "candidatesTokenCount" in metadata else None
                speaks = any(name != "role" and value for name, value in delta.items())
                chunks.append(self._chunk([choice], _rest(said), speaks=speaks, usage=sofar))
            if candidate.finish is not None:
                chunks += self._ending(candidate, said)
        if usage is not None and metadata and self.whole and metadata != self._counted:
            self._counted = metadata
            chunks.append(self._chunk([], {}, usage=usage, more={"usage": told(usage, metadata)}))
        return chunks

    def _ending(self, candidate: _Candidate, said: Json) -> list[Chunk]:
        """Close a candidate; what is said of it after that goes out too."""
        extra, finish = _extra(candidate), None if candidate.closed else candidate.finish
        candidate.closed, candidate.extra, candidate.signature, candidate.reason = True, {}, None, ""
        if not (extra or finish):
            return []
        choice = _choice(candidate, "delta", extra, finish=finish, logprobs=None)
        return [self._chunk([choice], _rest(said), finish=finish)]

    def _deltas(self, said: Json) -> list[tuple[_Candidate, Json, Json | None]]:
        """Read what each candidate says in a document."""
        self._id = str(said.get("responseId") or self._id)
        self._model = str(said.get("modelVersion") or self._model).removeprefix("models/")
        blocked = (said.get("promptFeedback") or {}).get("blockReason")
        if blocked and not said.get("candidates"):
            return [self._block(str(blocked))]
        found = []
        for one in said.get("candidates") or ():
            index = one.get("index") or 0
            candidate = self._candidates.setdefault(index, _Candidate(index))
            delta = self._delta(candidate, (one.get("content") or {}).get("parts") or ())
            _note(candidate, one)
            found.append((candidate, delta, _logprobs(one.get("logprobsResult"))))
        return found

    def _block(self, reason: str) -> tuple[_Candidate, Json, None]:
        """Make an answer of a prompt that was blocked: there are no candidates at all."""
        candidate = self._candidates.setdefault(0, _Candidate(0))
        candidate.finish, self._blocked = "content_filter", True
        return candidate, {"refusal": f"Gemini blocked the prompt: {reason}."}, None

    def _delta(self, candidate: _Candidate, parts: Sequence[Json]) -> Json:
        content, thoughts = "", ""
        calls: list[Json] = []
        others: list[Json] = []
        for part in parts:
            signature = part.get("thoughtSignature")
            if "functionCall" in part:
                calls.append(self._call(candidate, part["functionCall"], signature))
            elif "text" in part or part.keys() <= _TEXTUAL:
                candidate.signature = signature or candidate.signature
                candidate.extra |= {name: value for name, value in part.items() if name not in _TEXTUAL}
                text = _text(part.get("text", ""))
                if part.get("thought"):
                    thoughts += text
                else:
                    content += text
            else:
                # Numbered, because clients put lists of a stream together by `index`.
                others.append({"index": candidate.parts, **part})
                candidate.parts += 1
        given = {"content": content, "reasoning_content": thoughts, "tool_calls": calls}
        delta: Json = {name: value for name, value in given.items() if value}
        return delta | ({"extra_content": {"google": {"parts": others}}} if others else {})

    def _call(self, candidate: _Candidate, call: Json, signature: str | None) -> Json:
        if call.get("willContinue") or "partialArgs" in call:
            raise UpstreamError("The target sends a call in pieces. Ask it without `streamFunctionCallArguments`.")
        at, candidate.calls = candidate.calls, candidate.calls + 1
        arguments = _encode(call.get("args") or {}).decode()
        made: Json = {
            "index": at,
            "id": call.get("id") or self._made_id(candidate.index, at),
            "type": "function",
            "function": {"name": _text(call.get("name")), "arguments": arguments},
        }
        return made | ({"extra_content": {"google": {"thought_signature": signature}}} if signature else {})

    def _made_id(self, candidate: int, at: int) -> str:
        """Make the id of a call that has none: of the answer's own id, so unlike those of other answers."""
        # 29 characters in all: OpenAI takes at most 40, and a conversation may go on there.
        source = f"{self._id or self._request.id}/{candidate}/{at}"
        return "call_" + blake2b(source.encode(), digest_size=12).hexdigest()

    def _chunk(
        self,
        choices: list[Json],
        rest: Json,
        *,
        speaks: bool = False,
        finish: str | None = None,
        usage: Usage | None = None,
        more: Json | None = None,
    ) -> Chunk:
        document = self._document("chat.completion.chunk", choices, rest, more or {})
        return Chunk(_encode(document), speaks, finish, usage, self._model or None)

    def _document(self, kind: str, choices: list[Json], rest: Json, more: Json) -> Json:
        request = self._request
        return {
            "id": self._id or f"chatcmpl-{request.id}",
            "object": kind,
            "created": request.at_ns // 1_000_000_000,  # Gemini does not say when it answered
            "model": self._model or request.model,
            "choices": choices,
            **more,
            **({"extra_content": {"google": rest}} if rest else {}),
        }


_TEXTUAL = frozenset({"text", "thought", "thoughtSignature"})


def _read(data: bytes) -> Json:
    document = _decode(data)
    if isinstance(document, list):
        document = document[0]
    if isinstance(document.get("error"), dict):
        raise as_error(document["error"])
    return dict(document)


def _not_gemini(error: Exception) -> UpstreamError:
    return UpstreamError(f"The target sent something that is not an answer of Gemini: {error}.")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return value


def _note(candidate: _Candidate, said: Json) -> None:
    """Take note of the end, and of all that is not content."""
    for name, value in said.items():
        if name == "citationMetadata" and name in candidate.extra:
            old = candidate.extra[name]
            candidate.extra[name] = {n: (old.get(n) or []) + v for n, v in value.items()}
        elif name not in _READ_OF_CANDIDATE:
            candidate.extra[name] = value
    reason = said.get("finishReason")
    if not reason:
        return
    finish = finish_of(reason, said.get("finishMessage"))
    candidate.finish = "tool_calls" if finish == "stop" and candidate.calls else finish
    candidate.reason = "" if reason in ("STOP", "MAX_TOKENS") else reason


def _extra(candidate: _Candidate) -> Json:
    """Gather what goes out with a candidate's end."""
    google = dict(candidate.extra)
    if candidate.signature:
        google["thought_signature"] = candidate.signature
    if candidate.reason:
        google["finishReason"] = candidate.reason
    return {"extra_content": {"google": google}} if google else {}


def _merged(delta: Json, extra: Json) -> Json:
    """Put a whole message's own `extra_content` and that of its end together."""
    google = {
        **delta.get("extra_content", {}).get("google", {}),
        **extra.get("extra_content", {}).get("google", {}),
    }
    return {**delta, **({"extra_content": {"google": google}} if google else {})}


def _rest(said: Json) -> Json:
    """Give what a document says beside candidates and tokens (`promptFeedback`, ...)."""
    return {name: value for name, value in said.items() if name not in _READ}


def _choice(candidate: _Candidate, name: str, said: Json, *, finish: str | None, logprobs: Json | None) -> Json:
    return {"index": candidate.index, name: said, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(result: Json | None) -> Json | None:
    if not result:
        return None
    tops = result.get("topCandidates") or ()
    content = []
    for at, chosen in enumerate(result.get("chosenCandidates") or ()):
        others = tops[at].get("candidates") or () if at < len(tops) else ()
        content.append(_logprob(chosen) | {"top_logprobs": [_logprob(other) for other in others]})
    return {"content": content, "refusal": None}


def _logprob(one: Json) -> Json:
    token = _text(one.get("token", ""))
    return {"token": token, "logprob": one.get("logProbability", 0.0), "bytes": list(token.encode())}
