"""One embedder for all who borrow it, and none when the last has given it back."""

from pathlib import Path

import pytest

from trivet.config import EmbedderSettings
from trivet.embed.lender import Lender
from trivet.errors import ConfigError, EmbedderError
from trivet.seams import Embedder, Kit
from trivet.testing.embedder_suite import EmbedderSuite
from trivet.testing.house import kit


class TestLent(EmbedderSuite):
    def make(self) -> Embedder:
        return Lender(EmbedderSettings(), kit(Path("unused"))).take("builtin")


pytestmark = pytest.mark.anyio


async def test_it_is_loaded_for_all_and_closed_with_the_last(tmp_path: Path) -> None:
    lender = Lender(EmbedderSettings(), kit(tmp_path))
    first, second = lender.take("builtin"), lender.take("builtin")
    await first.embed(["a text"])
    assert second.ready() == ""
    await first.aclose()
    await first.aclose()
    with pytest.raises(EmbedderError, match="given back"):
        await first.embed(["a text"])
    assert (await second.embed(["a text"])).tokens == (2,)
    await second.aclose()
    third = lender.take("builtin")
    assert third.ready() == "not started"
    await third.aclose()


async def test_one_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no trivet\.embedder called 'nope'; installed: builtin, fast"):
        Lender(EmbedderSettings(), kit(tmp_path)).take("nope")
    alone = Kit(*kit(tmp_path)[:-1])
    with pytest.raises(ConfigError, match="No embedder can be lent here"):
        alone.embedder("builtin")
