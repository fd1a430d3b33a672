"""That a killed process is gone, and a paused one neither runs nor ends."""

from __future__ import annotations

import asyncio
import signal
import sys

from faults.processes import kill, paused, state_of
from processes import run_service


async def test_a_paused_process_says_nothing_until_it_is_woken() -> None:
    count = "import itertools, time\nfor n in itertools.count(): print(n, flush=True)"
    counting = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{count}; time.sleep(0.01)", stdout=-1
    )
    assert counting.stdout is not None
    try:
        await counting.stdout.readline()
        async with paused(counting.pid):
            # What it had said before still comes out of the pipe.
            silent = False
            while not silent:
                try:
                    async with asyncio.timeout(0.3):
                        await counting.stdout.readline()
                except TimeoutError:
                    silent = True
            assert state_of(counting.pid) == "T"
        async with asyncio.timeout(5):
            assert await counting.stdout.readline()
    finally:
        counting.kill()
        await counting.communicate()


async def test_a_kill_leaves_no_time_for_anything() -> None:
    quiet = ("--base-port", "0", "--rate", "0", "--news-rate", "0")
    async with run_service("simulator", {}, *quiet) as simulator:
        await simulator.event("ready")
        process = simulator.process
        await kill(simulator)

        assert process.returncode == -signal.SIGKILL
