"""A text cut into the tokens of a model whose vocabulary is its own, by the package `tokenizers`.

Not here: BERT's vocabulary, for which there is `wordpiece.py` and no package is needed.
Invariants: of a text too long, what is given is a beginning of it with as many tokens as may be; tokens that mark
beginning and end are never counted as the text's.
"""

from typing import Any, NamedTuple

from trivet.errors import EmbedderError

MISSING = (
    "Its vocabulary is not BERT's (bert-base-uncased), and to read it takes the package `tokenizers`, which is not "
    "installed. Run: pip install tokenizers"
)


class Read(NamedTuple):
    """A text as it was read."""

    text: str
    """Its beginning, where it has more than may be."""
    ids: list[int]
    more: bool


class Pieces:
    """A tokenizer."""

    def __init__(self, tokenizer: str) -> None:
        """`tokenizer`: the text of a `tokenizer.json`. Raises EmbedderError."""
        try:
            import tokenizers
        except ImportError as error:
            raise EmbedderError(MISSING) from error
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(tokenizer)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            marked, bare = (self._tokenizer.encode("a", add_special_tokens=marks).ids for marks in (True, False))
        except Exception as error:  # its errors have no root of their own
            raise EmbedderError(f"`tokenizers` cannot read its vocabulary: {str(error)[:200]}.") from error
        at = next((i for i in range(len(marked)) if marked[i : i + len(bare)] == bare), 0)
        self.before, self.after = tuple(marked[:at]), tuple(marked[at + len(bare) :])
        """Marks that a text is put between."""

    def read(self, text: str, *, most: int) -> Read:
        """Read a text, to `most` tokens of it."""
        sent = text.encode("utf-8", "ignore").decode()  # half a character is none to it
        if not sent.strip():
            return Read("", [], more=False)
        found = self._tokenizer.encode(sent, add_special_tokens=False)
        if len(found.ids) <= most:
            return Read(sent, found.ids, more=False)
        return Read(sent[: found.offsets[most - 1][1]], found.ids[:most], more=True)
