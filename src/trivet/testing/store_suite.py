"""What every `Store` must do. `class TestMine(StoreSuite)`, with `open` and `kept`, is the whole of a test file.

Not here: how long a promise holds after the process dies, or the power: each store tests what it promises of that.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from trivet.errors import LedgerError
from trivet.seams import Store
from trivet.types import (
    Attempt,
    Baseline,
    Candidate,
    Entry,
    Fault,
    Hold,
    Labels,
    Nanos,
    NearMiss,
    Outcome,
    Request,
    Status,
    Timing,
    Usage,
)


def a_request(id: str) -> Request:  # noqa: A002  # the field's name
    """Make a small request."""
    return Request(id=id, tenant="acme", model="support", fields={})


def an_entry(id: str, *, status: Status = "ok") -> Entry:  # noqa: A002  # the field's name
    """Make an entry with something in every field that has a shape of its own."""
    return Entry(
        id=id,
        at_ns=1_795_000_000_000_000_000,
        tenant="acme",
        key_id="key_1",
        model="support",
        policy="support",
        policy_digest="d" * 64,
        stream=True,
        labels=Labels(feature="chat", customer="café"),
        decision="call",
        candidates=(Candidate(target="small", score=0.5, probability=0.75), Candidate(target="large")),
        near=(NearMiss(entry_id="e0", kind="exact", why="expired", cosine=0.25),),
        cache="miss",
        price_version="genai-prices 0.2.3",
        outcome=Outcome(
            status=status,
            http_status=200,
            target="small",
            model="small-1",
            finish="stop",
            fault=None if status == "ok" else Fault(status=502, code="upstream_error", message="no", whose="upstream"),
            usage=Usage(input_tokens=1200, output_tokens=80, cached_tokens=1024),
            cost_nanos=Nanos(151_200),
            timing=Timing(ttft_ns=80_000_000, total_ns=900_000_000),
            attempts=(Attempt(target="small", status="ok", started_ns=1, took_ns=2),),
            chunks=7,
        ),
        baseline=Baseline(target="large", cost_nanos=Nanos(2_000_000)),
        saved={"route": Nanos(1_848_800)},
    )


class StoreSuite:
    """The tests: inherit, and say how the store is opened and how its entries are read."""

    lasts = True
    """Whether entries are there when it is opened again."""

    def open(self, home: Path) -> Store:
        """Open the store; `home` is an empty folder, or one in which it was open before."""
        raise NotImplementedError

    def kept(self, store: Store, home: Path) -> list[Entry]:
        """Read all entries of a store that was closed, in any order."""
        raise NotImplementedError

    def test_what_is_settled_is_kept_in_every_field(self, tmp_path: Path) -> None:
        whole = [an_entry("e1"), an_entry("e2", status="failed"), an_entry("e3", status="cancelled")]

        async def use(store: Store) -> None:
            for entry in whole:
                await _settle(store, entry)

        assert _by_id(self._kept_after(tmp_path, use)) == whole

    def test_a_refused_request_is_kept_though_it_holds_nothing(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            waiting = store.settle(None, an_entry("e1", status="refused"))
            if waiting is not None:
                await waiting

        assert [e.outcome.status for e in self._kept_after(tmp_path, use)] == ["refused"]

    def test_an_id_that_is_settled_again_changes_nothing(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            await _settle(store, an_entry("e1"))
            await _settle(store, an_entry("e2"))
            await _settle(store, an_entry("e1", status="failed"))

        assert _by_id(self._kept_after(tmp_path, use)) == [an_entry("e1"), an_entry("e2")]

    def test_many_at_once_are_all_kept_once(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            await asyncio.gather(*(_settle(store, an_entry(f"e{i:04}")) for i in range(1500)))

        assert [e.id for e in _by_id(self._kept_after(tmp_path, use))] == [f"e{i:04}" for i in range(1500)]

    def test_a_caller_cancelled_while_it_waits_leaves_its_entry(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            task = asyncio.create_task(_settle(store, an_entry("e1")))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        assert self._kept_after(tmp_path, use) == [an_entry("e1")]

    def test_an_entry_nobody_waits_for_is_kept(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            store.settle(None, an_entry("e1"))

        assert self._kept_after(tmp_path, use) == [an_entry("e1")]

    def test_a_hold_is_for_the_request_that_asked(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            holds = [await _reserve(store, a_request(f"r{i}")) for i in range(3)]
            assert [hold.request_id for hold in holds] == ["r0", "r1", "r2"]

        assert self._kept_after(tmp_path, use) == []

    def test_what_was_settled_is_found_by_its_id_at_once_and_after_it_was_opened_again(self, tmp_path: Path) -> None:
        async def use(store: Store) -> None:
            assert await store.find("e1") is None
            await _settle(store, an_entry("e1"))
            await _settle(store, an_entry("e2", status="failed"))
            assert await store.find("e1") == an_entry("e1")
            assert await store.find("e") is None

        async def again() -> Entry | None:
            store = self.open(tmp_path)
            try:
                return await store.find("e2")
            finally:
                await store.aclose()

        self._kept_after(tmp_path, use)
        if self.lasts:
            assert asyncio.run(again()) == an_entry("e2", status="failed")

    def test_a_closed_store_promises_nothing_and_closes_again_quietly(self, tmp_path: Path) -> None:
        async def main() -> None:
            store = self.open(tmp_path)
            await store.aclose()
            await store.aclose()
            for attempt in (_reserve(store, a_request("r1")), _settle(store, an_entry("e1"))):
                try:
                    await attempt
                except LedgerError:
                    continue
                raise AssertionError("a closed store accepted something")

        asyncio.run(main())

    def _kept_after(self, home: Path, use: Callable[[Store], Coroutine[None, None, None]]) -> list[Entry]:
        async def main() -> Store:
            store = self.open(home)
            try:
                await use(store)
            finally:
                await store.aclose()
            return store

        return self.kept(asyncio.run(main()), home)


async def _reserve(store: Store, request: Request) -> Hold:
    hold = store.reserve(request)
    return hold if isinstance(hold, Hold) else await hold


async def _settle(store: Store, entry: Entry) -> None:
    """Do as the pipeline does: reserve, settle, wait if there is something to wait for."""
    hold = await _reserve(store, a_request(entry.id))
    waiting = store.settle(hold, entry)
    if waiting is not None:
        await waiting


def _by_id(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.id)
