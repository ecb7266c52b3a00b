"""What the tests of Anthropic's wire format share: golden transcripts, and reading them as the provider does.

The transcripts are written by hand after the documented format; tests/upstream/test_anthropic.py has Anthropic's own
client read each of them.
"""

import json
from pathlib import Path
from typing import Any

from trivet.types import Chunk
from trivet.wire.anthropic_stream import Answering
from trivet.wire.sse import Events

GOLDEN = Path(__file__).parent / "golden" / "anthropic"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json") if not path.stem.startswith("error_"))
CREATED = 1_700_000_000


def stream(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


def whole(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def read(*pieces: bytes) -> tuple[list[Chunk], Answering]:
    """Read a stream that comes in these pieces."""
    events, answering = Events(), Answering(created=CREATED)
    chunks = [chunk for piece in pieces for data in events.feed(piece) for chunk in answering.event(data)]
    return chunks, answering


def documents(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [json.loads(chunk.data) for chunk in chunks]


def deltas(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [choice["delta"] for document in documents(chunks) for choice in document["choices"]]


def event(type_: str, **members: Any) -> bytes:
    return json.dumps({"type": type_, **members}).encode()
