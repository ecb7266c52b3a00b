"""Errors of Google's become OpenAI's: status, words, whose fault, and when to come back."""

import json
from pathlib import Path

import pytest

from trivet.errors import UpstreamError
from trivet.wire.gemini_error import read_refusal

GOLDEN = Path(__file__).parent / "golden" / "gemini"


def refusal(name: str) -> UpstreamError:
    error = read_refusal((GOLDEN / name).read_bytes())
    assert error is not None
    return error


def test_a_quota_says_when_to_come_back_and_keeps_its_details() -> None:
    error = refusal("error_quota.json")
    assert (error.status, error.code, error.retry_after_s) == (429, "RESOURCE_EXHAUSTED", 39)
    shown = json.loads(error.body or b"")["error"]
    assert (shown["type"], shown["code"]) == ("rate_limit_error", "RESOURCE_EXHAUSTED")
    assert shown["message"].startswith("You exceeded your current quota")
    assert shown["details"][0]["violations"][0]["quotaValue"] == "10"


def test_a_bad_key_is_the_operators_fault_though_google_calls_it_an_argument() -> None:
    assert refusal("error_key.json").whose == "operator"
    assert refusal("error_field.json").whose == "upstream"


def test_an_error_in_a_list_is_read_and_names_the_field() -> None:
    error = refusal("error_field.json")
    assert json.loads(error.body or b"")["error"]["param"] == "frobnicate"
    assert "frobnicate" in str(error)
    assert "frobnicate" not in error.kept


def test_prose_for_a_status_does_not_reach_the_ledger() -> None:
    error = read_refusal(b'{"error":{"code":500,"message":"m","status":"the prompt was: secret"}}')
    assert error is not None
    assert (error.code, error.kept) == ("upstream_error", "The target sent an error: 500 upstream_error.")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[7]", b'{"error":"x"}', b'{"message":"x"}', b"\xff"])
def test_what_is_not_googles_shape_is_not_taken_for_it(body: bytes) -> None:
    assert read_refusal(body) is None


@pytest.mark.parametrize("details", ["x", [7], [{"@type": 7}], [{"@type": "google.rpc.RetryInfo"}],
                                     [{"@type": "google.rpc.RetryInfo", "retryDelay": "soon"}],
                                     [{"fieldViolations": 7}], [{"fieldViolations": [7]}]])  # fmt: skip
def test_strange_details_do_no_harm(details: object) -> None:
    error = read_refusal(json.dumps({"error": {"code": 429, "message": "m", "details": details}}).encode())
    assert error is not None
    assert (error.status, error.retry_after_s) == (429, None)
