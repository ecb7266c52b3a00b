"""The answer in an answer: the letter, number or few words that a text ends up with, in one form however it is written.

Looked for are, in this order: what stands in the last `\\boxed{}`, after the last `####`, after the last "answer is" or
"answer:", the last bold or plain line if it is short, or the text itself if that is. What is found is a letter (`B`,
`(b)`, `B. Paris`), a number (`$1,200.50`, `12 %`, `3/4`, `1.5e3`, with or without its unit) or a few words.

Not here: whether two texts without such an answer say the same (`alike.py`). Invariants: nothing raises; equal numbers
have equal texts, however they are written; a text is read once, in time that grows with its length.
"""

import re
from fractions import Fraction
from typing import Literal, NamedTuple

MOST_CHARS = 100_000
"""Of a text that are read, from its end: that is where answers are."""

SHORT = 60
"""Characters of what may be an answer by itself."""

MOST_POWER = 30
"""Of ten, in a number."""

Kind = Literal["letter", "number", "words"]


class Canonical(NamedTuple):
    """An answer."""

    kind: Kind
    text: str
    """A capital letter; a fraction in lowest terms (`6/5`, `12`), of per cent as it stands; or words in lower case."""


_MARK = re.compile(r"####|\banswer\s*(?:is|:|would be)\**[ \t]*:?", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-J])(?:[.):]+(?:\s.*)?|\))?", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(
    r"([-+\u2212]?)[$€£]?\s?([-+]?)(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e([+-]?\d{1,3})|\s?/\s?(\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)
_UNIT = re.compile(r"\s?[%°\w$€£²³/]{0,12}(?:\s[\w²³/]{1,12}){0,3}")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")
_MARKUP = re.compile(r"[*_`$]+|\\[()\[\]]|\\[,;! ]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBERS = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def canonical(text: str) -> Canonical | None:
    """Find the answer that a text ends up with; None: it does not end in one."""
    text = text[-MOST_CHARS:].strip()
    found = _boxed(text)
    if found is None:
        found = _marked(text)
    if found is None:
        found = text if len(text) <= SHORT and "\n" not in text else _last_line(text)
    return _read(found) if found else None


def closing(text: str) -> frozenset[str]:
    """Give the numbers of a text's last sentence that has any, as they are written but for their commas."""
    for sentence in reversed(_SENTENCE.split(text[-MOST_CHARS:].strip())):
        found = frozenset(number.replace(",", "") for number in _NUMBERS.findall(sentence))
        if found:
            return found
    return frozenset()


def _boxed(text: str) -> str | None:
    """Give what stands in the last box."""
    at = text.rfind("\\boxed{")
    if at < 0:
        return None
    depth, begin = 1, at + len("\\boxed{")
    for i in range(begin, min(len(text), begin + 500)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[begin:i]
    return None


def _marked(text: str) -> str | None:
    """Give what stands after the last mark, to the end of its line."""
    marks = list(_MARK.finditer(text))
    for mark in reversed(marks):
        rest = text[mark.end() :].strip().partition("\n")[0].strip(" *")
        if rest:
            return rest if len(rest) <= SHORT else _SENTENCE.split(rest, maxsplit=1)[0]
    return None


def _last_line(text: str) -> str | None:
    """Give the last line, if it is a letter or a number and nothing else."""
    line = text.rpartition("\n")[2].strip()
    if len(line) > SHORT:
        return None
    found = _read(line)
    return line if found is not None and found.kind != "words" else None


def _read(found: str) -> Canonical | None:
    plain = _FRACTION.sub(r"\1/\2", found)
    plain = _MARKUP.sub("", _TEXT.sub(r"\1", plain)).replace("\\%", "%").strip().rstrip(".!").strip()
    if not plain or len(plain) > 4 * SHORT:
        return None
    if letter := _LETTER.fullmatch(plain):
        return Canonical("letter", letter[1].upper())
    number = _number(plain)
    if number is not None:
        return Canonical("number", str(number))
    return Canonical("words", " ".join(plain.lower().split())) if len(plain) <= SHORT else None


def _number(plain: str) -> Fraction | None:
    """Read a number with its unit."""
    at = plain.rpartition("=")[2].strip()  # x = 3
    found = _NUMBER.match(at)
    if found is None or not _UNIT.fullmatch(at[found.end() :]):
        return None
    sign, other, digits, power, below = found.groups()
    value = Fraction(digits.replace(",", ""))
    if power and abs(int(power)) > MOST_POWER:
        return None
    if power:
        value *= Fraction(10) ** int(power)
    if below:
        if Fraction(below) == 0:
            return None
        value /= Fraction(below)
    return -value if (sign in ("-", "\u2212")) != (other == "-") else value
