"""A provider in a package of its own: it repeats the last message. One module, one entry-point line."""

import asyncio
import json
from collections.abc import AsyncGenerator

from trivet.config import TargetSettings
from trivet.errors import UpstreamError
from trivet.seams import Kit
from trivet.types import Chunk, Opened, Request, Usage


class Parrot:
    def __init__(self, name: str, *, mood: str = "talkative") -> None:
        self.name, self.mood = name, mood
        self.left = asyncio.Event()

    async def start(self) -> None: ...

    def ready(self) -> str:
        return ""

    async def aclose(self) -> None: ...

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if self.mood == "sulking":
            raise UpstreamError(f"{self.name} will not talk to you.")
        words = json.loads(bytes(request.fields["messages"]))[-1]["content"]
        usage = Usage(input_tokens=len(words.split()) or 1, output_tokens=len(words.split()) or 1)
        spent = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        head = {"id": "parrot-1", "model": self.name}
        if not request.stream:
            message = {"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
            whole = {**head, "object": "chat.completion", "choices": [message], "usage": spent}
            yield Chunk(json.dumps(whole).encode(), speaks=True, finish="stop", usage=usage, opened=Opened(0))
            return
        head["object"] = "chat.completion.chunk"
        said = {"index": 0, "delta": {"role": "assistant", "content": words}, "finish_reason": None}
        try:
            yield Chunk(json.dumps({**head, "choices": [said]}).encode(), speaks=True, opened=Opened(0))
            if self.mood == "dreamy":
                await asyncio.sleep(3600)
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield Chunk(json.dumps({**head, "choices": [end]}).encode(), finish="stop")
        yield Chunk(json.dumps({**head, "choices": [], "usage": spent}).encode(), usage=usage)


def build(target: TargetSettings, kit: Kit) -> Parrot:
    return Parrot(target.name)
