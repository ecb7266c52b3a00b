"""Embedders of the library fastembed, by the name that it has for a model.

Not here: what is done with them (`library.py`). The library fetches the files into the folder of models, from where it
is set up to, unless `path` is a folder that has them. Invariant: with `path`, nothing is fetched.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivet.config import EmbedderSettings
from trivet.embed.library import Library, digest_of, reads, resident
from trivet.embed.pieces import Pieces
from trivet.embed.resident import Resident
from trivet.seams import Kit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _load(settings: EmbedderSettings, models: Path) -> Library:
    import fastembed  # an extra, and slow to import

    given = {"specific_model_path": str(Path(settings.path).expanduser())} if settings.path else {}
    model: Any = fastembed.TextEmbedding(
        settings.model,
        cache_dir=str(models / "fastembed"),
        threads=settings.threads,
        providers=["CPUExecutionProvider"],
        **given,
    )
    inner = model.model
    tokenizer = inner.tokenizer
    pieces = Pieces(tokenizer.to_str())
    marks = len(pieces.before) + len(pieces.after)
    cuts = (tokenizer.truncation or {}).get("max_length")
    max_tokens = reads(cuts, wanted=settings.max_tokens, marks=marks)

    def embeds(texts: list[str]) -> "NDArray[np.float32]":
        import numpy as np

        made: NDArray[np.float32] = np.stack(list(model.embed(texts, batch_size=len(texts)))).astype(np.float32)
        return made

    width = embeds(["a"]).shape[1]
    folder = Path(settings.path).expanduser() if settings.path else Path(inner._model_dir)  # noqa: SLF001  # no other way
    making = f"fastembed {settings.model} {width} {max_tokens} l2"
    return Library(pieces, embeds, width=width, max_tokens=max_tokens, digest=digest_of(folder, making))


def build(settings: EmbedderSettings, kit: Kit) -> Resident:
    """Build it; it is fetched, where that is needed, and loaded when it is started."""
    return resident("fastembed", settings.model, kit, load=lambda: _load(settings, kit.models))
