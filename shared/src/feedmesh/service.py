"""
How a process starts, runs its jobs side by side, and stops.

``main`` of every service is: read settings, set up logs, run jobs until SIGTERM. The
first signal asks for a clean stop, the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import uvloop

from feedmesh.collector import collecting
from feedmesh.errors import PortInUseError, SettingsError
from feedmesh.logs import secrets_of, setup_logging
from feedmesh.settings import ServiceSettings


__all__ = [
    "Job",
    "StopRequested",
    "bind",
    "job_group",
    "run_service",
    "stop_on_signal",
    "unless_stopped",
]

logger = logging.getLogger(__name__)

Job = Callable[[], Awaitable[None]]
"""Something that runs for as long as the process does."""

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
ResultT = TypeVar("ResultT")


class StopRequested(Exception):  # noqa: N818 - it is not an error
    """The process was asked to stop while it was still starting."""


def run_service(
    name: str,
    settings_type: type[SettingsT],
    main: Callable[[SettingsT, asyncio.Event], Awaitable[None]],
) -> NoReturn:
    """
    Run *main* until a signal, then exit: 0 clean, 1 failed, 2 bad settings.

    Args:
        name: Of the service, for its logs.
        settings_type: Read from the environment.
        main: Given the settings and an event that is set when it shall stop.
    """
    try:
        settings = settings_type.from_env(os.environ)
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    setup_logging(name, settings.log_level, secrets_of(settings))
    try:
        uvloop.run(_run(name, settings, main))
    except* SettingsError as group:
        # Some settings can only be judged when they are used.
        print(f"{name}: {_first(group)}", file=sys.stderr)
        sys.exit(2)
    except* PortInUseError as group:
        print(f"{name}: {_first(group)}", file=sys.stderr)
        sys.exit(1)
    except* StopRequested:
        pass
    except* Exception:
        logger.exception("ended by an error that nothing handled")
        sys.exit(1)
    _leave()


def _leave() -> NoReturn:
    # All is closed. To take every object apart would cost 40 ms of processor time, just
    # when another takes over, perhaps on the same machine.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


async def _run(
    name: str,
    settings: SettingsT,
    main: Callable[[SettingsT, asyncio.Event], Awaitable[None]],
) -> None:
    with stop_on_signal() as stop:
        logger.info("starting")
        try:
            async with collecting():
                await main(settings, stop)
        finally:
            logger.info("stopped")


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """Provide an event that SIGTERM or Ctrl+C sets; a second signal ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def unless_stopped(stop: asyncio.Event, waiting: Awaitable[ResultT]) -> ResultT:
    """
    Return what *waiting* returns, unless *stop* is set before.

    Raises:
        StopRequested: If it is; *waiting* was cancelled.
    """
    wanted = asyncio.ensure_future(waiting)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([wanted, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise StopRequested
        return wanted.result()
    finally:
        stopping.cancel()
        if not wanted.done():
            wanted.cancel()
            await asyncio.wait([wanted])


async def job_group(stop: asyncio.Event, **jobs: Job) -> None:
    """
    Run *jobs* side by side until *stop* is set.

    Jobs are functions, not coroutines: if *stop* is set during start-up already, a
    coroutine would have been made and never awaited. A job that fails, or returns
    although nobody asked it to, ends all of them: a process with half its jobs looks
    alive from outside and is not.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_never_return(name, job), name=name)
            for name, job in jobs.items()
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def _never_return(name: str, job: Job) -> None:
    try:
        await job()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # A future that somebody else has cancelled; a group takes no notice of that.
    raise RuntimeError(f"{name} ended although nothing asked it to")


def bind(host: str, port: int, setting: str) -> socket.socket:
    """
    Return a listening socket on *host* and *port*.

    Raises:
        PortInUseError: If it cannot be had; the text names *setting*.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise PortInUseError(host, port, setting) from error
    listener.setblocking(False)
    return listener


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
