"""Texts of a trial are embedded once each, by the embedder that is asked for."""

import numpy as np
import pytest

from tests.cache.semantic.hashed import Hashed
from trivet.cli.trial.vectors import embed, vectors_of
from trivet.errors import ConfigError

pytestmark = pytest.mark.anyio


async def test_each_text_is_embedded_once_and_one_without_words_has_no_row() -> None:
    hashed = Hashed()
    made = await vectors_of(hashed, ["a b", "c", "a b", "", "word " * 100])
    assert sorted(made.rows) == ["a b", "c"]
    assert np.allclose(np.linalg.norm(made.vectors[list(made.rows.values())], axis=1), 1.0)
    assert hashed.asked[:4] == ["", "c", "a b", "word " * 100]
    assert made.embed_ms_p50 > 0


def test_the_builtin_embedder_needs_nothing_but_the_package(home: object) -> None:
    made = embed(["where is my card", "where is my credit card", "boil an egg"], "builtin")
    one, other, third = (
        made.vectors[made.rows[t]] for t in ("where is my card", "where is my credit card", "boil an egg")
    )
    assert float(one @ other) > float(one @ third)
    assert made.name == "trivet-static-1"


def test_an_embedder_that_is_not_there_is_named(home: object) -> None:
    with pytest.raises(ConfigError, match="nonesuch"):
        embed(["a"], "nonesuch")
