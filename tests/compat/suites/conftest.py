"""Where the suites send their requests: set by `tests/compat/run.py`."""

import os
from typing import NamedTuple

import pytest


class Gateway(NamedTuple):
    """A gateway, as a client is told of it."""

    url: str
    """With `/v1`."""
    key: str
    model: str
    embedder: str
    """Empty: no embeddings can be had there."""


@pytest.fixture(scope="session")
def gateway() -> Gateway:
    return Gateway(
        os.environ["COMPAT_BASE_URL"],
        os.environ["COMPAT_API_KEY"],
        os.environ["COMPAT_MODEL"],
        os.environ["COMPAT_EMBEDDER"],
    )
