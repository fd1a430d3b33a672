"""
Services that start in an instant: forked from a process that has imported them.

Importing a service takes a second of processor time, and the tests start hundreds. So
for each module there is one process that has imported it and done nothing else; told
to, it forks, and the child runs the module with an environment, arguments and output of
its own. From there on, all is as with ``python -m``.

`TEST_STARTS=cold` has every service started from nothing, as the long runs do.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, Popen


__all__ = ["WarmProcess", "can_be_warm", "start_warm"]

_MODULES = {"edge", "feedmesh", "ingest_fmp", "ingest_ls", "prober", "simulator"}
_LARGEST = 2**17


# -- for tests -------------------------------------------------------------------------


class WarmProcess:
    """
    A service that was forked; what tests use of `asyncio.subprocess.Process`.

    Attributes:
        pid: Its process id.
        stdout: What it writes, to both streams.
    """

    def __init__(self, pid: int, stdout: StreamReader, end: _End) -> None:
        self.pid = pid
        self.stdout = stdout
        self._end = end

    @property
    def returncode(self) -> int | None:
        return self._end.code

    def send_signal(self, number: int) -> None:
        # It may have ended a moment ago.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        await self._end.ended.wait()
        assert self._end.code is not None, "whoever forked it has died"
        return self._end.code


def can_be_warm(module: str, env: Mapping[str, str]) -> bool:
    """Whether *module* can be forked; the interpreter's own settings cannot change."""
    own = {name: value for name, value in env.items() if name.startswith("PYTHON")}
    return (
        os.environ.get("TEST_STARTS") == "warm"
        and module in _MODULES
        and "TZ" not in env
        and all(os.environ.get(name) == value for name, value in own.items())
    )


async def start_warm(
    module: str, env: Mapping[str, str], arguments: Sequence[str], limit: int
) -> WarmProcess:
    """Start *module*; lines of its output may be *limit* bytes long."""
    loop = asyncio.get_running_loop()
    said, says = os.pipe()
    ended, ends = os.pipe()
    reader = StreamReader(limit)
    end = _End()
    await loop.connect_read_pipe(
        lambda: StreamReaderProtocol(reader), os.fdopen(said, "rb", 0)
    )
    await loop.connect_read_pipe(lambda: end, os.fdopen(ended, "rb", 0))
    try:
        pid = await asyncio.to_thread(_parent(module).fork, env, arguments, says, ends)
    finally:
        os.close(says)
        os.close(ends)
    return WarmProcess(pid, reader, end)


class _End(asyncio.Protocol):
    """Hears the exit code."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.code = int(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


class _Parent:
    """The process that has imported a module; it ends with this one."""

    def __init__(self, module: str) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = Popen(
                (sys.executable, __file__, module, str(theirs.fileno())),
                cwd=Path.cwd(),
                stdin=DEVNULL,
                pass_fds=(theirs.fileno(),),
            )

    def fork(
        self, env: Mapping[str, str], arguments: Sequence[str], says: int, ends: int
    ) -> int:
        """Start a child that writes to *says*, its end to *ends*; return its pid."""
        request = json.dumps([dict(env), list(arguments), os.getcwd()]).encode()
        with self._lock:
            socket.send_fds(self._channel, [request], [says, ends])
            return int(self._channel.recv(_LARGEST))


@cache
def _parent(module: str) -> _Parent:
    return _Parent(module)


# -- the process that forks ------------------------------------------------------------


def _serve(module: str, channel: socket.socket) -> list[str]:
    """Fork on request; return in each child, with the arguments it is to have."""
    importlib.import_module(f"{module}.__main__")
    # So that it is run, in each child, as if for the first time.
    del sys.modules[f"{module}.__main__"]
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    ends: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4096)
                _reap(ends)
            if channel not in ready:
                continue
            request, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 2)
            if not request:
                for pid in ends:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            says, end = descriptors
            if (pid := os.fork()) == 0:
                break
            os.close(says)
            ends[pid] = end
            channel.send(str(pid).encode())
    # Only numbers are closed below; these objects must not close them once more.
    for each in (channel, woken, wake):
        each.detach()
    return _become(request, says)


def _become(request: bytes, says: int) -> list[str]:
    """Have the environment, the folder and the output of *request*, and no other."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(says, 1)
    os.dup2(says, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    env, arguments, folder = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    return list(arguments)


def _reap(ends: dict[int, int]) -> None:
    """Tell the exit code of every child that has ended."""
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        end = ends.pop(pid)
        # Whoever started it may be gone already.
        with contextlib.suppress(BrokenPipeError):
            os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(end)


if __name__ == "__main__":
    # As with `python -m`, and not the folder of this file.
    sys.path[0] = os.getcwd()
    _, _module, _descriptor = sys.argv
    sys.argv[1:] = _serve(_module, socket.socket(fileno=int(_descriptor)))
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
