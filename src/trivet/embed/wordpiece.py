"""Texts to token ids as the uncased BERT does it: clean up, split into words, split words into known pieces.

Not here: what is done with the ids. The rules are those of BERT's `tokenization.py` (Devlin et al. 2018) as the
`tokenizers` package has them. Differences, both wanted: names of special tokens in a text (`[SEP]`) are plain text, so
that nobody can write one; characters newer than that package's tables are classed by this Python's.
Invariants: the same text gives the same ids on every machine of one Python version; no input raises, holds the
interpreter for longer than one piece of text takes, or makes it remember more than a bounded number of words.
"""

import hashlib
import lzma
import re
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.resources import files

from trivet.errors import WeightsError

VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""Of `vocab.txt` of bert-base-uncased, one token a line: 30,522 of them. The same file is in all-MiniLM-L6-v2."""

CLS, SEP, UNKNOWN = 101, 102, 100
"""Ids of `[CLS]`, `[SEP]` and `[UNK]`."""

_MAX_WORD = 100
"""Characters of a word; a longer one is `[UNK]`, as BERT has it."""

_PIECE = 4096
"""Characters read in one go: about a millisecond, after which other threads have their turn."""

_MAX_CACHED = 32_768
"""Words split into pieces, and characters classed, that are remembered: some 10 MB. When full, all are forgotten."""


def vocabulary() -> list[str]:
    """Read the tokens that are shipped, in the order of their ids.

    Raises:
        WeightsError: the file is not the one that this version was made with.
    """
    data = lzma.decompress((files("trivet.embed") / "vocabulary.txt.xz").read_bytes())
    if hashlib.sha256(data).hexdigest() != VOCABULARY_SHA256:
        raise WeightsError("The vocabulary of the embedders is not the one of this version. Install trivet again.")
    return data.decode().splitlines()


class WordPiece:
    """A tokenizer with its memory. Several threads may use one: each step on the memory is atomic."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._longest = max(map(len, tokens))
        self._pieces: dict[str, tuple[int, ...]] = {}
        self._forms = _Forms()

    def ids(self, text: str, *, most: int) -> tuple[list[int], bool]:
        """Split a text; gives its first `most` ids, without `[CLS]` and `[SEP]`, and whether there are more."""
        ids: list[int] = []
        if len(text) <= _PIECE:
            self._read(text, ids)
        else:
            for piece in _cut(text):
                self._read(piece, ids)
                if len(ids) > most:
                    break
        return (ids, False) if len(ids) <= most else (ids[:most], True)

    def _read(self, text: str, ids: list[int]) -> None:
        add, known, pieces = ids.append, self._ids.get, self._pieces.get
        ascii_words = _ASCII_WORDS(text.translate(_ASCII).lower()) if text.isascii() else None
        for word in text.translate(self._forms).split() if ascii_words is None else ascii_words:
            one = known(word)
            if one is not None:
                add(one)
            else:
                ids.extend(pieces(word) or self._split(word))

    def _split(self, word: str) -> tuple[int, ...]:
        """Take the longest piece that is known, again and again; a word that cannot be split so is `[UNK]`."""
        found: list[int] = []
        start, size, mark = 0, len(word), ""
        while start < size <= _MAX_WORD:
            for end in range(min(size, start + self._longest), start, -1):
                piece = self._ids.get(mark + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start, mark = end, "##"
                    break
            else:
                break
        ids = tuple(found) if start == size else (UNKNOWN,)
        if len(self._pieces) >= _MAX_CACHED:
            self._pieces.clear()
        if size <= _MAX_WORD:
            self._pieces[word] = ids
        return ids


def _cut(text: str) -> Iterator[str]:
    """Cut a long text after a space, line end, full stop or comma; inside a word only if it has over 4,000 letters."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            end = 1 + max(text.rfind(mark, start, end) for mark in " \n.,") or end
        yield text[start:end]
        start = end


_ASCII = {c: " " if chr(c) in "\t\n\r" else None for c in (*range(32), 127)}
_ASCII_WORDS = re.compile(r"[a-z0-9]+|[^ a-z0-9]").findall


class _Forms(dict[int, str]):
    """For `str.translate`: what each character becomes, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        if len(self) >= _MAX_CACHED:
            self.clear()
        self[code] = form = _form(chr(code))
        return form


def _form(char: str) -> str:
    """Say what becomes of one character: nothing, a space, or its small letters without accents."""
    if char in "\t\n\r":
        return " "
    kind = unicodedata.category(char)
    if kind in ("Cc", "Cf", "Co", "Cs") or char == "\ufffd":
        return ""
    if kind[0] == "Z":
        return " "
    plain = "".join(c for c in unicodedata.normalize("NFD", char) if unicodedata.category(c) != "Mn")
    small = "".join(c.lower() for c in plain)
    if _is_chinese(ord(char)):
        return f" {small} "
    return "".join(f" {c} " if _is_punctuation(c) else c for c in small)


def _is_punctuation(char: str) -> bool:
    """All that is printed in ASCII and neither letter nor digit, and what Unicode calls so."""
    if char.isascii():
        return not char.isalnum() and char > " "
    return unicodedata.category(char)[0] == "P"


def _is_chinese(code: int) -> bool:
    """CJK ideographs, which are words of their own; not Hangul, Hiragana or Katakana."""
    return code >= 0x3400 and any(first <= code <= last for first, last in _CHINESE)


_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
