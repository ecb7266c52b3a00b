"""What a text says that a vector does not: numbers, negations, opposites, names, kinds of things, order, code,
language.

Not here: how much it counts (`features.py`). English where words are meant; numbers, code and scripts in any language.
Invariants: `guard` is the same whichever text comes first; no text, however long or odd, raises or takes more than a
few milliseconds: beyond `MAX_CHARACTERS` only the two ends are read.
"""

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from trivet.cache.semantic.lists import (
    COMMON,
    EXCHANGED,
    KINDS,
    LIGHT,
    NEGATIONS,
    NUMBERS,
    OPPOSITES,
    PERMITS,
    QUESTIONS,
    ROLES,
    SAME,
)
from trivet.wire.language import language

MAX_CHARACTERS = 4000
"""About 700 words, well past what the embedders read; half of it from either end."""

_WORD = re.compile(r"c\+\+|c#|\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:_[^\W_]+)*|[₀-₉]+")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019\u2018`](?=\w)")
_NAME = re.compile(r"(?<=[a-z0-9,;] )[A-Z][\w&.-]*[\w]")
_CODE = re.compile(
    r"`[^`]+`|https?://\S+|[\w.]+@[\w.]+|--?[a-zA-Z][\w-]*(?==|\b)(?<=-\w)|\b\w+(?:_\w+)+\b|\b\w+\(\w*\)|[a-z]+[A-Z]\w+|0x[0-9a-fA-F]+"
    r"|(?:/[\w.-]+){2,}|\b[A-Z]{1,5}-?\d{2,}\b|[=!<>]=|&&|\|\||\*\*|<<|>>|->|=>|\+\+"
)
_TIMES = re.compile(
    r"\b(?:last|next|this|previous|past|coming) (?:day|week|weekend|month|quarter|year|decade|century)\b"
)
_NT = frozenset(
    [
        "do",
        "does",
        "did",
        "is",
        "are",
        "was",
        "were",
        "wo",
        "would",
        "could",
        "should",
        "have",
        "has",
        "had",
        "ca",
        "must",
    ]
)
_ALIKE = 0.75
"""Of the content words two texts must share before a negation in one of them says that they ask for different things:
"why was my payment not accepted" and "why was my payment declined" ask for the same."""


_ENDINGS = ("ings", "ing", "ions", "ion", "ment", "ed", "es", "ly", "al", "er", "s", "e")


_HALF = 0.6
"""The same for "can I" and "must I", which are seldom the same question."""


class Reading(NamedTuple):
    """A text as the guards and features see it."""

    words: tuple[str, ...]
    bag: frozenset[str]
    content: frozenset[str]
    """Words that say what it is about."""
    numbers: frozenset[str]
    negations: int
    question: str
    """Its question word, or ""."""
    names: frozenset[str]
    """Capitalised inside a sentence, in lower case."""
    code: frozenset[str]
    kinds: dict[str, frozenset[str]]
    """Of each kind, the words of it that are in the text."""
    roles: frozenset[tuple[str, str]]
    """(content word, its part): ("boston", "from")."""
    permit: str
    language: str
    """Guessed; "" where that cannot be said."""
    stems: dict[str, float]
    """Each word without its ending, and how much it counts."""


@lru_cache(maxsize=32_768)
def stem(word: str) -> str:
    """Cut an ending off, so that "withdrawal" and "withdrawing" are one; crude on purpose."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def weight(word: str) -> float:
    """Say how much a word counts towards what a text is about: 0.1 to 1."""
    return 0.1 if word in COMMON else 0.35 if word in LIGHT else 1.0


class Weighed(NamedTuple):
    """The words of a text, and what they weigh: the part of a `Reading` that takes a tenth of its time."""

    words: tuple[str, ...]
    stems: dict[str, float]
    """As in `Reading`."""


@lru_cache(maxsize=8192)  # what is asked is met again as what is kept: 0.9 kB each
def weighed(text: str) -> Weighed:
    """Read the words of a text, and no more."""
    words = tuple(_WORD.findall(_plain(text).lower()))
    return Weighed(words, {stem(word): weight(word) for word in dict.fromkeys(words)})


def _plain(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + " " + text[-MAX_CHARACTERS // 2 :]
    return _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text))


@lru_cache(maxsize=4096)  # the same: 2.3 kB each beside their words
def read(text: str) -> Reading:
    """Read a text."""
    plain = _plain(text)
    words, stems = weighed(text)
    numbers, rest = _numbers(words)
    bag = frozenset(words)
    kinds: dict[str, frozenset[str]] = {}
    times = frozenset(_TIMES.findall(" ".join(words)))
    if times:
        kinds["time"] = times
    for word in bag & KINDS.keys():
        for kind in KINDS[word]:
            kinds[kind] = kinds.get(kind, frozenset()) | {word}
    content = frozenset(w for w in rest if w not in COMMON and w not in LIGHT)
    return Reading(
        words=words,
        bag=bag,
        content=content,
        numbers=numbers,
        negations=sum(1 for w in words if w in NEGATIONS or (w.endswith("nt") and w[:-2] in _NT)),
        question=next((w for w in words if w in QUESTIONS), ""),
        names=_names(plain),
        code=frozenset(_CODE.findall(plain)),
        kinds=kinds,
        roles=_roles(words, content),
        permit=next((PERMITS[w] for w in words[:8] if w in PERMITS), ""),
        language=language(plain, bag),
        stems=stems,
    )


def _numbers(words: tuple[str, ...]) -> tuple[frozenset[str], list[str]]:
    """Give the numbers of a text in one form, and the words that are none."""
    numbers, rest = set(), []
    for word in words:
        if word[0].isdigit():
            whole = re.sub(r",(?=\d{3}\b)", "", word)
            numbers.add(whole.lstrip("0").rstrip(".") or "0")
        elif word in NUMBERS:
            numbers.add(NUMBERS[word])
        else:
            rest.append(word)
    return frozenset(numbers), rest


def _names(text: str) -> frozenset[str]:
    found = _NAME.findall(text)
    # Where every other word has a capital (a headline), capitals say nothing.
    if len(found) > 3 and len(found) * 2 > text.count(" "):
        return frozenset()
    return frozenset(n.lower() for n in found if n.lower() not in COMMON and not n.startswith(("I'", "I\u2019")))


def _roles(words: tuple[str, ...], content: frozenset[str]) -> frozenset[tuple[str, str]]:
    found = set()
    for before, word in pairwise(words):
        if before in ROLES and (word in content or word in LIGHT):
            found.add((word, ROLES[before]))
    return frozenset(found)


def guard(a: Reading, b: Reading) -> str:
    """Name what forbids that the answer to one text is served for the other; "" where nothing does."""
    if a.words == b.words and a.code == b.code:
        return ""
    if a.numbers != b.numbers:
        return "number differs"
    if a.language != b.language and a.language and b.language:
        return "other language"
    if _code(a, b):
        return "code differs"
    return _opposite(a, b) or _kind(a, b) or _order(a, b) or _name(a, b) or _negation(a, b) or _modality(a, b)


def _code(a: Reading, b: Reading) -> bool:
    return a.code != b.code and (
        _missing(a.code - b.code, b)
        or _missing(b.code - a.code, a)
        or any(not any(map(str.isalnum, code)) for code in a.code ^ b.code)
    )


def _opposite(a: Reading, b: Reading) -> str:
    if (a.negations - b.negations) % 2:
        return ""  # "not accepted" and "declined"
    only_b = b.bag - a.bag
    return "opposite" if any(OPPOSITES[word] & only_b for word in (a.bag - b.bag) & OPPOSITES.keys()) else ""


def _kind(a: Reading, b: Reading) -> str:
    for kind in a.kinds.keys() & b.kinds.keys():
        of_a, of_b = a.kinds[kind] - b.kinds[kind], b.kinds[kind] - a.kinds[kind]
        if _unmatched(of_a, b) and _unmatched(of_b, a):
            return f"{kind} differs"
    return ""


def _unmatched(words: frozenset[str], other: Reading) -> bool:
    """Whether one of the words is not in the other text under another name either."""
    return any(not (SAME.get(word, frozenset()) & other.bag) for word in words)


def _order(a: Reading, b: Reading) -> str:
    """Find words whose parts are exchanged: "from Boston to Denver" and "from Denver to Boston"."""
    for word, role in a.roles:
        for other, part in b.roles:
            if word == other and (role, part) in EXCHANGED and (word, role) not in b.roles:
                return "order differs"
            if role == part == "than" and word != other and word in b.bag and other in a.bag:
                return "order differs"
    if a.bag == b.bag and len(a.words) == len(b.words):
        at = [i for i, (one, two) in enumerate(zip(a.words, b.words, strict=True)) if one != two]
        # Neighbours exchanged ("delivered separately") is a manner of speaking.
        if len(at) == 2 and at[1] > at[0] + 1:
            return "order differs"
    return ""


def _name(a: Reading, b: Reading) -> str:
    return "name differs" if _missing(a.names - b.bag, b) and _missing(b.names - a.bag, a) else ""


def _missing(words: frozenset[str], other: Reading) -> bool:
    """Whether one of the words is not in the other text, however it is written there: "U.S.", "US"; "T-20", "T20"."""
    joined = "".join(other.words)
    return any("".join(filter(str.isalnum, word.lower())) not in joined for word in words)


def _negation(a: Reading, b: Reading) -> str:
    if (a.negations - b.negations) % 2 == 0:
        return ""
    return "negation differs" if _shared(a, b) >= _ALIKE else ""


def _shared(a: Reading, b: Reading) -> float:
    """Give the share of content words that both have, in [0, 1]; 1 where neither has any."""
    union = len(a.content | b.content)
    return len(a.content & b.content) / union if union else 1.0


def _modality(a: Reading, b: Reading) -> str:
    if a.permit and b.permit and a.permit != b.permit and _shared(a, b) >= _HALF:
        return "modality differs"
    return ""
