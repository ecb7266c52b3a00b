"""What a key looks like, and where it is sent."""

import pytest

from trivet.cli.doctor.check import Check
from trivet.cli.doctor.credentials import address, credential_checks, place
from trivet.config import parse

OPENAI = "sk-proj-Zx81mQd0v7Yt2Lk9Zx81mQd0v7Yt2Lk9"  # made up, as all here
ANTHROPIC = "sk-ant-api03-Zx81mQd0v7Yt2Lk9Zx81mQd0v7"


def check(key: str | None, *, base_url: str = "", api_key: str = "env:K") -> list[Check]:
    lines = ["[targets.a]", 'provider = "openai"', f'base_url = "{base_url}"', f'api_key = "{api_key}"']
    env = {} if key is None else {"K": key, "OPENAI_API_KEY": key}
    return list(credential_checks(parse("\n".join(lines), source="t"), env))


@pytest.mark.parametrize(
    ("key", "base_url", "words"),
    [
        (f'"{OPENAI}"', "", "quotes"),
        (f"Bearer {OPENAI}", "", "Bearer"),
        ("sk-your-key-here-0000000000", "", "placeholder"),
        ("sk-trivet-Zx81mQd0v7Yt2Lk9Zx81mQd0v7", "", "a Trivet gateway"),
        (ANTHROPIC, "", "it looks like one of api.anthropic.com"),
        (OPENAI, "https://api.anthropic.com/v1", "it looks like one of api.openai.com"),
        ("Zx81mQd0v7Yt2Lk9Zx81mQd0v7Yt", "", "begin with sk-"),
        ("sk-Zx81", "", "it has 7 characters"),
    ],
)
def test_an_odd_key_is_a_warning_that_does_not_repeat_it(key: str, base_url: str, words: str) -> None:
    (found,) = check(key, base_url=base_url)
    assert (found.state, found.what, found.whose) == ("warn", "key of a", "operator")
    assert words in found.words
    assert found.fix == "export K=..."
    assert key not in str(found)


@pytest.mark.parametrize(
    ("key", "base_url"),
    [(OPENAI, ""), (ANTHROPIC, "https://api.anthropic.com/v1"), ("any", "http://127.0.0.1:8000/v1")],
)
def test_a_key_that_fits_its_address_is_well(key: str, base_url: str) -> None:
    (found,) = check(key, base_url=base_url)
    assert (found.state, found.words) == ("ok", "env:K holds one")


@pytest.mark.parametrize("key", [None, " "])
def test_a_key_that_is_not_there_is_a_cross(key: str | None) -> None:
    (found,) = check(key)
    assert (found.state, found.fix) == ("bad", "export K=...")


def test_the_place_of_a_key_is_the_one_that_the_gateway_takes() -> None:
    """Without `api_key`, the usual one, and only at the provider's own address."""
    (found,) = check(OPENAI, api_key="")
    assert found.words == "env:OPENAI_API_KEY holds one"
    assert check(OPENAI, api_key="", base_url="http://127.0.0.1:8000/v1") == []
    target = parse('[targets.a]\nprovider = "ollama"\n', source="t").targets["a"]
    assert (place(target, {}), address(target)) == ("", "http://127.0.0.1:11434/v1")


@pytest.mark.parametrize(
    ("base_url", "found", "key"),
    [
        ("", "https://api.anthropic.com/v1", "env:ANTHROPIC_API_KEY"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", ""),
    ],
)
def test_anthropic_is_where_the_gateway_asks_it(base_url: str, found: str, key: str) -> None:
    text = f'[targets.a]\nprovider = "anthropic"\nbase_url = "{base_url}"\n'
    target = parse(text, source="t").targets["a"]
    assert (address(target), place(target, {})) == (found, key)


def test_a_gemini_target_has_one_of_two_usual_keys_and_its_own_address() -> None:
    target = parse('[targets.g]\nprovider = "gemini"\n', source="t").targets["g"]
    assert place(target, {}) == "env:GEMINI_API_KEY"
    assert place(target, {"GOOGLE_API_KEY": "k"}) == "env:GOOGLE_API_KEY"
    assert address(target) == "https://generativelanguage.googleapis.com/v1beta"
