import json
from pathlib import Path

import pytest

from tests.cli.route.test_enrol import run
from tests.routing.learned.test_versions import another
from tests.routing.triangle.world import file
from trivet.routing.learned import learned

CONFIG = """
[targets.tiny]
provider = "openai"
model = "t"
base_url = "http://127.0.0.1:9/v1"
[targets.large]
provider = "openai"
model = "{large}"
base_url = "http://127.0.0.1:9/v1"
[policies.p]
pool = ["tiny", "large"]
route = "learned"
router = "{router}"
quality = "0.9 of large"
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_a_router_is_put_in_force_listed_and_taken_back(tmp_path: Path) -> None:
    path, new = file(tmp_path), another(tmp_path, 1)
    before = learned.load(path).digest
    code, stdout, _ = run("use", new, "--as", path)
    assert code == 0
    assert learned.load(new).digest[:12] in stdout
    code, stdout, _ = run("versions", path, "--json")
    assert [(v["digest"], v["in_force"]) for v in json.loads(stdout)["versions"]] == [
        (learned.load(new).digest, True),
        (before, False),
    ]
    code, stdout, _ = run("versions", path)
    assert "in force" in stdout
    code, stdout, _ = run("rollback", path)
    assert (code, learned.load(path).digest) == (0, before)
    code, _, stderr = run("rollback", path)
    assert code == 2
    assert "Nothing was in force" in stderr


def test_a_router_that_could_not_hold_what_a_policy_says_is_not_put_in_force(tmp_path: Path) -> None:
    path, new = file(tmp_path), another(tmp_path, 1)
    before = path.read_bytes()
    config = tmp_path / "trivet.toml"
    config.write_text(CONFIG.format(router=path, large="l"))
    code, _, stderr = run("use", new, "--as", path, "--config", config)
    assert code == 0
    assert "Policy 'p': tiny" in stderr
    run("rollback", path)
    config.write_text(CONFIG.format(router=path, large="l").replace("targets.large", "targets.gpt").replace(
        '"tiny", "large"', '"tiny", "gpt"').replace("of large", "of gpt"))  # fmt: skip
    code, _, stderr = run("use", new, "--as", path, "--config", config)
    assert code == 2
    assert "policies.p: The router does not know 'gpt'" in stderr
    assert path.read_bytes() == before


def test_no_router_has_no_versions(tmp_path: Path) -> None:
    code, _, stderr = run("versions", tmp_path / "none.trv")
    assert code == 2
    assert "no router" in stderr
