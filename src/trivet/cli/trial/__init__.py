"""`trivet cache eval` and `trivet cache tune`: how the cache does on labelled traffic, and what to set.

`labelled.py` reads such traffic, `vectors.py` embeds it, `evaluate.py` and `tune.py` are the commands, `picture.py`
draws.
"""

from trivet.cli.trial.evaluate import evaluate
from trivet.cli.trial.tune import tune

__all__ = ["evaluate", "tune"]
