"""
Start a simulator inside a test.

Other services start it as a process with ``--base-port 0`` and read the one JSON line
on its standard output; :func:`run_simulator` is for tests in the same process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from simulator.settings import Settings
from simulator.simulation import Simulator


QUIET = Settings(base_port=0, rate=0.0, news_per_minute=0.0)


@asynccontextmanager
async def run_simulator(**changes: Any) -> AsyncIterator[Simulator]:
    """
    Run a simulator on free ports that says nothing unless told to.

    Args:
        changes: Fields of :class:`Settings` that should differ, such as *rate*.
    """
    settings = dataclasses.replace(QUIET, **changes)
    async with Simulator(settings).running() as simulator:
        yield simulator
