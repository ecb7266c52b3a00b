"""The house that tests live in: real ports, closed at the end, with what was asked for and nothing else."""

import asyncio
from pathlib import Path

import pytest

from tests.edge_kit import ASK, bearer, get, make_key, post, raw
from trivet.config import TargetSettings
from trivet.errors import LedgerError
from trivet.testing.house import config, house, kit, stages
from trivet.testing.memory import Memory
from trivet.testing.store_suite import a_request
from trivet.testing.upstream import Upstream

pytestmark = pytest.mark.anyio


async def test_it_answers_while_it_is_open_and_nothing_listens_afterwards() -> None:
    before = asyncio.all_tasks()
    async with Upstream("Hel", "lo") as upstream, house({"a": upstream.base_url}) as gateway:
        assert (await raw(gateway.url, post(ASK))).status == 200
        assert [e.outcome.status for e in gateway.store.entries] == ["ok"]
    with pytest.raises(ConnectionError):
        await raw(gateway.url, get("/healthz"))
    with pytest.raises(LedgerError):
        gateway.store.reserve(a_request("r"))
    assert asyncio.all_tasks() == before


async def test_it_is_closed_where_the_block_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        async with house({"a": "http://127.0.0.1:9/v1"}) as gateway:
            raise ZeroDivisionError
    with pytest.raises(ConnectionError):
        await raw(gateway.url, get("/healthz"))


async def test_it_takes_a_key_file_and_a_store_of_ones_own(tmp_path: Path) -> None:
    key, store = make_key(tmp_path / "keys", "acme"), Memory()
    async with (
        Upstream("x") as upstream,
        house({"a": upstream.base_url}, store=store, keys=tmp_path / "keys") as gateway,
    ):
        assert (await raw(gateway.url, post(ASK))).status == 401
        assert (await raw(gateway.url, post(ASK, bearer(key)))).status == 200
    assert [e.tenant for e in store.entries] == ["", "acme"]


async def test_stages_are_closed_but_not_the_store(tmp_path: Path) -> None:
    store = Memory()
    async with stages(config({"a": "http://127.0.0.1:9/v1"}), kit(tmp_path), store) as made:
        assert set(made.providers) == {"a"}
    assert store.reserve(a_request("r")).request_id == "r"


def test_its_configuration_is_one_that_a_person_could_write() -> None:
    settings = config({"a": "http://x/v1", "b": "http://y/v1"}, '[policies.p]\npool = ["a", "b"]\n')
    assert isinstance(settings.targets["a"], TargetSettings)
    assert settings.policies["p"].pool == ("a", "b")
