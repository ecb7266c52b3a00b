"""What is known of a request while it is on its way."""

import pytest

from trivet.errors import NotReadyError, UpstreamError
from trivet.tally import MAX_KEPT_BYTES, Tally, Try, end_attempt, ours
from trivet.testing.cache_suite import ask
from trivet.types import Chunk, Request, Usage


class Still:
    """A clock that stands."""

    def now_ns(self) -> int:
        return 1

    def mono_ns(self) -> int:
        return 1_000


def test_pieces_are_counted_and_the_last_word_counts() -> None:
    tally = Tally(ask(), 0)
    tally.gathered = []
    tally.count(Chunk(b"role"), 5)
    tally.count(Chunk(b"word", speaks=True, model="m-1"), 7)
    tally.count(Chunk(b"more", speaks=True), 9)
    tally.count(Chunk(b"end", finish="stop", usage=Usage(input_tokens=3, output_tokens=2)), 11)
    assert (tally.chunks, tally.out_bytes, tally.first_byte_ns, tally.ttft_ns) == (4, 15, 5, 7)
    assert (tally.model, tally.finish, tally.usage) == ("m-1", "stop", Usage(input_tokens=3, output_tokens=2))
    assert tally.gathered == [b"role", b"word", b"more", b"end"]


def test_an_answer_that_is_too_long_is_gathered_no_further() -> None:
    tally = Tally(ask(), 0)
    tally.gathered = []
    half = bytes(MAX_KEPT_BYTES // 2)
    tally.count(Chunk(half), 1)
    tally.count(Chunk(half), 1)
    assert list(tally.gathered) == [half, half]
    for _ in range(2):
        tally.count(Chunk(b"1"), 1)
        assert not tally.gathered


@pytest.mark.parametrize(
    ("error", "chunks", "began", "lost", "status"),
    [
        (None, 0, False, [], "ok"),
        (UpstreamError("broke off"), 0, False, ["a"], "failed"),
        (UpstreamError("broke off"), 1, False, [], "failed"),
        (UpstreamError("broke off"), 0, True, [], "failed"),
        (NotReadyError("loading", retry_after_s=1), 0, False, [], "failed"),
        (GeneratorExit(), 0, False, [], "cancelled"),
    ],
)
def test_a_target_that_may_have_charged_for_nothing_is_remembered(
    error: BaseException | None, chunks: int, *, began: bool, lost: list[str], status: str
) -> None:
    tally = Tally(ask(), 0)
    tally.chunks = chunks
    end_attempt(tally, Try("a", 400), Still(), error=error, began=began)
    (attempt,) = tally.attempts
    assert tally.lost == lost
    assert (attempt.target, attempt.status, attempt.took_ns, tally.engine_ns) == ("a", status, 600, 600)


@pytest.mark.parametrize(
    ("of", "lever"),
    [
        ("", ""),
        ("audit_of", "audit"),
        ("judge_of", "judge"),
        ("shadow_of", "shadow"),
        ("embed_of", "embed"),
        ("route_of", "classifier"),
    ],
)
def test_a_request_of_ours_is_called_as_its_lever(of: str, lever: str) -> None:
    more = {of: "req_1"} if of else {}
    assert ours(Request(id="1", tenant="t", model="m", fields={}, **more)) == lever  # type: ignore[arg-type]
