"""Services as real processes, started as in production and read through their logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from warm_start import WarmProcess, can_be_warm, start_warm


_LONGEST_LINE = 2**22


def plain_http(**options: Any) -> httpx.AsyncClient:
    """Return a client without TLS: loading certificates stops a clock for 50 ms."""
    return httpx.AsyncClient(verify=False, **options)


class ServiceProcess:
    """
    One ``python -m <module>``, or a fork that does the same; see `warm_start`.

    Attributes:
        lines: Everything it has written, to both streams.
    """

    def __init__(
        self, module: str, env: Mapping[str, str], arguments: tuple[str, ...] = ()
    ) -> None:
        self.module = module
        self._arguments = arguments
        # Nothing of the machine's own settings may reach a test.
        kept = ("PATH", "HOME", "LANG", "PYTHONPATH")
        self._env = {k: os.environ[k] for k in kept if k in os.environ} | dict(env)
        self._process: Process | WarmProcess | None = None
        self._reader: asyncio.Task[None] | None = None
        self._grown = asyncio.Event()
        self.lines: list[str] = []

    @property
    def process(self) -> Process | WarmProcess:
        assert self._process is not None
        return self._process

    async def start(self) -> None:
        """Start it; what it says is collected from now on."""
        self.lines.clear()
        if can_be_warm(self.module, self._env):
            self._process = await start_warm(
                self.module, self._env, self._arguments, _LONGEST_LINE
            )
        else:
            self._process = await create_subprocess_exec(
                *(sys.executable, "-m", self.module, *self._arguments),
                stdout=PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self._env,
                limit=_LONGEST_LINE,
            )
        self._reader = asyncio.create_task(self._read(self._process))

    async def event(self, event: str, seconds: float = 30.0) -> dict[str, Any]:
        """Return the first line of its log, or of its output, that tells *event*."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for line in self.lines:
                        if line.startswith("{"):
                            entry: dict[str, Any] = json.loads(line)
                            if entry.get("event") == event:
                                return entry
                    if self._reader is None or self._reader.done():
                        raise TimeoutError
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.module} never said {event!r}:\n" + "\n".join(self.lines[-40:])
            ) from None

    async def ops(self) -> str:
        """Return the URL of its ops endpoints, once they are up."""
        return (
            f"http://127.0.0.1:{(await self.event('ops endpoints are up'))['ops_port']}"
        )

    async def ready(self, seconds: float = 30.0) -> None:
        """Wait until /readyz says so."""
        ops = await self.ops()
        body = ""
        try:
            async with asyncio.timeout(seconds), plain_http() as client:
                while True:
                    answer = await client.get(f"{ops}/readyz")
                    body = answer.text
                    if answer.status_code == 200:
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.module} is not ready: {body}") from None

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of *name* that carry *labels*."""
        # A machine that is short of time answers late.
        async with plain_http(timeout=30) as client:
            text = (await client.get(f"{await self.ops()}/metrics")).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.split("{")[0].split(" ")[0] == name
            and all(pair in line for pair in wanted)
        )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send *number* and return the exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(15):
                code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise AssertionError(
                f"{self.module} did not stop:\n" + "\n".join(self.lines[-40:])
            ) from None
        assert self._reader is not None
        await self._reader
        self._process = None
        return code

    async def exited(self, seconds: float = 20.0) -> int:
        """Wait for it to end by itself and return the exit code."""
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
        assert self._reader is not None
        await self._reader
        return code

    async def _read(self, process: Process | WarmProcess) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            self._grown.set()
        self._grown.set()


@asynccontextmanager
async def killed_at_end(process: Process) -> AsyncIterator[Process]:
    """Yield *process*; if it still runs at the end of the context, kill it."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def run_service(
    module: str, env: Mapping[str, str], *arguments: str
) -> AsyncIterator[ServiceProcess]:
    """Run *module* while the context is open; killed at the end if it still runs."""
    service = ServiceProcess(module, env, arguments)
    await service.start()
    try:
        yield service
    finally:
        if service._process is not None and service._process.returncode is None:
            await service.stop(signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, of all threads of a process."""
    used = 0
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        used += int(schedstat.read_text().split()[0])
    return used / 1e9
