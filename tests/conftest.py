"""What all tests share."""

from __future__ import annotations

import os
import sys

import hypothesis
from nats_process import how_nats_runs


def pytest_configure() -> None:
    """Have services start in an instant, unless what they take is measured."""
    if sys.platform == "linux" and os.environ.get("FAULT_SCALE") != "full":
        os.environ.setdefault("TEST_STARTS", "warm")
    # How long an example takes depends on what else the machine does.
    hypothesis.settings.register_profile("feedmesh", deadline=None)
    hypothesis.settings.load_profile("feedmesh")


def pytest_report_header() -> str:
    """Say how the real nats-server of the tests is run."""
    return f"nats-server: {how_nats_runs()}"
