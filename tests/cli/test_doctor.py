"""`trivet doctor`: one line for each thing that is in place or not."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trivet.cli import doctor
from trivet.cli.main import cli
from trivet.config import Settings, parse
from trivet.upstream.discover import Found, settings_from

from .conftest import Upstream, trivet

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
    assert checks["target one"]["words"].startswith("The environment variable MY_KEY is not set")


def test_a_model_that_is_not_listed_and_a_price_that_is_not_known_are_warnings(home: Path, config: Path) -> None:
    text = config.read_text().replace('"m-1"', '"m-2"')
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("price")))
    checks = lines(config, exit_code=0)
    assert (checks["target one"]["state"], checks["target one"]["fix"]) == ("warn", "It lists: m-1")
    assert checks["price of one"]["state"] == "warn"
    assert checks["price of one"]["words"].startswith("not known: ")


def test_a_port_that_is_taken_is_a_cross_unless_it_is_trivets(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = parse(f"[server]\nport = {taken.getsockname()[1]}\n", source="t")
        check = doctor.port_check(settings)
    assert (check.state, check.fix) == ("bad", "trivet serve --port 0")


def test_a_home_that_others_can_enter_is_a_warning(home: Path) -> None:
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    states = {check.what: check for check in doctor.home_checks(home)}
    assert states["file modes"].state == "warn"
    assert states["file modes"].fix == f"chmod 700 {home}"


def test_a_key_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (tmp_path / name).write_text(KEY)
        (tmp_path / name).chmod(mode)
    text = "".join(f'[targets.{n}]\nprovider = "openai"\napi_key = "file:{tmp_path / n}"\n' for n in ("open", "closed"))
    (check,) = doctor.key_file_checks(parse(text, source="t"))
    assert (check.state, check.what, check.fix) == ("warn", "key of open", f"chmod 600 {tmp_path / 'open'}")


def test_a_home_that_cannot_be_made_is_a_cross(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = doctor.home_checks(tmp_path / "file" / "home")
    assert check.state == "bad"


def test_a_ledger_that_is_broken_is_a_cross(home: Path) -> None:
    (home / "ledger").mkdir(parents=True)
    (home / "ledger" / "ledger.db").write_bytes(b"no database, " * 1000)
    *_, check = doctor.ledger_checks(Settings(), {"TRIVET_HOME": str(home)})
    assert (check.what, check.state) == ("ledger", "bad")


def test_a_clock_of_1970_is_a_cross() -> None:
    assert doctor.clock_check(0).state == "bad"
    assert doctor.clock_check(time.time_ns()).state == "ok"


def test_a_model_that_nobody_knows_is_a_cross(home: Path) -> None:
    settings = parse('[targets.a]\nprovider = "llamacpp"\nmodel = "no-such-model"\n', source="t")
    states = {check.what: check.state for check in doctor.engine_checks(settings, {"TRIVET_MODELS": str(home)})}
    assert states["model no-such-model"] == "bad"


@pytest.mark.parametrize(
    "found",
    [
        Found("vllm", "http://127.0.0.1:8000/v1", ("Qwen/Qwen2.5-7B", "m")),
        Found("openai", "https://api.openai.com/v1", key="env:OPENAI_API_KEY"),
    ],
)
def test_what_is_offered_can_be_pasted(found: Found) -> None:
    assert parse(doctor.toml(found), source="t").targets == settings_from([found]).targets


def test_a_key_in_the_environment_that_no_target_uses_is_offered(
    home: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    result = run("--config", str(config))
    assert "OPENROUTER_API_KEY is set, and no target uses it. Add to trivet.toml:" in result.stdout
    assert '    api_key = "env:OPENROUTER_API_KEY"\n' in result.stdout
    assert KEY not in result.output
