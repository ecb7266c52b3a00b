import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.route.test_enrol import run
from tests.cli.route.test_version import CONFIG
from tests.routing.cascade.world import file as of_cascade
from tests.routing.triangle.world import EASY, HARD, file
from trivet.cli.main import cli


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIVET_HOME", str(tmp_path / "home"))
    path = tmp_path / "trivet.toml"
    path.write_text(CONFIG.format(router=file(tmp_path), large="l") + '[policies.f]\npool = ["tiny", "large"]\n')
    return path


def request(folder: Path, text: str, **more: object) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps({"model": "p", "messages": [{"role": "user", "content": text}], **more}))
    return path


def test_it_says_where_a_request_goes_and_why(tmp_path: Path, config: Path) -> None:
    code, stdout, _ = run("explain", request(tmp_path, HARD), "--config", config)
    assert code == 0
    assert stdout.startswith("p, learned: large then tiny (")
    assert "LIKELY RIGHT" in stdout
    assert "At least 0.9 of large's quality, 90% sure" in stdout
    code, stdout, _ = run("explain", request(tmp_path, EASY), "--config", config, "--json")
    told = json.loads(stdout)
    assert told["order"] == ["tiny", "large"]
    assert told["targets"]["tiny"]["worth"] > told["targets"]["large"]["worth"]
    assert any(point["held"] for point in told["curve"])


def test_other_policies_headers_and_stdin(tmp_path: Path, config: Path) -> None:
    body = request(tmp_path, HARD).read_text()
    words = ["route", "explain", "-", "--config", str(config)]
    result = CliRunner().invoke(cli, [*words, "--policy", "f"], input=body)
    assert result.stdout.strip() == "f, fixed: tiny then large"
    result = CliRunner().invoke(cli, [*words, "--header", "x-trivet-quality: 0.97", "--json"], input=body)
    assert json.loads(result.stdout)["floor"] == 0.97
    result = CliRunner().invoke(cli, [*words, "--policy", "f", "--header", "x-trivet-quality: 0.97"], input=body)
    assert result.exit_code == 1
    assert "Refused: x-trivet-quality: 'f' holds no quality" in result.stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [("{", "JSON"), ('{"model": "p"}', "messages"), ('{"model": "x", "messages": []}', "'x'")],
)
def test_what_is_no_request_is_an_error(tmp_path: Path, config: Path, body: str, words: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(body)
    code, _, stderr = run("explain", path, "--config", config)
    assert code != 0
    assert words in stderr
    code, _, stderr = run("explain", tmp_path / "none.json", "--config", config)
    assert code == 2
    assert "No such file" in stderr


def test_it_says_who_of_a_cascade_answers_first(tmp_path: Path, config: Path) -> None:
    with config.open("a") as more:
        more.write('[policies.first]\npool = ["tiny", "large"]\nroute = "cascade"\n')
    _, stdout, _ = run("explain", request(tmp_path, EASY), "--config", config, "--policy", "first")
    assert stdout.splitlines() == [
        "first, cascade: tiny then large",
        "tiny answer first; large where none of them is well-formed, or after 30 s.",
    ]
    (tmp_path / "learned").mkdir()
    with config.open("a") as more:
        targets = "".join(f'[targets.{m}]\nprovider = "openai"\nmodel = "{m}"\n' for m in ("a", "b", "c"))
        more.write(
            f'{targets}[policies.l]\npool = ["a", "b", "large"]\nroute = "cascade"\nquality = "0.95 of large"\n'
            f'router = "{of_cascade(tmp_path / "learned")}"\n'
        )
    _, stdout, stderr = run("explain", request(tmp_path, EASY), "--config", config, "--policy", "l")
    assert not stderr
    assert "first, large where they do not settle it. Expected" in stdout
    _, stdout, _ = run("explain", request(tmp_path, "日本の首都はどこですか"), "--config", config, "--policy", "l")
    assert stdout.startswith("l, cascade: large then ")
    assert "at once: unfamiliar text." in stdout
