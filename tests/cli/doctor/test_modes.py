"""Who else can read or change what is ours."""

import os
from pathlib import Path

import pytest

from trivet.cli.doctor.check import Check
from trivet.cli.doctor.modes import mode_checks
from trivet.config import Settings, parse
from trivet.ledger.keys import FILE

KEY = "sk-proj-Zx81mQd0v7Yt2Lk9aa"  # made up


def troubles(settings: Settings | None = None, *, config: Path | None = None) -> list[Check]:
    return [c for c in mode_checks(settings or Settings(), os.environ, config=config) if c.state != "ok"]


def test_a_home_that_only_its_owner_can_enter_is_well_whatever_the_files_say(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / FILE).touch(mode=0o644)
    assert troubles() == []


def test_a_home_that_others_can_enter_is_a_warning_and_so_are_the_keys_in_it(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / FILE).touch()
    (home / FILE).chmod(0o644)
    home.chmod(0o755)
    assert [c.fix for c in troubles()] == [f"chmod 700 {home}", f"chmod 600 {home / FILE}"]
    (home / FILE).chmod(0o600)
    assert [c.fix for c in troubles()] == [f"chmod 700 {home}"]


def test_a_ledger_outside_the_home_is_looked_at_by_itself(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o700)
    ledger = tmp_path / "elsewhere"
    ledger.mkdir()
    ledger.chmod(0o755)
    settings = parse(f'[ledger]\npath = "{ledger}"\n', source="t")
    assert [c.fix for c in troubles(settings)] == [f"chmod 700 {ledger}"]
    ledger.chmod(0o700)
    assert troubles(settings) == []


def test_a_key_file_that_others_can_read_is_a_warning(home: Path, tmp_path: Path) -> None:
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (tmp_path / name).write_text(KEY)
        (tmp_path / name).chmod(mode)
    text = "".join(f'[targets.{n}]\nprovider = "openai"\napi_key = "file:{tmp_path / n}"\n' for n in ("open", "closed"))
    (check,) = troubles(parse(text, source="t"))
    assert (check.state, check.what, check.fix) == ("warn", "key of open", f"chmod 600 {tmp_path / 'open'}")


@pytest.mark.parametrize(("mode", "words"), [(0o644, "other users can read it"), (0o600, "backups")])
def test_a_key_in_the_file_is_told_by_its_line_and_not_repeated(
    home: Path, tmp_path: Path, mode: int, words: str
) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text(f'[targets.a]\nprovider = "openai"\nheaders = {{ "x-token" = "{KEY}" }}\n')
    file.chmod(mode)
    (check,) = troubles(config=file)
    assert f"line 3, {'and' if mode == 0o644 else 'which'}" in check.words
    assert words in check.words
    assert KEY not in str(check)


def test_a_key_is_found_in_a_file_that_is_refused_too(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text(f'[targets.a]\nprovider = "openai"\napi_key = "{KEY}"\n')
    file.chmod(0o644)
    found = [c for c in mode_checks(None, os.environ, config=file) if c.what == "config file"]
    assert [c.state for c in found] == ["warn"]


def test_a_file_that_anybody_can_change_is_a_warning(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "trivet.toml"
    file.write_text("")
    file.chmod(0o666)
    assert [c.fix for c in troubles(config=file)] == [f"chmod go-w {file}"]
    file.chmod(0o644)
    assert troubles(config=file) == []
