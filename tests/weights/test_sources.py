"""Sources: what each does when it is interrupted, lies, or has something else."""

import hashlib
import shutil
import threading
from pathlib import Path

import pytest

from tests.weights.scripted_hub import A_FILE, CONTENT, ScriptedHub, in_parts, make_wheel, pip_env, silent
from trivet.weights.catalog import Hub, Packages
from trivet.weights.sources import Progress, Sink, SourceError, _bytes_below, download, unpack

pytestmark = pytest.mark.slow  # processes and pip


def sink_at(path: Path, *, unit_bytes: int = 1, progress: Progress = silent) -> Sink:
    return Sink(path, size_bytes=len(CONTENT), unit_bytes=unit_bytes, what="a test", progress=progress)


def test_a_download_from_the_hub_has_the_bytes_and_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    with ScriptedHub() as hub, sink_at(tmp_path / "f", progress=lambda *seen: told.append(seen)) as sink:
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url + "/"})
        assert sink.finish() == hashlib.sha256(CONTENT).hexdigest()
    assert hub.requests[0]["path"] == "/someone/tiny/resolve/main/tiny.gguf"
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (len(CONTENT), len(CONTENT), "a test")


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    with ScriptedHub(breaks=(1_000_000, 500_000)) as hub, sink_at(tmp_path / "f") as sink:
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
        assert sink.finish() == hashlib.sha256(CONTENT).hexdigest()
    assert [r.get("range") for r in hub.requests] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_download_starts_from_what_an_earlier_process_left(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT[:700_001])
    with ScriptedHub() as hub, sink_at(tmp_path / "f") as sink:
        assert sink.found_bytes == 700_001
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
    assert [r.get("range") for r in hub.requests] == ["bytes=700001-"]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_hub_that_knows_no_ranges_is_read_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT[:700_001])
    with ScriptedHub(ranges=False) as hub, sink_at(tmp_path / "f") as sink:
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
        assert sink.finish() == hashlib.sha256(CONTENT).hexdigest()


def test_a_hub_that_breaks_off_without_a_byte_is_given_up(tmp_path: Path) -> None:
    with (
        ScriptedHub(breaks=(1000, 0)) as hub,
        sink_at(tmp_path / "f") as sink,
        pytest.raises(SourceError, match=r"the connection ended early|IncompleteRead"),
    ):
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
    assert (tmp_path / "f").stat().st_size == 1000  # kept for next time


def test_a_file_of_another_size_is_refused_before_it_is_downloaded(tmp_path: Path) -> None:
    with (
        ScriptedHub(CONTENT + b"more") as hub,
        sink_at(tmp_path / "f") as sink,
        pytest.raises(SourceError, match="has 3072004 bytes; the file has 3072000"),
    ):
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
    assert (tmp_path / "f").stat().st_size == 0


def test_a_file_that_is_not_at_the_hub_is_said_to_be_missing(tmp_path: Path) -> None:
    with ScriptedHub() as hub, sink_at(tmp_path / "f") as sink, pytest.raises(SourceError, match="404 Not Found"):
        download(Hub(repository="someone/tiny", file="missing.gguf"), sink, env={"HF_ENDPOINT": hub.url})


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(tmp_path: Path) -> None:
    with ScriptedHub() as hub, ScriptedHub() as store, sink_at(tmp_path / "f") as sink:
        hub.redirect = f"{store.url}/blob"
        download(A_FILE, sink, env={"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"})
        assert sink.done == len(CONTENT)
    assert hub.requests[0]["authorization"] == "Bearer hf_secret"
    assert "authorization" not in store.requests[0]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_leads_to_no_other_protocol(tmp_path: Path, target: str) -> None:
    with ScriptedHub() as hub, sink_at(tmp_path / "f") as sink:
        hub.redirect = target
        with pytest.raises(SourceError):
            download(A_FILE, sink, env={"HF_ENDPOINT": hub.url})
    assert (tmp_path / "f").read_bytes() == b""


def test_an_endpoint_that_is_no_web_address_is_refused(tmp_path: Path) -> None:
    with sink_at(tmp_path / "f") as sink, pytest.raises(SourceError, match="HF_ENDPOINT is 'file:///etc'"):
        download(A_FILE, sink, env={"HF_ENDPOINT": "file:///etc"})


def test_a_sink_takes_no_more_than_there_should_be(tmp_path: Path) -> None:
    with sink_at(tmp_path / "f") as sink:
        sink.write(CONTENT)
        with pytest.raises(SourceError, match="more than the 3072000 bytes"):
            sink.write(b"x")
    assert (tmp_path / "f").read_bytes() == b""


def test_a_sink_keeps_whole_parts_only(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT[:2_500_000])
    with sink_at(tmp_path / "f", unit_bytes=1_000_000) as sink:
        assert sink.done == 2_000_000
    assert (tmp_path / "f").stat().st_size == 2_000_000


def test_parts_in_packages_are_joined_in_order_and_not_imported(tmp_path: Path) -> None:
    packages, told = in_parts(CONTENT, links=tmp_path, part_bytes=1_500_000), list[int]()
    with sink_at(
        tmp_path / "f", unit_bytes=packages.part_bytes, progress=lambda done, total, what: told.append(done)
    ) as sink:
        unpack(packages, sink, work=tmp_path / "work", env=pip_env(tmp_path))
        assert sink.finish() == hashlib.sha256(CONTENT).hexdigest()
    assert len(packages.requirements) == 3
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert not (tmp_path / "work").exists()


def test_parts_that_are_here_already_are_not_fetched_again(tmp_path: Path) -> None:
    packages = in_parts(CONTENT, links=tmp_path, part_bytes=1_500_000)
    (tmp_path / "tiny_1-1.0-py3-none-any.whl").unlink()
    (tmp_path / "f").write_bytes(CONTENT[:1_600_000])
    with sink_at(tmp_path / "f", unit_bytes=packages.part_bytes) as sink:
        unpack(packages, sink, work=tmp_path / "work", env=pip_env(tmp_path))
        assert sink.finish() == hashlib.sha256(CONTENT).hexdigest()


def test_a_package_that_is_nowhere_is_reported_in_pips_words(tmp_path: Path) -> None:
    packages = Packages(requirements=("tiny_9==1.0",), members=("tiny_9/part.bin",), part_bytes=len(CONTENT))
    with sink_at(tmp_path / "f") as sink, pytest.raises(SourceError, match="No matching distribution found for tiny_9"):
        unpack(packages, sink, work=tmp_path / "work", env=pip_env(tmp_path))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("tiny/other.bin", CONTENT, "has no member tiny/part.bin"),
        ("../part.bin", CONTENT, "has no member tiny/part.bin"),
        ("tiny/part.bin", CONTENT + b"x", "has 3072001 bytes; 3072000 are expected"),
        ("tiny/part.bin", CONTENT[1:], "has 3071999 bytes; 3072000 are expected"),
    ],
)
def test_a_package_with_something_else_inside_is_refused(
    tmp_path: Path, member: str, content: bytes, words: str
) -> None:
    make_wheel(tmp_path, "tiny", member=member, content=content)
    packages = Packages(requirements=("tiny==1.0",), members=("tiny/part.bin",), part_bytes=len(CONTENT))
    with sink_at(tmp_path / "f") as sink, pytest.raises(SourceError, match=words):
        unpack(packages, sink, work=tmp_path / "work", env=pip_env(tmp_path))
    assert (tmp_path / "f").read_bytes() == b""


def test_progress_that_raises_stops_pip(tmp_path: Path) -> None:
    packages = in_parts(CONTENT, links=tmp_path, part_bytes=len(CONTENT))

    def stop(done_bytes: int, total_bytes: int, what: str) -> None:
        raise KeyboardInterrupt

    with sink_at(tmp_path / "f", progress=stop) as sink, pytest.raises(KeyboardInterrupt):
        unpack(packages, sink, work=tmp_path / "work", env=pip_env(tmp_path))
    assert not (tmp_path / "work").exists()


def test_what_pip_wrote_is_counted_while_pip_removes_its_folders(tmp_path: Path) -> None:
    """pip builds in folders of its own and takes them away; a look that meets one in that moment is no failure."""
    (tmp_path / "stays").write_bytes(b"12345")
    seen, done = set(), threading.Event()

    def like_pip() -> None:
        for _ in range(1_000):
            (tmp_path / "a" / "b" / "c").mkdir(parents=True)
            shutil.rmtree(tmp_path / "a")
        done.set()

    maker = threading.Thread(target=like_pip)
    maker.start()
    while not done.is_set():
        seen.add(_bytes_below(tmp_path))
    maker.join()
    assert seen == {5}
