"""One tree of errors: each has a status, a code and a fault, and says what happened and what to do."""

from collections.abc import Iterator

import pytest

from trivet import errors
from trivet.errors import (
    AuthError,
    BadRequestError,
    CacheMissError,
    ConfigError,
    DeadlineError,
    EmbedderError,
    LabelsError,
    LedgerError,
    NotReadyError,
    PermitError,
    RefusedError,
    TooLargeError,
    TrivetError,
    UnknownModelError,
    UnsupportedError,
    UpstreamError,
    WeightsError,
    WidthError,
)
from trivet.types import Fault

MADE: tuple[tuple[TrivetError, int, str, str], ...] = (
    (BadRequestError("`n` is odd.", param="n"), 400, "invalid_request", "client"),
    (AuthError("no"), 401, "invalid_api_key", "client"),
    (PermitError("gpt", may=("a", "b")), 403, "target_not_allowed", "client"),
    (UnknownModelError("gpt", known=("a", "b")), 404, "model_not_found", "client"),
    (CacheMissError("nothing is kept"), 404, "cache_miss", "client"),
    (TooLargeError(10), 413, "request_too_large", "client"),
    (LedgerError("full"), 503, "ledger_unavailable", "operator"),
    (UpstreamError("broken"), 502, "upstream_error", "upstream"),
    (NotReadyError("40 %", retry_after_s=5), 503, "model_loading", "upstream"),
    (UnsupportedError("no", param="n"), 400, "unsupported_by_target", "client"),
    (DeadlineError(800), 504, "deadline_exceeded", "client"),
    (WeightsError("none"), 500, "weights_unavailable", "operator"),
    (EmbedderError("full", retry_after_s=1), 503, "embedder_unavailable", "operator"),
    (WidthError("384 numbers, not 256"), 503, "embedder_unavailable", "operator"),
    (LabelsError("full"), 503, "labels_unavailable", "operator"),
    (ConfigError("bad"), 500, "bad_config", "operator"),
)


def subclasses(of: type[TrivetError]) -> Iterator[type[TrivetError]]:
    for sub in of.__subclasses__():
        yield sub
        yield from subclasses(sub)


@pytest.mark.parametrize(("error", "status", "code", "whose"), MADE, ids=lambda value: type(value).__name__)
def test_each_has_its_status_code_and_fault(error: TrivetError, status: int, code: str, whose: str) -> None:
    fault = error.fault()
    assert (fault.status, fault.code, fault.whose) == (error.status, error.code, error.whose) == (status, code, whose)
    assert fault.message == str(error)
    assert fault.kind == error.kind


def test_all_of_them_are_in_the_list_above_and_in_the_tree_that_the_module_draws() -> None:
    ours = {sub for sub in subclasses(TrivetError) if sub.__module__ == errors.__name__}
    assert ours == {type(error) for error, *_ in MADE} | {RefusedError}
    for sub in ours:
        assert sub.__name__ in (errors.__doc__ or "")
        assert sub.__name__.endswith("Error")


def test_a_refusal_is_the_fault_that_was_decided_and_gives_it_back() -> None:
    fault = Fault(status=404, code="c", message="m", whose="client", kind="k", param="p")
    assert RefusedError(fault).fault() == fault


def test_an_unknown_name_is_answered_with_those_that_are_known_but_not_all_of_a_thousand() -> None:
    words = str(UnknownModelError("x" * 5000, known=tuple(f"m{i}" for i in range(1000))))
    assert "m0, m1" in words
    assert "..." in words
    assert len(words) < 500
    assert "Known: none." in str(UnknownModelError("x", known=()))


def test_what_is_asked_for_too_long_says_the_limit_and_the_setting() -> None:
    assert "10 bytes" in str(TooLargeError(10))
    assert "server.max_body_bytes" in str(TooLargeError(10))
    assert "800 ms" in str(DeadlineError(800))


def test_the_ledger_keeps_an_error_of_a_target_without_the_targets_own_words() -> None:
    error = UpstreamError("quoting: the prompt", status=400, body=b"{}", kept="Target 'a' answered 400.")
    assert str(error) == "quoting: the prompt"
    assert error.fault().message == "Target 'a' answered 400."
    assert UpstreamError("fell silent").fault().message == "fell silent"
