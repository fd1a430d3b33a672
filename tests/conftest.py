"""What all tests share."""

from __future__ import annotations

from nats_process import how_nats_runs


def pytest_report_header() -> str:
    """Say how the real nats-server of the tests is run."""
    return f"nats-server: {how_nats_runs()}"
