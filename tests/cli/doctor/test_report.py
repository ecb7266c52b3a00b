"""`trivet doctor` as a person runs it: one line for each thing that is in place or not."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cli.conftest import Upstream, trivet
from trivet.cli.main import cli

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments], prog_name="trivet")


def lines(config: Path, *, exit_code: int) -> dict[str, dict[str, Any]]:
    """Run it on a file whose port is free, and give the checks by what they are about."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.write_text(f"{config.read_text()}\n[server]\nport = {port}\n")
    result = run("--config", str(config), "--json")
    assert result.exit_code == exit_code, result.output
    return {check["what"]: check for check in json.loads(result.stdout)["checks"]}


def test_all_is_well_and_it_ends_with_0(home: Path, config: Path) -> None:
    checks = lines(config, exit_code=0)
    assert {c["what"] for c in checks.values() if c["state"] != "ok"} <= {"found", "disk"}  # what this machine has
    assert checks["target one"]["words"].endswith("answers and has m-1")
    assert checks["price of one"]["words"] == "by trivet.toml"
    assert {"python", "config", "port", "durability", "ledger", "home", "file modes", "clock"} <= checks.keys()


def test_a_file_that_cannot_be_used_ends_with_1_and_the_line(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = 'x'\n")
    result = trivet("doctor", "--config", "bad.toml")
    assert result.returncode == 1
    assert "bad.toml:2: server.port" in result.stdout


def test_a_target_that_cannot_be_reached_is_a_cross(home: Path, config: Path, upstream: Upstream) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound and not listening
        config.write_text(config.read_text().replace(upstream.url, f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"))
        checks = lines(config, exit_code=1)
    assert checks["target one"]["state"] == "bad"
    assert "cannot be reached" in checks["target one"]["words"]


def test_a_key_is_sent_where_it_belongs_and_never_written(
    home: Path, config: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    config.write_text(config.read_text().replace('model = "m-1"', 'model = "m-1"\napi_key = "env:MY_KEY"'))
    upstream.status = 401
    checks = lines(config, exit_code=1)
    assert checks["target one"]["words"] == f"{upstream.url} answers, and refuses the key"
    assert KEY not in json.dumps(checks)
    assert [headers["authorization"] for path, headers in upstream.seen if path == "/v1/models"] == [f"Bearer {KEY}"]


def test_a_key_that_is_not_there_is_a_cross(home: Path, config: Path) -> None:
    config.write_text(config.read_text().replace('model = "m-1"', 'model = "m-1"\napi_key = "env:MY_KEY"'))
    checks = lines(config, exit_code=1)
    assert "MY_KEY is not set" in checks["key of one"]["words"]
    assert checks["key of one"]["fix"] == "export MY_KEY=..."


def test_a_model_that_is_not_listed_and_a_price_that_is_not_known_are_warnings(home: Path, config: Path) -> None:
    text = config.read_text().replace('"m-1"', '"m-2"')
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("price")))
    checks = lines(config, exit_code=0)
    assert (checks["target one"]["state"], checks["target one"]["fix"]) == ("warn", "It lists: m-1")
    assert checks["price of one"]["state"] == "warn"
    assert checks["price of one"]["words"].startswith("not known: ")


def test_a_key_in_the_environment_that_no_target_uses_is_offered(
    home: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    result = run("--config", str(config))
    assert "OPENROUTER_API_KEY is set, and no target uses it. Add to trivet.toml:" in result.stdout
    assert '    api_key = "env:OPENROUTER_API_KEY"\n' in result.stdout
    assert KEY not in result.output


def test_what_is_not_in_place_has_somebody_who_can_put_it_right_and_how(home: Path, config: Path) -> None:
    config.write_text(config.read_text().replace('model = "m-1"', 'model = "m-2"\napi_key = "env:MY_KEY"'))
    config.chmod(0o666)
    found = [c for c in lines(config, exit_code=1).values() if c["state"] != "ok"]
    assert {"target one", "key of one", "config file"} <= {c["what"] for c in found}
    assert all(c["whose"] in ("operator", "upstream", "trivet") and c["fix"] for c in found)


def test_a_call_is_only_made_when_it_is_asked_for(home: Path, config: Path, upstream: Upstream) -> None:
    assert "call of one" not in lines(config, exit_code=0)
    assert {path for path, _ in upstream.seen} == {"/v1/models"}
    result = run("--config", str(config), "--call", "--json")
    (check,) = [c for c in json.loads(result.stdout)["checks"] if c["what"] == "call of one"]
    assert check["words"].startswith("m-1 answered 200 in ")
    assert "/v1/chat/completions" in {path for path, _ in upstream.seen}


def test_it_says_in_json_whether_all_is_well(home: Path, config: Path, upstream: Upstream) -> None:
    lines(config, exit_code=0)
    assert json.loads(run("--config", str(config), "--json").stdout)["ok"] is True
    upstream.status = 401
    result = run("--config", str(config), "--json")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (1, False)


def test_a_person_sees_the_line_of_the_file_whose_it_is_and_the_fix(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nport = 'x'\n")
    done = trivet("doctor", "--config", "bad.toml", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "FAIL config: bad.toml:2: server.port" in done.stdout
    assert "(yours to fix)\n    Correct line 2 of bad.toml" in done.stdout


def test_what_cannot_even_be_looked_at_is_a_finding_and_no_traceback(home: Path, config: Path) -> None:
    """Here a name that no file system takes; a home of another user is the usual case."""
    done = trivet("doctor", "--config", str(config), "--json", env={"TRIVET_HOME": "x" * 300})
    assert (done.returncode, done.stderr) == (1, "")
    broken = {check["what"] for check in json.loads(done.stdout)["checks"] if check["state"] == "bad"}
    assert {"home", "client keys", "file modes", "ledger"} <= broken


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as somebody else")
def test_a_home_of_another_user_is_told(home: Path, config: Path) -> None:
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    done = trivet("doctor", "--config", str(config), "--json")
    (check,) = [c for c in json.loads(done.stdout)["checks"] if c["what"] == "file modes"]
    assert check["state"] == "warn"
    assert "belongs to another user (id 65534)" in check["words"]
