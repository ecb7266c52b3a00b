"""Trivet: fast, cheap and good enough LLM applications, with proof.

`openai()` and `async_openai()` give OpenAI's own client classes over Trivet itself; `Engine` is what they share.
"""

from typing import TYPE_CHECKING, Any

from trivet.version import VERSION

__version__ = VERSION
__all__ = ["openai", "async_openai", "Engine", "__version__"]

if TYPE_CHECKING:
    from trivet.inprocess import Engine, async_openai, openai


def __getattr__(name: str) -> Any:
    if name in ("openai", "async_openai", "Engine"):  # not before it is asked for: importing `trivet` costs nothing
        from trivet import inprocess

        return getattr(inprocess, name)
    raise AttributeError(f"module 'trivet' has no attribute {name!r}")
