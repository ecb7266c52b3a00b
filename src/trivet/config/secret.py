"""Keys: a type that cannot be shown by mistake, and where one is read from.

Invariant: no error repeats a value that may be a key.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from trivet.errors import ConfigError

KEY_WORDS = (
    "A key is never written in the file: write where it is, such as "
    '"env:OPENAI_API_KEY" or "file:/run/secrets/openai". If it was saved or shared, make a new one.'
)


class Secret:
    """A key that may not be seen: masked in every way of writing it, and refused by every way of storing it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the key itself: only for the header that it belongs in."""
        return self._value

    def __str__(self) -> str:
        # A short one would be guessed from its ends.
        return f"{self._value[:3]}...{self._value[-4:]}" if len(self._value) >= 20 else "***"

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # nothing may keep it in a set or as a key

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError("a Secret is never written anywhere")


def secret(where: str, env: Mapping[str, str]) -> Secret | None:
    """Read the key that `env:NAME` or `file:PATH` points at; None where nothing is asked for.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, or what is there is empty or not one line.
    """
    if not where:
        return None
    kind, _, name = where.partition(":")
    if kind == "env":
        value, place = env.get(name, "").strip(), f"The environment variable {name}"
        if name not in env:
            raise ConfigError(f"{place} is not set, and a key is expected in it. Run: export {name}=...")
    elif kind == "file":
        value, place = read_text(Path(name).expanduser(), "a key is expected in it").strip(), f"The file {name}"
    else:
        raise ConfigError(f"A key is given in the open. {KEY_WORDS}")
    if not value:
        raise ConfigError(f"{place} is empty, and a key is expected in it.")
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"{place} holds more than a key: one line of ASCII is expected.")
    return Secret(value)


def read_text(path: Path, why: str) -> str:
    """Read a file, or say with a ConfigError why it cannot be, and what it is needed for."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}, and {why}.") from None
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"The file {path} cannot be read ({words}), and {why}.") from error
