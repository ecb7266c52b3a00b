"""One finding of `trivet doctor`, as all its modules give it.

Not here: what is checked, and how it is shown (`report.py`).
Invariant: what is not in place has a fix and somebody who can apply it.
"""

from typing import Literal, NamedTuple

State = Literal["ok", "warn", "bad"]
"""In place; works, and should be looked at; would stop serving, or a target of it."""

Whose = Literal["", "operator", "upstream", "trivet"]
"""Who can put it right: you; the provider; the makers of Trivet. Empty where all is well."""


class Check(NamedTuple):
    """One line."""

    state: State
    what: str
    """The subject, such as `target large`."""
    words: str
    fix: str = ""
    """What to do: commands, or lines for trivet.toml."""
    whose: Whose = ""


def ok(what: str, words: str) -> Check:
    """Say that something is in place."""
    return Check("ok", what, words)


def warn(what: str, words: str, fix: str, whose: Whose = "operator") -> Check:
    """Say that something works and should be looked at."""
    return Check("warn", what, words, fix, whose)


def bad(what: str, words: str, fix: str, whose: Whose = "operator") -> Check:
    """Say that something stops the gateway, or a target of it."""
    return Check("bad", what, words, fix, whose)
