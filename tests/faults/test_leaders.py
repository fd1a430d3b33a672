"""Who leads is found out, even where a log has had all the lines it may have."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from processes import ServiceProcess, run_service
from who_leads import first_to_lead, until_standing_by


_TESTS = Path(__file__).parents[1]
_ENV = {"PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")])}


async def test_a_leader_whose_log_is_full_is_found_by_its_metrics() -> None:
    async with run_service("faults.hushed", _ENV) as hushed:
        async with asyncio.timeout(30):
            while len(hushed.lines) < 61:
                await asyncio.sleep(0.01)

        found, _ = await first_to_lead([hushed])

        assert found is hushed
        with pytest.raises(AssertionError, match="went on leading"):
            await until_standing_by(hushed, 1.0)


async def test_who_has_ended_does_not_lead() -> None:
    ended = ServiceProcess("faults.hushed", _ENV)
    await ended.start()
    await ended.ops()
    await ended.stop(signal.SIGKILL)

    with pytest.raises(AssertionError, match="no replica led"):
        await first_to_lead([ended], 0.7)
