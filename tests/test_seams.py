"""The one loader: built-ins and plugins are found in the same way, and what is wrong with one is said."""

import sys
from pathlib import Path

import pytest

from trivet import seams
from trivet.errors import ConfigError
from trivet.seams import load, names

BUILT_IN = {
    "trivet.provider": {"openai", "azure", "ollama", "openrouter", "vllm", "llamacpp"},
    "trivet.cache": {"exact"},
    "trivet.router": {"fixed"},
    "trivet.store": {"sqlite"},
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of imports, as `pip install --target` leaves one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, package: str, code: str, *points: str) -> None:
    """Install a package of one module, with entry points `group: name = place`."""
    (site / f"{package}.py").write_text(code)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"[{group}]\n{point}\n" for group, _, point in (p.partition(": ") for p in points)]
    (info / "entry_points.txt").write_text("\n".join(lines))
    sys.modules.pop(package, None)


@pytest.mark.parametrize("group", BUILT_IN)
def test_built_ins_are_entry_points_like_any_other(group: str) -> None:
    assert set(names(group)) >= BUILT_IN[group]
    for name in BUILT_IN[group]:
        assert load(group, name).__module__.startswith("trivet.")


def test_a_plugin_is_found_by_its_name(site: Path) -> None:
    install(site, "edge_plugin", "def build(target, kit): return 'mine'\n", "trivet.provider: mine = edge_plugin:build")
    assert "mine" in names("trivet.provider")
    assert load("trivet.provider", "mine")(None, None) == "mine"


def test_a_name_that_nobody_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"trivet\.cache called 'nobody'; installed: exact"):
        load("trivet.cache", "nobody")
    with pytest.raises(ConfigError, match="installed: none"):
        load("trivet.nothing", "x")


def test_a_name_that_two_packages_claim_is_refused_with_both(site: Path) -> None:
    for package in ("edge_one", "edge_two"):
        install(site, package, "def build(): pass\n", f"trivet.cache: exact = {package}:build")
    with pytest.raises(ConfigError, match=r"edge_one:build.*edge_two:build.*trivet\.cache\.exact:build"):
        load("trivet.cache", "exact")


def test_a_plugin_that_cannot_be_imported_is_named_with_the_reason(site: Path) -> None:
    """Attack 49, in part: the server says why it does not start."""
    install(site, "edge_broken", "import no_such_module_anywhere\n", "trivet.router: broken = edge_broken:build")
    with pytest.raises(
        ConfigError, match=r"'broken' \(edge_broken:build\) cannot be imported.*no_such_module_anywhere"
    ):
        load("trivet.router", "broken")


def test_every_seam_has_a_protocol_and_a_group() -> None:
    for group in BUILT_IN:
        assert hasattr(seams, group.removeprefix("trivet.").capitalize())
