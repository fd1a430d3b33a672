"""What happens to processes: killed, or stopped for a while and woken again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from processes import ServiceProcess


async def kill(service: ServiceProcess) -> None:
    """End *service* at once, as a crash or the kernel's out-of-memory killer does."""
    await service.stop(signal.SIGKILL)


@asynccontextmanager
async def paused(pid: int) -> AsyncIterator[None]:
    """
    Hold the process *pid* while the context is open: it neither runs nor ends.

    So does a machine whose virtual machine is moved, or a laptop that sleeps. The
    process is stopped when this is entered, not merely asked to.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            while state_of(pid) != "T":
                # The kernel offers no event for this to those who are not the parent.
                await asyncio.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def state_of(pid: int) -> str:
    """Return the letter of proc(5): R runs, S sleeps, T is stopped."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]
