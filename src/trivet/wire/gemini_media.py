"""Pictures, sound, films and files of a message as parts of Gemini's: sent along, or pointed at.

Not here: the messages around them (`gemini_contents.py`). Nothing is fetched and nothing is decoded: Gemini reads
what is at an address itself. Invariant: what is sent along keeps its bytes.
"""

import re
from typing import Any

from msgspec import Struct

from trivet.wire.gemini_error import unsupported

Json = dict[str, Any]

_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "aiff": "audio/aiff",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}
"""By file ending; the types that Gemini reads. For any other it looks at the file itself."""


class Url(Struct):
    """`image_url`, `video_url`."""

    url: str
    detail: str | None = None


class Audio(Struct):
    """`input_audio`."""

    data: str
    format: str


class File(Struct):
    """`file`."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


def audio(sound: Audio, *, at: str) -> Json:
    """Convert sound, which is always sent along."""
    kind = _TYPES.get(sound.format.lower(), "")
    if not kind.startswith("audio/"):
        raise unsupported(f"{at} is audio of a format it does not read. Send wav, mp3 or flac.", param=at)
    return {"inlineData": {"mimeType": kind, "data": sound.data}}


def media(url: str, *, at: str) -> Json:
    """Convert a link: what it holds, or where it is."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "data":
        head, _, data = rest.partition(",")
        kind, *flags = head.split(";")
        if "base64" not in flags or not kind or not data:
            raise unsupported(f"{at} is not a data URL such as data:image/png;base64,...", param=at)
        return {"inlineData": {"mimeType": kind, "data": data}}
    if scheme.lower() not in ("https", "gs"):
        raise unsupported(f"{at} is at an address that it cannot read. Send https:, gs: or data:.", param=at)
    ending = re.search(r"\.([A-Za-z0-9]{1,5})(?:[?#]|$)", url)
    kind = _TYPES.get(ending[1].lower(), "") if ending else ""
    return {"fileData": {"fileUri": url} | ({"mimeType": kind} if kind else {})}


def attached(file: File, *, at: str) -> Json:
    """Convert a file: what it holds, or where it is."""
    if file.file_data is None:
        if (file.file_id or "").startswith(("https://", "gs://")):
            return media(file.file_id or "", at=at)
        raise unsupported(
            f"{at} names a file of another provider. Send `file_data`, or the https: or gs: address of one.", param=at
        )
    if file.file_data.startswith("data:"):
        return media(file.file_data, at=at)
    kind = _TYPES.get((file.filename or "").rpartition(".")[2].lower())
    if kind is None:
        raise unsupported(f"{at} does not say what it is. Send data:application/pdf;base64,... or so.", param=at)
    return {"inlineData": {"mimeType": kind, "data": file.file_data}}
