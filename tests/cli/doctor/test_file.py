"""The file of settings, line by line, and what it does not use."""

import os
from pathlib import Path

import pytest

from trivet.cli.doctor.file import found_checks, python_check, settings_checks, toml
from trivet.config import parse
from trivet.upstream.discover import Found, settings_from

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9"  # made up


def test_this_python_will_do() -> None:
    assert python_check().state == "ok"


@pytest.mark.anyio
async def test_each_mistake_of_a_file_has_its_own_line_with_its_place(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[server]\nport = "x"\n[targets.a]\nprovider = "openai"\nmodell = "m"\n')
    checks, settings = await settings_checks(file, os.environ)
    assert settings is None
    assert [(c.state, c.whose) for c in checks] == [("bad", "operator")] * 2
    assert [c.words.partition(": ")[0] for c in checks] == [f"{file}:2", f"{file}:5"]
    assert [c.fix.partition(" of ")[0] for c in checks] == ["Correct line 2", "Correct line 5"]


@pytest.mark.anyio
async def test_a_file_that_is_not_there_can_be_made(home: Path, tmp_path: Path) -> None:
    ((check,), _) = await settings_checks(tmp_path / "none.toml", os.environ)
    assert check.state == "bad"
    assert check.fix.endswith(f"trivet init --path {tmp_path / 'none.toml'}")


@pytest.mark.parametrize(
    "found",
    [
        Found("vllm", "http://127.0.0.1:8000/v1", ("Qwen/Qwen2.5-7B", "m")),
        Found("openai", "https://api.openai.com/v1", key="env:OPENAI_API_KEY"),
    ],
)
def test_what_is_offered_can_be_pasted(found: Found) -> None:
    assert parse(toml(found), source="t").targets == settings_from([found]).targets


@pytest.mark.anyio
async def test_a_key_in_the_environment_that_no_target_uses_is_offered(home: Path, config: Path) -> None:
    env = {"OPENROUTER_API_KEY": KEY}
    _, settings = await settings_checks(config, env)
    (check,) = [c for c in await found_checks(settings, env) if "OPENROUTER_API_KEY" in c.words]
    assert check.words == "OPENROUTER_API_KEY is set, and no target uses it. Add to trivet.toml:"
    assert 'api_key = "env:OPENROUTER_API_KEY"' in check.fix
    assert KEY not in str(check)


@pytest.mark.anyio
async def test_a_key_that_a_target_uses_is_not_offered(home: Path) -> None:
    settings = parse('[targets.claude]\nprovider = "anthropic"\n', source="t")
    assert not [c for c in await found_checks(settings, {"ANTHROPIC_API_KEY": KEY}) if "ANTHROPIC" in c.words]
