"""Trivet: fast, cheap and good enough LLM applications, with proof."""

__version__ = "0.1.0"
