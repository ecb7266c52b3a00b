"""A gateway that is found, or started and stopped."""

from pathlib import Path

import pytest

from trivet.build import SystemClock
from trivet.cli import gateway
from trivet.errors import ConfigError
from trivet.ledger import keys

from .conftest import Upstream

pytestmark = pytest.mark.slow  # processes and pip


def test_a_started_gateway_answers_and_is_gone_afterwards(home: Path, config: Path) -> None:
    with gateway.started(["--config", str(config)], tell=print) as url:
        state = gateway.ready(url)
        assert state is not None
        assert state["status"] == "ready"
        assert gateway.find({"TRIVET_URL": f"{url}/v1/"}) == url
    assert gateway.ready(url) is None


def test_one_that_cannot_start_says_why(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = 'x'\n")
    with (
        pytest.raises(gateway.GatewayError, match=r"(?s)did not start.*server\.port"),
        gateway.started(["--config", str(tmp_path / "bad.toml")], tell=print),
    ):
        pytest.fail("it started")


def test_what_answers_and_is_no_trivet_is_not_taken_for_one(upstream: Upstream) -> None:
    assert gateway.ready(upstream.url.removesuffix("/v1")) is None


def test_a_gateway_that_was_named_must_answer(upstream: Upstream) -> None:
    for url in ("http://127.0.0.1:1", "nonsense", "file:///etc", upstream.url):
        with pytest.raises(ConfigError, match="TRIVET_URL"):
            gateway.find({"TRIVET_URL": url})


def test_what_a_gateway_waits_for_is_told_as_it_changes(upstream: Upstream) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        state = {"small: loading, 40 %": "loading, 80 %", "small: loading, 80 %": "ready"}[line]
        upstream.readyz = {"status": "ready" if state == "ready" else "not ready", "targets": {"small": state}}

    upstream.readyz = {"status": "not ready", "targets": {"small": "loading, 40 %"}}
    gateway.wait(upstream.url.removesuffix("/v1"), tell=tell)
    assert told == ["small: loading, 40 %", "small: loading, 80 %"]


def test_a_gateway_that_no_longer_answers_is_not_waited_for(upstream: Upstream) -> None:
    def tell(_line: str) -> None:
        upstream.readyz = None

    upstream.readyz = {"status": "not ready", "targets": {"small": "loading"}}
    with pytest.raises(gateway.GatewayError, match="no longer answers"):
        gateway.wait(upstream.url.removesuffix("/v1"), tell=tell)


def test_a_gateway_with_keys_admits_only_those(home: Path, config: Path) -> None:
    home.mkdir()
    with gateway.started(["--config", str(config)], tell=print) as url:
        assert gateway.admits(url, "anything")
    made = keys.create(home / keys.FILE, name="a", tenant="t", clock=SystemClock())
    with gateway.started(["--config", str(config)], tell=print) as url:
        assert not gateway.admits(url, "anything")
        assert gateway.admits(url, made.secret.reveal())
