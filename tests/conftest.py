"""What all tests share: async tests run on asyncio, and no test measures wall time, Hypothesis's own checks neither."""

import pytest
from hypothesis import HealthCheck, settings

# Their bounds (200 ms an example, a second to draw the first) are met or missed by what else the machine does.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
