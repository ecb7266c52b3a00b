"""Room for model files: the models that are known (`catalog`), where they come from (`sources`), the folder (`store`).

A model is its digest: whatever the source, bytes that do not match are never given out. Nothing here loads a model,
and packages that carry parts of one are unzipped, never installed or imported.
"""

from trivet.weights.catalog import MINILM, MODELS, File, Model, find
from trivet.weights.sources import Progress
from trivet.weights.store import Store

__all__ = ["MINILM", "MODELS", "File", "Model", "Progress", "Store", "find"]
