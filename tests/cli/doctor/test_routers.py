"""Routers of policies, looked at before the gateway starts."""

import os
from pathlib import Path

import pytest

from tests.cli.route.test_version import CONFIG
from tests.routing.triangle.world import file
from trivet.cli.doctor.check import Check
from trivet.cli.doctor.routers import router_checks
from trivet.config import parse

pytestmark = pytest.mark.anyio


async def checks(router: Path) -> list[Check]:
    text = CONFIG.format(router=router, large="l") + '[policies.f]\npool = ["tiny", "large"]\n'
    return await router_checks(parse(text, source="t"), os.environ)


async def test_a_policy_that_can_be_held_says_how_and_one_without_a_router_nothing(home: Path, tmp_path: Path) -> None:
    (check,) = await checks(file(tmp_path))
    assert (check.state, check.what) == ("ok", "router of p")
    assert "At least 0.9 of large's quality" in check.words


async def test_a_router_that_is_not_there_would_stop_the_gateway_and_is_told(home: Path, tmp_path: Path) -> None:
    (check,) = await checks(tmp_path / "gone.trivet")
    assert (check.state, check.whose) == ("bad", "operator")
    assert "gone.trivet" in check.words
    assert "trivet route train" in check.fix
