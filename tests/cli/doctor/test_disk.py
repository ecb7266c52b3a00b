"""Room and rights on the disk, and the files of models."""

import os
from pathlib import Path

import pytest

from trivet.cli.doctor.disk import engine_checks, home_checks
from trivet.config import parse

EMBEDDED = '[targets.a]\nprovider = "llamacpp"\nmodel = "smollm2-135m-instruct"\n'


def test_a_home_is_made_and_its_room_is_told(home: Path) -> None:
    checks = {check.what: check for check in home_checks(None, os.environ)}
    assert checks["home"].state == "ok"
    assert "GB free" in checks["disk"].words
    assert home.is_dir()


def test_a_home_that_cannot_be_made_is_a_cross(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (check,) = home_checks(None, {"TRIVET_HOME": str(tmp_path / "file" / "home")})
    assert (check.state, check.fix) == ("bad", "export TRIVET_HOME=FOLDER")


def test_a_ledger_below_a_file_is_a_cross_and_nothing_is_made(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = parse(f'[ledger]\npath = "{tmp_path / "file" / "ledger"}"\n', source="t")
    states = {check.what: check.state for check in home_checks(settings, os.environ)}
    assert states["ledger folder"] == "bad"
    fine = parse(f'[ledger]\npath = "{tmp_path / "to-come"}"\n', source="t")
    assert "ledger folder" not in {check.what for check in home_checks(fine, os.environ)}
    assert not (tmp_path / "to-come").exists()


def test_a_model_that_nobody_knows_is_a_cross(home: Path) -> None:
    settings = parse('[targets.a]\nprovider = "llamacpp"\nmodel = "no-such-model"\n', source="t")
    states = {check.what: check.state for check in engine_checks(settings, os.environ)}
    assert states["model no-such-model"] == "bad"


def test_a_model_that_is_not_here_yet_says_how_much_there_is_to_fetch(home: Path) -> None:
    checks = {check.what: check for check in engine_checks(parse(EMBEDDED, source="t"), os.environ)}
    assert checks["model smollm2-135m-instruct"].words.startswith("not here yet: ")
    assert checks["models folder"].words.endswith("made at the first start")


def test_an_embedder_says_what_it_needs(home: Path) -> None:
    minilm = parse('[targets.a]\nprovider = "embedder"\nmodel = "minilm"\n', source="t")
    checks = {check.what: check for check in engine_checks(minilm, os.environ)}
    assert checks["embedder minilm"].words.startswith("onnxruntime 1.")
    assert checks["model all-minilm-l6-v2-int8"].words == "not here yet: 23 MB to fetch at the first start"
    assert "engine" not in checks
    there = parse(
        '[targets.v]\nprovider = "openai"\nmodel = "v"\n[embedder]\nkind = "target"\ntarget = "v"\n', source="t"
    )
    checks = {check.what: check for check in engine_checks(there, os.environ)}
    assert checks["embedder target"].words.startswith("asks v,")
    builtin = parse('[targets.a]\nprovider = "embedder"\nmodel = "builtin"\n', source="t")
    assert [check.words for check in engine_checks(builtin, os.environ)] == ["needs nothing"]


def test_pieces_of_a_fetch_that_did_not_end_are_told(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f"{'0' * 64}.0.part").write_bytes(bytes(3_000_000))
    (check,) = [c for c in engine_checks(parse(EMBEDDED, source="t"), os.environ) if c.state == "warn"]
    assert check.what == "models folder"
    assert check.words.startswith("3 MB of fetches")


def test_where_no_model_is_embedded_nothing_is_looked_for(home: Path) -> None:
    text = '[targets.a]\nprovider = "llamacpp"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
    assert list(engine_checks(parse(text, source="t"), os.environ)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_models_folder_that_cannot_be_written_is_a_cross(home: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir(mode=0o500)
    checks = {check.what: check for check in engine_checks(parse(EMBEDDED, source="t"), os.environ)}
    assert checks["models folder"].state == "bad"
