"""Texts of a trial are embedded once each, by the embedder that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from tests.cache.semantic.hashed import Hashed
from tests.cli.conftest import Upstream
from trivet.cli.trial.vectors import embed, vectors_of
from trivet.errors import ConfigError
from trivet.ledger import report

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


def test_one_of_another_place_is_asked_as_the_file_says_and_paid_for_in_the_ledger(
    home: Path, upstream: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(f"""
[targets.v]
provider = "openai"
model = "v-1"
base_url = "{upstream.url}"
price = {{ input = "$1", output = "$0" }}
[targets.unused]
provider = "openai"
model = "u-1"
base_url = "http://127.0.0.1:1/v1"
[embedder]
kind = "target"
target = "v"
""")
    made = embed(["one text", "another text"], "auto", config=file)
    assert (made.name, made.vectors.shape) == ("target v", (2, 8))
    found = report.entries(home / "ledger", since_ns=0, until_ns=2**62, limit=10, tell=print)
    assert {entry.embed_of for entry in found} == {"start", "asked"}
    assert sum(entry.outcome.cost_nanos or 0 for entry in found) > 0
    with pytest.raises(ConfigError, match="write it into its"):
        embed(["a"], "target")
