"""Two hundred questions with one right answer each: capitals, chemical symbols, sums, word problems, conversions.

Facts and numbers of our own making, the same on every machine; nothing of a published test is among them, and models
that know them have learned facts and not a test. Some are easy for a model of a hundred million parameters and some
are hard for one of a billion, which is all that they are for.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from trivet.wire.canonical import canonical


class Question(NamedTuple):
    """A question, and what is right."""

    domain: str
    text: str
    answer: str


_CAPITALS = """
France Paris, Italy Rome, Japan Tokyo, Egypt Cairo, Canada Ottawa, Australia Canberra, Brazil Brasília, Turkey Ankara,
Kenya Nairobi, Norway Oslo, Finland Helsinki, Poland Warsaw, Portugal Lisbon, Greece Athens, Hungary Budapest, Peru
Lima, Chile Santiago, Cuba Havana, Vietnam Hanoi, Thailand Bangkok, Nepal Kathmandu, Mongolia Ulaanbaatar, Iceland
Reykjavik, Ireland Dublin, Latvia Riga, Estonia Tallinn, Lithuania Vilnius, Slovenia Ljubljana, Slovakia Bratislava,
Croatia Zagreb, Albania Tirana, Bulgaria Sofia, Romania Bucharest, Serbia Belgrade, Ukraine Kyiv, Georgia Tbilisi,
Armenia Yerevan, Azerbaijan Baku, Kazakhstan Astana, Uzbekistan Tashkent, Senegal Dakar, Ghana Accra, Zambia Lusaka,
Rwanda Kigali, Uganda Kampala, Malawi Lilongwe, Namibia Windhoek, Madagascar Antananarivo, Bolivia Sucre, Ecuador
Quito, Uruguay Montevideo, Paraguay Asunción, Bhutan Thimphu, Laos Vientiane, Suriname Paramaribo, Vanuatu Vila
"""
_SYMBOLS = """
hydrogen H, helium He, carbon C, oxygen O, nitrogen N, sodium Na, potassium K, iron Fe, copper Cu, silver Ag, gold Au,
lead Pb, tin Sn, zinc Zn, mercury Hg, tungsten W, antimony Sb, chlorine Cl, neon Ne, argon Ar, nickel Ni, cobalt Co,
platinum Pt, uranium U, iodine I, bromine Br, arsenic As, cadmium Cd, cerium Ce, gallium Ga, iridium Ir, osmium Os,
rubidium Rb, selenium Se, thallium Tl, yttrium Y
"""


def questions(count: int = 200, *, seed: int = 1) -> list[Question]:
    """Give so many of them, at most 200, in an order of which any beginning has all kinds."""
    chosen = random.Random(seed)
    made = [
        *(
            Question("capitals", f"What is the capital of {a}? Reply with its name only.", b)
            for a, b in _pairs(_CAPITALS)
        ),
        *(
            Question("symbols", f"What is the chemical symbol of {a}? Reply with the symbol only.", b)
            for a, b in _pairs(_SYMBOLS)
        ),
        *_unlike(_sum, chosen, 40),
        *_unlike(_problem, chosen, 40),
        *_unlike(_conversion, chosen, 28),
    ]
    chosen.shuffle(made)
    return made[:count]


def right(question: Question, said: str) -> bool:
    """Say whether an answer is right: it ends up with the number, or names the word and little else."""
    found = canonical(said)
    if question.answer.lstrip("-").isdigit():
        return found is not None and found.kind == "number" and found.text == question.answer
    words = said.strip().strip(".!*`\"' ")
    if question.domain == "symbols":
        return words == question.answer
    return len(words) < 80 and _plain(question.answer) in _plain(words)


def _plain(text: str) -> str:
    return text.lower().translate(str.maketrans("íóéáú", "ioeau"))


def _pairs(words: str) -> list[tuple[str, str]]:
    return [(a, b) for a, _, b in (pair.strip().partition(" ") for pair in " ".join(words.split()).split(","))]


def _unlike(make: Callable[[random.Random], Question], chosen: random.Random, count: int) -> list[Question]:
    """Make so many different ones."""
    made: dict[str, Question] = {}
    while len(made) < count:
        one = make(chosen)
        made[one.text] = one
    return list(made.values())


def _sum(chosen: random.Random) -> Question:
    a, b, c = chosen.randint(2, 99), chosen.randint(2, 99), chosen.randint(2, 9)
    text, value = chosen.choice(
        [
            (f"{a} + {b}", a + b),
            (f"{a} - {b}", a - b),
            (f"{a} * {c}", a * c),
            (f"{a} + {b} * {c}", a + b * c),
            (f"({a} + {b}) * {c}", (a + b) * c),
            (f"{a * c} / {c}", a),
        ]
    )
    return Question("sums", f"What is {text}? Reply with the number only.", str(value))


def _problem(chosen: random.Random) -> Question:
    a, b, c = chosen.randint(3, 20), chosen.randint(2, 12), chosen.randint(2, 9)
    text, value = chosen.choice(
        [
            (f"Ann has {a} apples and buys {b} more. She gives {c} away. How many has she now?", a + b - c),
            (f"A box holds {a} pens. How many pens are in {b} boxes?", a * b),
            (f"{a * c} sweets are shared by {c} children equally. How many does each get?", a),
            (f"A book has {a * 10} pages. Tom reads {b} pages a day for {c} days. How many are left?", a * 10 - b * c),
            (f"A ticket costs {a} euros. What do {b} tickets cost after a reduction of {c} euros in all?", a * b - c),
            (f"Two trains have {a} and {b} coaches with {c} doors each. How many doors are there?", (a + b) * c),
        ]
    )
    return Question("problems", f"{text} Reply with the number only.", str(value))


def _conversion(chosen: random.Random) -> Question:
    a, b = chosen.randint(2, 24), chosen.randint(1, 59)
    text, value = chosen.choice(
        [
            (f"How many minutes are {a} hours and {b} minutes?", a * 60 + b),
            (f"How many seconds are {a} minutes?", a * 60),
            (f"How many metres are {a} kilometres?", a * 1000),
            (f"How many days are {a} weeks?", a * 7),
            (f"How many months are {a} years?", a * 12),
            (f"How many centimetres are {a} metres and {b} centimetres?", a * 100 + b),
        ]
    )
    return Question("conversions", f"{text} Reply with the number only.", str(value))
