"""
Processes on cores of their own, and what is known about them from outside.

The server under test has the first core for itself; everything that feeds it and
listens to it shares the second.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from processes import killed_at_end


__all__ = [
    "RIG_CORE",
    "SERVER_CORE",
    "Helper",
    "busy_seconds",
    "memory_bytes",
    "pinned",
    "run_helper",
    "run_pinned",
]

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
RIG_CORE = _CORES[1 % len(_CORES)]

_ANSWER_SECONDS = 60.0


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Have processes that are started inside the context run on *core* only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(core: int) -> float:
    """Return how long *core* has been busy since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            # user, nice, system, idle, iowait, irq, softirq; virtual time is in user.
            ticks = [int(field) for field in fields[:7]]
            return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    raise ValueError(f"no core {core}")


def memory_bytes(pid: int) -> int:
    """Return the memory of a process, its share of what it shares included (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss in smaps_rollup")


class Helper:
    """A program that takes commands, one a line, and answers each with JSON."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, command: str) -> dict[str, Any]:
        """
        Give it *command* and return the answer.

        Raises:
            RuntimeError: If it ended, or took too long.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self.answer(command)

    async def answer(self, waiting_for: str) -> dict[str, Any]:
        """
        Return the next line that it writes.

        Raises:
            RuntimeError: If it ended, or took too long.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise RuntimeError(f"no answer to {waiting_for!r}") from None
        if not line:
            raise RuntimeError(f"ended instead of answering {waiting_for!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def run_pinned(
    core: int, command: Sequence[str | Path], **env: str
) -> AsyncIterator[Process]:
    """Run *command* on *core* while the context is open; end it at the end."""
    with pinned(core):
        process = await create_subprocess_exec(
            *map(str, command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={**os.environ, **env},
        )
    async with killed_at_end(process):
        yield process


@asynccontextmanager
async def run_helper(core: int, command: Sequence[str | Path]) -> AsyncIterator[Helper]:
    """Run a program that takes commands while the context is open."""
    async with run_pinned(core, command) as process:
        yield Helper(process)
