"""What the scripted upstream answers where no conversation is asked for: embeddings, moderations, older completions.

Not here: the server and its scripts (`testing/upstream.py`). Invariant: the same question gets the same document.
"""

import struct
from base64 import b64encode
from hashlib import sha512
from typing import Any

import msgspec

WIDTH = 8
"""Numbers of a vector: enough to tell texts apart."""

Json = dict[str, Any]


def vector(text: object, width: int = WIDTH) -> list[float]:
    """Make a vector of unit length of a text, or of a list of tokens: the same for the same, unlike for others. At most
    64 numbers."""
    digest = sha512(msgspec.json.encode(text)).digest()
    numbers = [byte - 127.5 for byte in digest[:width]]
    length = sum(x * x for x in numbers) ** 0.5
    return [x / length for x in numbers]


def embeddings(body: Json, *, width: int = WIDTH) -> Json:
    """Answer `/v1/embeddings`: floats, or the base64 of little-endian float32 that OpenAI's clients ask for."""
    asked = body.get("input")
    # One text, one list of tokens, or a list of either.
    several = isinstance(asked, list) and not all(isinstance(token, int) for token in asked)
    texts: list[object] = asked if several and isinstance(asked, list) else [asked]
    packed = body.get("encoding_format") == "base64"
    rows = []
    for index, text in enumerate(texts):
        numbers = vector(text, width)
        value = b64encode(struct.pack(f"<{width}f", *numbers)).decode() if packed else numbers
        rows.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(len(text) if isinstance(text, list) else len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": body.get("model"), "usage": usage}


_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def moderations(body: Json) -> Json:
    """Answer `/v1/moderations`: nothing is ever flagged."""
    asked = body.get("input")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    count = len(asked) if isinstance(asked, list) else 1
    return {"id": "modr-1", "model": body.get("model", "omni-moderation-latest"), "results": [result] * count}


def older(document: Json) -> Json:
    """Make the document of `/v1/completions` that says what a chat completion, or a chunk of one, says."""
    choices = []
    for choice in document["choices"]:
        said = choice.get("message") or choice.get("delta") or {}
        finish = choice.get("finish_reason")
        text = said.get("content") or ""
        choices.append({"index": choice["index"], "text": text, "logprobs": None, "finish_reason": finish})
    return {**document, "object": "text_completion", "choices": choices}
