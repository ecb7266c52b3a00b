"""What the tests of labels share: a gateway with two targets, and its file of labels."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.edge_kit import Reply, bearer, make_key, post, raw
from trivet.labels.file import FILE
from trivet.ledger.keys import KeyRing
from trivet.seams import Embedder
from trivet.server.app import App
from trivet.server.auth import Auth
from trivet.server.http import Server
from trivet.server.run import bind, url
from trivet.testing.house import config, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.upstream import Answer, Script, Upstream
from trivet.types import Entry, Permit

ANYTHING = Permit()

KEPT = """
[policies.p]
pool = ["small", "large"]
[policies.p.cache]
judge = "equality"
[policies.p.labels]
keep = true
"""
SHADOW = (
    KEPT
    + """
[policies.p.shadow]
share = 1.0
"""
)


class Room(NamedTuple):
    """A gateway over `small` and `large`, and what is behind it."""

    url: str
    store: Memory
    small: Upstream
    large: Upstream
    app: App
    path: Path
    """Of its labels."""
    keys: Path
    told: list[str]

    async def ask(self, text: str = "2+2?", *, key: str = "", **body: Any) -> Reply:
        """Ask a question."""
        whole = {"model": "p", "messages": [{"role": "user", "content": text}], **body}
        return await self.send("/v1/chat/completions", whole, key=key)

    async def send(self, path: str, body: Any, *, key: str = "") -> Reply:
        """Send a body to a path."""
        return await raw(self.url, post(body, *([bearer(key)] if key else []), path=path))

    async def say(self, reply: Reply | str, *, key: str = "", **words: Any) -> tuple[int, Any]:
        """Give feedback on an answer; the status and what is answered to it."""
        id_ = reply if isinstance(reply, str) else reply.headers["x-trivet-id"]
        told = await self.send("/trivet/v1/feedback", {"id": id_, **words}, key=key)
        return told.status, json.loads(told.body)

    async def rows(self, sql: str) -> list[Any]:
        """Ask the file, once all that came so far is in it."""
        stages = self.app._rules.now.stages
        await stages.aside.idle()
        if stages.labels._file.is_open:
            await stages.labels.feedback("nobody", "nothing", 1.0)
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(sql).fetchall()

    async def entries(self) -> list[Entry]:
        """Give all entries, once nothing is done on the side any more."""
        await self.app._rules.now.stages.aside.idle()
        return self.store.entries


def says(**answers: str) -> Script:
    """Make a script that answers questions by their text."""
    return lambda body: Answer(pieces=(answers.get(body["messages"][-1]["content"], "four"),))


@asynccontextmanager
async def room(
    folder: Path,
    more: str = SHADOW,
    *,
    small: Script | None = None,
    large: Script | None = None,
    tenants: tuple[str, ...] = (),
    permit: Permit = ANYTHING,
    embedder: Embedder | None = None,
    **given: Any,
) -> AsyncIterator[Room]:
    """Open one. Args: tenants: for each a key is made, to be found in `keys`; given: clock, rng of its Kit."""
    told: list[str] = []
    home = folder / "home"
    home.mkdir(exist_ok=True)
    for tenant in tenants:
        (folder / tenant).write_text(make_key(home / "keys.db", tenant, permit=permit))
    async with AsyncExitStack() as opened:
        one = await opened.enter_async_context(Upstream("four", script=small))
        other = await opened.enter_async_context(Upstream("four", script=large))
        settings = config({"small": one.base_url, "large": other.base_url}, more)
        ring, store = KeyRing(home / "keys.db"), Memory()
        opened.callback(ring.close)
        made = kit(home, tell=told.append, **given)
        if embedder is not None:
            lent = embedder
            made = made._replace(embedder=lambda kind: lent)
        built = await opened.enter_async_context(stages(settings, made, store))
        app = App(built, auth=Auth(ring), random=made.random, max_body_bytes=10**7)
        sock = bind("127.0.0.1", 0, has_keys=ring.any)
        server = Server(app)
        await server.start(sock)
        opened.push_async_callback(server.stop, 10)
        yield Room(url(sock), store, one, other, app, home / FILE, folder, told)


async def metrics(here: Room, key: str = "") -> dict[str, float]:
    """Give what `/metrics` says of labels."""
    from tests.edge_kit import get

    reply = await raw(here.url, get("/metrics", *([bearer(key)] if key else [])))
    lines = [line for line in reply.body.decode().splitlines() if "label" in line or "shadow" in line]
    found = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in found}


async def together(*asked: Any) -> list[Any]:
    """Wait for all of them."""
    return list(await asyncio.gather(*asked))
