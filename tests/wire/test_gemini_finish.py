"""Why an answer ended: OpenAI's word, or an error."""

import pytest

from trivet.errors import UpstreamError
from trivet.wire.gemini_finish import BROKEN, finish_of


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "content_filter"),
        ("SPII", "content_filter"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_each_reason_has_a_word(reason: str, finish: str) -> None:
    assert finish_of(reason, None) == finish


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_no_answer_is_an_error_whose_words_stay_out_of_the_ledger(reason: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        finish_of(reason, "the prompt was secret")
    error = caught.value
    assert "secret" in str(error)
    assert "secret" not in error.kept
    assert (error.code, error.again, error.spent) == (reason.lower(), True, True)
    assert error.status == (400 if reason == "MISSING_THOUGHT_SIGNATURE" else 502)


def test_it_says_no_more_than_gemini_did() -> None:
    with pytest.raises(UpstreamError) as caught:
        finish_of("OTHER", None)
    assert str(caught.value) == "Gemini ended its answer with OTHER."
