"""Events come out whole, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UpstreamError
from trivet.wire import sse
from trivet.wire.sse import Events, event

STREAM = (
    b'\xef\xbb\xbf: hello\n\ndata: {"a": "\xc3\xa9"}\n\n'
    b"event: message\r\ndata: one\r\ndata: two\r\n\r\n"
    b"data:no space\r\rdata: \n\nid: 7\nretry: 10\n\n: ping\n\ndata: [DONE]\n\n"
)
DATA = [b'{"a": "\xc3\xa9"}', b"one\ntwo", b"no space", b"", b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    events = Events()
    return [data for piece in pieces for data in events.feed(piece)]


def test_a_whole_stream_gives_its_events() -> None:
    assert read(STREAM) == DATA


def test_a_cut_at_every_byte_changes_nothing() -> None:
    for cut in range(len(STREAM) + 1):
        assert read(STREAM[:cut], STREAM[cut:]) == DATA, cut


def test_one_byte_at_a_time_changes_nothing() -> None:
    assert read(*[STREAM[i : i + 1] for i in range(len(STREAM))]) == DATA


@given(st.lists(st.text(alphabet='a {}":,é\u2028\U0001f600'), min_size=1), st.data())
def test_what_is_framed_is_read_back_however_it_is_cut(texts: list[str], data: st.DataObject) -> None:
    documents = [text.encode() for text in texts]
    stream = b"".join(event(document) for document in documents)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == documents


def test_an_event_ends_with_its_blank_line_also_where_lines_end_in_cr_alone() -> None:
    events = Events()
    assert events.feed(b"data: x\r\r") == [b"x"]
    assert events.feed(b"data: y\r\n\r") == [b"y"]
    assert events.feed(b"\ndata: z\n\n") == [b"z"]


def test_a_long_event_in_many_pieces_is_looked_at_once() -> None:
    """Fifteen megabytes in pieces of a kilobyte: looking at all of it for each piece is a hundred billion bytes."""
    events, count = Events(), 15_000
    for _ in range(count):
        assert events.feed(b"data: " + b"x" * 1017 + b"\n") == []
    (data,) = events.feed(b"\n")
    assert len(data) == count * 1018 - 1


def test_a_document_with_line_breaks_stays_one_event() -> None:
    assert read(event(b'{\r\n "a":\n1}')) == [b'{   "a": 1}']


def test_an_event_cut_off_by_the_end_can_be_had() -> None:
    events = Events()
    assert events.feed(b"data: [DONE]\r") == []
    assert events.unfinished() == b"[DONE]"


def test_nothing_is_unfinished_after_a_whole_stream() -> None:
    events = Events()
    events.feed(b"data: x\n\n")
    assert events.unfinished() is None


def test_an_endless_event_is_refused_before_it_fills_the_memory() -> None:
    events = Events()
    half = b"x" * (sse.MAX_EVENT_BYTES // 2)
    events.feed(b"data: " + half)
    with pytest.raises(UpstreamError, match="larger than"):
        events.feed(half)
