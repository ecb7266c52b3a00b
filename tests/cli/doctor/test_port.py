"""Whose the port is, on real sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Upstream
from tests.edge_kit import make_key
from trivet.cli.doctor.port import files_check, is_free, key_ring_check, port_check
from trivet.config import Settings, parse
from trivet.ledger.keys import FILE


def settings(port: int, host: str = "127.0.0.1") -> Settings:
    return parse(f'[server]\nport = {port}\nhost = "{host}"\n', source="t")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_that_nobody_has_is_free_and_stays_so(home: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    for _ in range(2):
        assert port_check(settings(port), os.environ).words == f"127.0.0.1:{port} is free"
    assert is_free(settings(port))


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells who listens")
@pytest.mark.slow
def test_a_port_that_is_taken_is_told_with_the_process_that_has_it(home: Path, taken: int) -> None:
    check = port_check(settings(taken), os.environ)
    assert (check.state, check.whose) == ("bad", "operator")
    assert f"127.0.0.1:{taken} is taken by process {os.getpid()} (" in check.words
    assert "trivet serve --port 0" in check.fix
    assert not is_free(settings(taken))


def test_a_trivet_that_answers_there_is_no_trouble(home: Path, upstream: Upstream) -> None:
    upstream.readyz = {"status": "ready", "targets": {"small": "ready"}}
    check = port_check(settings(upstream.server_address[1]), os.environ)
    assert check.state == "ok"
    assert "Trivet answers on" in check.words


def test_a_public_address_without_a_key_would_not_be_served(home: Path) -> None:
    check = port_check(settings(0, "0.0.0.0"), os.environ)
    assert (check.state, check.fix) == ("bad", "trivet keys create NAME --tenant TENANT")
    assert "no key is configured" in check.words
    make_key(home / FILE, "acme")
    assert port_check(settings(0, "0.0.0.0"), os.environ).state == "ok"


def test_an_address_that_is_not_of_this_machine_is_not_called_taken(home: Path, taken: int) -> None:
    check = port_check(settings(taken, "192.0.2.1"), os.environ)
    assert check.state == "bad"
    assert check.words == f"Cannot listen on 192.0.2.1:{taken}: Cannot assign requested address"


def test_keys_that_cannot_be_read_stop_the_gateway(home: Path) -> None:
    assert key_ring_check(os.environ).state == "ok"
    home.mkdir()
    (home / FILE).write_bytes(b"no database, " * 100)
    check = key_ring_check(os.environ)
    assert (check.what, check.state) == ("client keys", "bad")
    assert str(home / FILE) in check.fix


def test_how_many_requests_there_may_be_at_a_time_is_told() -> None:
    assert files_check().what == "open files"
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300));"
        "from trivet.cli.doctor.port import files_check; print(*files_check(), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    state, _, words, fix, whose = done.stdout.strip().split("|")
    assert (state, whose) == ("warn", "operator")
    assert "allows 300, so about 150 requests" in words
    assert "LimitNOFILE=65536" in fix
