"""In which language a text is, guessed by its script and its frequent words.

Invariant: no text, however odd, raises; where two languages are as likely, none is said.
"""

import unicodedata
from collections import Counter
from collections.abc import Set

_FREQUENT = {
    "de": "der die das und ist nicht ich wie mein eine für mit auf kann wo warum wann wird haben sind zu",
    "fr": "le la les et est je comment mon une pour avec sur puis où pourquoi quand quel quelle sont des ne pas",
    "es": "el la los y es yo cómo mi una para con dónde por qué cuándo cuál puedo son las del no",
    "it": "il lo gli e è io come mio una per con dove perché quando quale posso sono le della non di",
    "pt": "o os e é eu como meu uma para com onde por que quando qual posso são as da não",
    "nl": "de het een en is niet ik hoe mijn voor met op kan waar waarom wanneer wat zijn te",
    "en": "the a and is not i how my for with on can where why when what are to of do does it you",
}
_WORDS = {name: frozenset(words.split()) for name, words in _FREQUENT.items()}

LANGUAGES = frozenset(_WORDS)
"""Those that are told apart by their words; others by their script: `CYRILLIC`, `ARABIC`, `CJK`, ..."""

_LETTERS = 400
"""Of a text, whose script is looked at."""

_MIN_HEARD = 3
"""Frequent words of a language in a text before it is said to be in it."""

_MIN_LEAD = 2
"""How many more of them than of the next language."""


def language(text: str, words: Set[str]) -> str:
    """Guess the language of a text, given its words in lower case; "" where that cannot be said."""
    if not text.isascii():
        scripts = Counter(unicodedata.name(c, "?").split()[0] for c in text[:_LETTERS] if c.isalpha())
        script, count = scripts.most_common(1)[0] if scripts else ("LATIN", 0)
        if script != "LATIN" and count * 2 > sum(scripts.values()):
            return "CJK" if script in ("HIRAGANA", "KATAKANA") else script
    heard = sorted(((len(words & frequent), name) for name, frequent in _WORDS.items()), reverse=True)
    return heard[0][1] if heard[0][0] >= _MIN_HEARD and heard[0][0] >= heard[1][0] + _MIN_LEAD else ""
