"""One version, wherever it is told."""

import re
from importlib.metadata import version

import trivet
from trivet.version import VERSION


def test_the_package_the_module_and_its_metadata_agree() -> None:
    assert VERSION == trivet.__version__ == version("trivet")
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
