"""These look at built images: tests/in_containers.sh builds them and runs these."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    """Skip unless somebody says that the images are there."""
    if not os.environ.get("TEST_IMAGES"):
        pytest.skip("TEST_IMAGES is not set: see tests/in_containers.sh")
