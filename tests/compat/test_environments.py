"""The environments of the clients: what their locks say is what is installed."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.compat import environments
from tests.compat.run import CLIENTS, Client


def test_every_client_has_a_suite_and_every_suite_and_lock_has_a_client() -> None:
    suites = {path.stem.removeprefix("test_").replace("_", "-") for path in environments.SUITES.glob("test_*.py")}
    locks = {path.stem for path in environments.LOCKS.glob("*.txt")}
    wishes = {path.stem for path in environments.LOCKS.glob("*.in")}
    assert suites == locks == wishes == set(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=lambda client: client.name)
def test_a_lock_pins_every_package_to_one_version(client: Client) -> None:

    pins = (environments.LOCKS / f"{client.name}.txt").read_text().splitlines()
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.!+-]+( ; .+)?", pin)] == []
    assert {"pytest", *client.packages} <= {pin.split("==")[0] for pin in pins}


def test_a_version_is_what_is_installed_there() -> None:
    told = environments.versions(Path(sys.executable), ["pytest", "openai"])
    assert told == f"pytest {pytest.__version__}, openai {version('openai')}"
    assert environments.has("openai")
    assert not environments.has("no-such-package")
