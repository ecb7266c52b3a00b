"""Exact money: whole numbers of nano-dollars, and how they are read, rounded and written.

Not here: what anything costs (`rates.py`, `prices.py`).
Invariants: no float is ever money; a sum of parts is rounded once, at its end, half to even.
"""

from fractions import Fraction

from trivet.types import Nanos

PER_DOLLAR = 1_000_000_000


def half_even(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest whole number; a tie goes to the even one, so that errors do not add up."""
    whole, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2):
        whole += 1
    return whole


def dollars(text: str) -> Fraction:
    """Read an amount such as "$0.15" exactly, in dollars."""
    return Fraction(text.removeprefix("$"))


def usd(nanos: Nanos) -> str:
    """Write an amount exactly, without the sign of the currency: 151_200 is "0.0001512"."""
    digits = str(abs(nanos)).zfill(10)  # at least one of dollars, and nine behind the point
    return f"{'-' if nanos < 0 else ''}{digits[:-9]}.{digits[-9:]}".rstrip("0").removesuffix(".")
