"""A client that behaves well, asking all the while: whatever else is sent, its answers must be right.

Not here: what is sent meanwhile. Also counts what must go back to where it was: open sockets, memory.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import openai

WORDS = ("All ", "is ", "well.")


class Witness:
    """What it has seen so far."""

    def __init__(self) -> None:
        self.asked = 0
        self.harmed: list[str] = []


@asynccontextmanager
async def witness(url: str, model: str, *, key: str = "none") -> AsyncGenerator[Witness, None]:
    """Ask `model` again and again, streamed and not, until the block ends; the target must say `WORDS`."""
    seen = Witness()
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        asking = asyncio.ensure_future(_ask(client, model, seen))
        try:
            yield seen
            before = seen.asked
            async with asyncio.timeout(60):
                while seen.asked < before + 2 and not seen.harmed:  # noqa: ASYNC110  # nobody else knows
                    await asyncio.sleep(0.01)
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
    assert not seen.harmed, seen.harmed[:3]


async def _ask(client: openai.AsyncOpenAI, model: str, seen: Witness) -> None:
    while True:
        try:
            said = await _once(client, model, stream=seen.asked % 2 == 1)
            if said != "".join(WORDS):
                seen.harmed.append(said)
        except openai.OpenAIError as error:
            seen.harmed.append(repr(error))
        seen.asked += 1
        await asyncio.sleep(0.05)


async def _once(client: openai.AsyncOpenAI, model: str, *, stream: bool) -> str:
    if not stream:
        answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
        return answer.choices[0].message.content or ""
    async with await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "?"}], stream=True
    ) as pieces:
        return "".join([piece.choices[0].delta.content or "" async for piece in pieces])


def sockets(pid: int | None = None) -> int:
    """Count the open sockets of a process; of this one if none is named."""
    folder, found = Path(f"/proc/{pid or os.getpid()}/fd"), 0
    for link in folder.iterdir():
        with suppress(OSError):  # closed meanwhile
            found += str(link.readlink()).startswith("socket:")
    return found


def resident_bytes(pid: int) -> int:
    """Say how much memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
