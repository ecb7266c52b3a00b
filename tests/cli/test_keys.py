"""`trivet keys`: a key is seen once."""

import json
import stat
from pathlib import Path

from click.testing import CliRunner, Result

from trivet.cli.main import cli


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments], prog_name="trivet")


def test_a_new_key_is_alone_on_stdout(home: Path) -> None:
    made = keys("create", "laptop", "--tenant", "acme")
    assert made.exit_code == 0
    assert made.stdout.startswith("sk-trivet-")
    assert len(made.stdout.split()) == 1
    assert "laptop" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_a_key_is_never_shown_again_and_nowhere_in_the_home(home: Path) -> None:
    key = keys("create", "laptop", "--tenant", "acme").stdout.strip()
    listed = keys("list")
    assert key not in listed.output + keys("list", "--json").output
    assert f"...{key[-4:]}" in listed.stdout
    assert all(key.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_only_its_owner_can_enter_the_home(home: Path) -> None:
    keys("create", "laptop", "--tenant", "acme")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_revoked_key_stays_in_the_list(home: Path) -> None:
    keys("create", "laptop", "--tenant", "acme")
    assert keys("revoke", "laptop").exit_code == 0
    (key,) = json.loads(keys("list", "--json").stdout)
    assert (key["name"], key["tenant"]) == ("laptop", "acme")
    assert key["revoked_ns"] > key["created_ns"]
    row = keys("list").stdout.splitlines()[1].split()
    assert len(row) == 10  # name, tenant, id, key, what it may ask for and have called, and two times of two words


def test_a_new_key_as_json_has_the_key(home: Path) -> None:
    made = json.loads(keys("create", "laptop", "--tenant", "acme", "--json").stdout)
    assert made["secret"].startswith("sk-trivet-")
    assert made["secret"].endswith(made["last4"])


def test_with_no_keys_the_list_says_what_that_means(home: Path) -> None:
    listed = keys("list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "open to every program on this machine" in listed.stderr
    assert json.loads(keys("list", "--json").stdout) == []


def test_a_name_that_is_in_use_or_empty_or_unknown_ends_with_2(home: Path) -> None:
    keys("create", "laptop", "--tenant", "acme")
    for arguments in (
        ("create", "laptop", "--tenant", "b"),
        ("create", " ", "--tenant", "b"),
        ("create", "x"),
        ("create", "x", "--tenant", "b", "--model", " "),
        ("create", "x", "--tenant", "b", "--target", ""),
        ("revoke", "y"),
    ):
        assert keys(*arguments).exit_code == 2, arguments


def test_a_name_cannot_paint_the_terminal(home: Path) -> None:
    keys("create", "\x1b[2Jevil", "--tenant", "t\x07")
    listed = keys("list").output
    assert "\\x1b[2Jevil" in listed
    assert "\x1b" not in listed


def test_what_a_key_may_do_is_shown(home: Path) -> None:
    keys("create", "all", "--tenant", "acme")
    made = keys("create", "app", "--tenant", "acme", "--model", "support", "--model", "openai/*", "--target", "small")
    assert made.exit_code == 0
    first, second = json.loads(keys("list", "--json").stdout)
    assert (first["models"], first["targets"]) == ([], [])
    assert (second["models"], second["targets"]) == (["support", "openai/*"], ["small"])
    head, *rows = keys("list").stdout.splitlines()
    assert head.split()[4:6] == ["MODELS", "TARGETS"]
    assert [row.split()[4:6] for row in rows] == [["all", "all"], ["support,openai/*", "small"]]
