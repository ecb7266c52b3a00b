"""Media in Gemini's words: sent along, pointed at, or refused with what to send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.errors import UpstreamError
from trivet.wire.gemini_media import Audio, File, attached, audio, media

FILES = "https://generativelanguage.googleapis.com/v1beta/files/abc"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:image/png;base64,iVBORw==", {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}),
        ("DATA:audio/wav;rate=8;base64,AA==", {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}),
        (
            "https://example.org/a.JPG?x=1",
            {"fileData": {"fileUri": "https://example.org/a.JPG?x=1", "mimeType": "image/jpeg"}},
        ),
        (
            "https://example.org/b.mp4#t=1",
            {"fileData": {"fileUri": "https://example.org/b.mp4#t=1", "mimeType": "video/mp4"}},
        ),
        ("gs://bucket/no-ending", {"fileData": {"fileUri": "gs://bucket/no-ending"}}),
        (FILES, {"fileData": {"fileUri": FILES}}),
    ],
)
def test_a_link_is_what_it_holds_or_where_it_is(url: str, part: object) -> None:
    assert media(url, at="here") == part


def test_a_file_says_what_it_is_or_its_name_does() -> None:
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}}
    assert attached(File(file_data="data:application/pdf;base64,JVBERg=="), at="here") == pdf
    assert attached(File(file_data="JVBERg==", filename="x.PDF"), at="here") == pdf
    assert attached(File(file_id=FILES), at="here") == {"fileData": {"fileUri": FILES}}


@pytest.mark.parametrize(("given_format", "kind"), [("wav", "audio/wav"), ("MP3", "audio/mp3"), ("flac", "audio/flac")])
def test_sound_is_sent_along(given_format: str, kind: str) -> None:
    part = {"inlineData": {"mimeType": kind, "data": "AA=="}}
    assert audio(Audio(data="AA==", format=given_format), at="here") == part


@pytest.mark.parametrize(
    "url", ["http://example.org/a.png", "ftp://x", "data:image/png,abc", "data:;base64,AA==", "", "x"]
)
def test_a_link_that_it_cannot_read_is_refused(url: str) -> None:
    with pytest.raises(UpstreamError, match="here is") as caught:
        media(url, at="here")
    assert caught.value.param == "here"


@pytest.mark.parametrize(
    "file", [File(file_id="file-abc"), File(), File(file_data="JVBERg=="), File(file_data="x", filename="x.xyz")]
)
def test_a_file_that_is_elsewhere_or_unknown_is_refused(file: File) -> None:
    with pytest.raises(UpstreamError, match="here"):
        attached(file, at="here")


@pytest.mark.parametrize("given_format", ["pcm16", "png", ""])
def test_sound_of_another_format_is_refused(given_format: str) -> None:
    with pytest.raises(UpstreamError, match="format"):
        audio(Audio(data="AA==", format=given_format), at="here")


@given(st.binary(max_size=50).map(bytes.hex), st.sampled_from(["image/png", "application/pdf", "video/mp4"]))
def test_what_is_sent_along_keeps_its_bytes(data: str, kind: str) -> None:
    data += "="
    assert media(f"data:{kind};base64,{data}", at="x") == {"inlineData": {"mimeType": kind, "data": data}}
