"""Which embedders a file may name, what each takes, and where texts may be sent."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from trivet.config import parse
from trivet.errors import ConfigError

TARGET = '[targets.a]\nprovider = "openai"\nmodel = "m"\n'

REFUSED = {
    TARGET + "[embedder]\nkind = 'target'\n": (
        'trivet.toml:4: embedder: `target` is missing: kind = "target" asks one for vectors. Write which: "a".'
    ),
    TARGET + "[embedder]\nkind = 'target'\ntarget = 'aa'\n": (
        'trivet.toml:6: embedder.target: There is no target "aa". Did you mean "a"?'
    ),
    TARGET + "[targets.e]\nprovider = 'embedder'\nmodel = 'builtin'\n[embedder]\nkind = 'target'\ntarget = 'e'\n": (
        'trivet.toml:9: embedder.target: "e" is an embedder of this process, which needs no target: write '
        'kind = "builtin".'
    ),
    TARGET + "[targets.e]\nprovider = 'embedder'\n[embedder]\nkind = 'target'\ntarget = 'a'\n": (
        "trivet.toml:4: targets.e.model: It would ask another target. Give that one an alias, or write which embedder "
        'of this process is meant: model = "builtin".'
    ),
    "[targets.c]\nprovider = 'anthropic'\nmodel = 'm'\n[embedder]\nkind = 'target'\ntarget = 'c'\n": (
        'trivet.toml:6: embedder.target: "c" answers chat completions and makes no embeddings here. Write a target '
        "that does."
    ),
    "[targets.o]\nprovider = 'openai'\n[embedder]\nkind = 'target'\ntarget = 'o'\n": (
        'trivet.toml:5: embedder.target: "o" takes any model, and vectors of two do not mix. Add a target that names '
        "one."
    ),
    TARGET + "region = 'eu'\n[policies.p]\npool = ['a']\nresidency = ['eu']\ncache.mode = 'static'\n"
    "[targets.v]\nprovider = 'openai'\nmodel = 'v'\nregion = 'us'\n"
    "[embedder]\nkind = 'target'\ntarget = 'v'\n": (
        'trivet.toml:15: embedder.target: It would show questions to "v", which is in "us", and `residency` leaves '
        "that out."
    ),
    TARGET + "[embedder]\nmax_tokens = 300\n": (
        'trivet.toml:5: embedder.max_tokens: Only the kind "target", "onnx", "sentence-transformers" or "fastembed" '
        "takes it. Remove the line, or write that kind."
    ),
    TARGET + "[embedder]\nkind = 'builtin'\ntarget = 'a'\n": (
        'trivet.toml:6: embedder.target: Only the kind "target" takes it. Remove the line, or write that kind.'
    ),
    "[embedder]\nkind = 'onnx'\n": (
        'trivet.toml:1: embedder: `path` is missing: write which model it is, such as path = "/srv/models/bge-small".'
    ),
    "[embedder]\nkind = 'onnx'\npath = 'no/such/folder'\n": (
        "trivet.toml:3: embedder.path: There is no model.onnx in that folder. Correct the path."
    ),
    "[embedder]\nkind = 'builtin'\npooling = 'cls'\n": (
        'trivet.toml:3: embedder.pooling: Only the kind "onnx" takes it. Remove the line, or write that kind.'
    ),
    "[embedder]\nkind = 'minilm'\nmodel = 'm'\n": (
        'trivet.toml:3: embedder.model: Only the kind "sentence-transformers" or "fastembed" takes it. Remove the '
        "line, or write that kind."
    ),
    "[targets.e]\nprovider = 'embedder'\nmodel = 'onnx'\n": (
        'trivet.toml:3: targets.e.model: Which one that is stands in [embedder], if its kind is "onnx". Write it there.'
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_fit_is_refused_with_line_and_words(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, source="trivet.toml")
    assert str(caught.value) == REFUSED[text]


def test_a_target_that_makes_vectors_may_be_named() -> None:
    text = TARGET + "[embedder]\nkind = 'target'\ntarget = 'a'\nmax_tokens = 300\ntimeout = '500ms'\n"
    assert parse(text, source="t").embedder.target == "a"


@pytest.mark.parametrize(("kind", "package"), [("sentence-transformers", "sentence_transformers"), ("fastembed",) * 2])
def test_a_library_that_is_not_installed_is_told_of_with_its_extra(kind: str, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError) as caught:
        parse(f"[embedder]\nkind = '{kind}'\n", source="t")
    assert f"Run: pip install 'trivet[{kind}]'" in str(caught.value)
    assert "`model` is missing" in str(caught.value)


def test_a_folder_with_a_model_may_be_named_and_asked_by_clients(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    text = f"[embedder]\nkind = 'onnx'\npath = '{tmp_path}'\n[targets.e]\nprovider = 'embedder'\n"
    assert parse(text, source="t").targets["e"].model == "onnx"
