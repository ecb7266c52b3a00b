"""Embedders of the library sentence-transformers, by the name of a model or the folder of one.

Not here: what is done with them (`library.py`). The library fetches what is not on this machine, from the hub that it
is set up for. Invariants: no file is loaded that could run code: weights are safetensors, and no code of a model's
own is trusted.
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


def _load(settings: EmbedderSettings) -> Library:
    import sentence_transformers  # an extra, with torch behind it: seconds to import
    import torch

    torch.set_num_threads(settings.threads)
    name = settings.model
    local = Path(name).expanduser()
    model: Any = sentence_transformers.SentenceTransformer(
        str(local) if local.is_dir() else name, trust_remote_code=False, model_kwargs={"use_safetensors": True}
    )
    model.eval()
    tokenizer = model.tokenizer
    pieces = Pieces(getattr(tokenizer, "backend_tokenizer", tokenizer).to_str())
    marks = len(pieces.before) + len(pieces.after)
    max_tokens = reads(model.max_seq_length, wanted=settings.max_tokens, marks=marks)

    def embeds(texts: list[str]) -> "NDArray[np.float32]":
        made: NDArray[np.float32] = model.encode(
            texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True
        ).astype("float32", copy=False)
        return made

    folder = local if local.is_dir() else _fetched(name)
    width = embeds(["a"]).shape[1]
    making = f"sentence-transformers {width} {max_tokens} {model.default_prompt_name} l2"
    return Library(pieces, embeds, width=width, max_tokens=max_tokens, digest=digest_of(folder, making))


def _fetched(name: str) -> Path:
    """Say where the library has put a model that it fetched."""
    import huggingface_hub

    full = name if "/" in name else f"sentence-transformers/{name}"  # its own may go without
    return Path(huggingface_hub.snapshot_download(full, local_files_only=True))


def build(settings: EmbedderSettings, kit: Kit) -> Resident:
    """Build it; it is fetched, where that is needed, and loaded when it is started."""
    return resident("sentence-transformers", settings.model, kit, load=lambda: _load(settings))
