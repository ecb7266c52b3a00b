"""A classifier that cannot be meant is refused, with the line and what to write."""

import re

import pytest

from trivet.config import parse
from trivet.errors import ConfigError

FILE = """
[targets.small]
provider = "openai"
model = "s"
region = "us"
[targets.large]
provider = "openai"
model = "l"
region = "us"
[targets.far]
provider = "openai"
model = "f"
region = "eu"
[targets.any]
provider = "openai"
[targets.vectors]
provider = "embedder"
[policies.other]
pool = ["small", "large"]
[policies.sorted]
pool = ["small", "large"]
route = "classifier"
classifier = { model = "small" }
[policies.p]
pool = ["small", "large"]
"""
ASKS = 'route = "classifier"\n'


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (ASKS, "policies.p.classifier: The section is missing: who is asked"),
        ('classifier = { model = "small" }', 'policies.p.classifier: Only route = "classifier" asks it.'),
        (ASKS + "classifier = {}", "policies.p.classifier: `model` is missing."),
        (ASKS + 'classifier = { model = "smal" }', 'model: There is no target or policy "smal". Did you mean "small"?'),
        (ASKS + 'classifier = { model = "any" }', "takes any model, and what is asked is one model"),
        (ASKS + 'classifier = { model = "vectors" }', "makes embeddings and answers nothing"),
        (ASKS + 'classifier = { model = "p" }', '"p" is routed by a classifier itself'),
        (ASKS + 'classifier = { model = "sorted" }', '"sorted" is routed by a classifier itself'),
        (
            ASKS + 'residency = ["us"]\nclassifier = { model = "far" }',
            'would show questions to "far", which is in "eu"',
        ),
        (ASKS + 'classifier = { model = "small", timeout = "0s" }', "timeout: In no time nothing is said"),
        (ASKS + 'classifier = { model = "small", timeout = 5 }', "timeout: 5 is not a length of time"),
        (ASKS + 'classifier = { model = "small", simple = ["far"] }', '"far" is not in the pool of this policy'),
        (ASKS + 'classifier = { model = "small", simple = ["large"] }', "large would get what is simple and what is"),
        (ASKS + 'classifier = { model = "small", complex = ["large", "small"] }', "small would get what is simple and"),
        (ASKS + 'classifier = { model = "small", fallback = "large" }', 'is not "complex" or "simple"'),
        (ASKS + 'classifier = { model = "small", memory = -1 }', "is not a whole number from 0 to 1000000"),
        (ASKS + 'classifier = { model = "small", prompt = "Simple?" }', "the prompt has to name both"),
    ],
)
def test_what_cannot_be_meant_is_refused(more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(FILE + more, source="t")


@pytest.mark.parametrize(
    "more",
    [
        'classifier = { model = "small" }',
        'classifier = { model = "other" }',
        'classifier = { model = "large", simple = ["large"], complex = ["small"], prompt = "SIMPLE or complex?" }',
    ],
)
def test_what_can_be_meant_is_taken(more: str) -> None:
    settings = parse(FILE + ASKS + more, source="t").policies["p"].classifier
    assert settings is not None
    assert (settings.timeout, settings.fallback, settings.memory, settings.ttl) == ("500ms", "complex", 10_000, "24h")
