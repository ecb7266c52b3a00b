"""`trivet serve` as a person starts it: what it says, and how it ends when it cannot start."""

import socket
from pathlib import Path

import pytest

from tests.edge_kit import get, make_key, raw, serving
from trivet.ledger.keys import FILE

from .conftest import trivet


@pytest.mark.anyio
async def test_it_says_where_it_answers_what_it_has_and_that_it_is_open(
    home: Path, config: Path, tmp_path: Path
) -> None:
    async with serving(tmp_path, config) as child:
        assert (await raw(child.url, get("/healthz"))).status == 200
        said = child.words()
        assert await child.stop() == 0
    assert f"Trivet answers at {child.url}/v1  models: p, one" in said
    assert "no keys: open to every program on this machine, and to nobody else" in said
    assert child.words() == said, "it ends without a word"


@pytest.mark.anyio
async def test_with_keys_it_listens_anywhere_and_is_closed_to_strangers(
    home: Path, config: Path, tmp_path: Path
) -> None:
    make_key(home / FILE, "acme")
    async with serving(tmp_path, config, "--host", "0.0.0.0") as child:
        url = child.url.replace("0.0.0.0", "127.0.0.1")
        assert (await raw(url, get("/v1/models"))).status == 401
        assert "no keys" not in child.words()


def test_without_keys_it_refuses_to_listen_for_others(home: Path, config: Path) -> None:
    """Attack 10."""
    done = trivet("serve", "--config", str(config), "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "no key is configured" in done.stderr
    assert "trivet keys create" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_an_error_with_a_way_out(home: Path, config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = trivet("serve", "--config", str(config), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_wrong_is_refused_with_its_line(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[targets.a]\nprovider = "openai"\nmodle = "m"\n')
    done = trivet("serve", "--config", str(tmp_path / "bad.toml"))
    assert done.returncode == 2
    assert "bad.toml:3" in done.stderr
    assert "Did you mean `model`" in done.stderr


def test_a_key_that_is_not_there_is_named_by_its_place(home: Path, config: Path) -> None:
    config.write_text(config.read_text().replace('model = "m-1"', 'model = "m-1"\napi_key = "env:NOT_SET_ANYWHERE"'))
    done = trivet("serve", "--config", str(config), "--port", "0")
    assert done.returncode == 2
    assert "NOT_SET_ANYWHERE is not set" in done.stderr
