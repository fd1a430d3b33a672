"""
Starts processes, says when they are ready, and stops them together.

honcho runs them: it starts each in a process group of its own, shows what they say, and
ends all when one ends or the user asks.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from honcho.manager import Manager
from honcho.printer import Message, Printer

from launcher.plan import Process


__all__ = ["Announcement", "is_free", "run"]


@dataclass(frozen=True)
class Announcement:
    """
    What the user is told once everything is ready.

    Attributes:
        what: Who is to be ready.
        urls: What has to answer, each with success.
        text: What is said then.
        seconds: How long to wait before it is said that it is late.
    """

    what: str
    urls: Sequence[str]
    text: str
    seconds: float


def run(
    processes: Iterable[Process], environ: Mapping[str, str], told: Announcement
) -> int:
    """
    Run *processes* until one ends, the user asks, or the terminal is closed.

    Returns the exit code.

    Args:
        environ: Their environment, to which each adds its own part.
        told: What to say when they are ready.
    """
    manager = _Manager(_Terminal())
    # A terminal that is closed; with nohup, it may be.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    for process in processes:
        manager.add_process(
            process.name, process.command, env=dict(environ) | dict(process.env)
        )
    threading.Thread(target=_announce, args=(told,), daemon=True).start()
    manager.loop()
    # Asked to stop, by Ctrl+C or SIGTERM, is how this normally ends.
    return 0 if manager.returncode in (130, 143) else int(manager.returncode)


def is_free(port: int) -> bool:
    """Return whether *port* of this machine can be taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class _Terminal(Printer):  # type: ignore[misc] # honcho has no types
    """Shows what is said, and has everything stopped once nobody can see it."""

    _closed = False

    def write(self, message: Message) -> None:
        if not self._closed:
            try:
                super().write(message)
            except OSError:
                self._closed = True
                signal.raise_signal(signal.SIGTERM)
            except RuntimeError:
                # Ctrl+C came in the middle of a line; what is said of it is left out.
                pass


class _Manager(Manager):  # type: ignore[misc] # honcho has no types
    """
    honcho's manager, with two things that it lacks.

    It can be stopped while it is still starting; and it stops last what the others
    still need: the upstreams, lest their end is taken for an interruption, and the bus,
    on which everybody says what is left to say.
    """

    _LAST = ("simulator", "nats")
    _processes: dict[str, dict[str, Any]]
    _asked = False
    _told: frozenset[str] = frozenset()

    def terminate(self) -> None:
        if super()._all_started():
            super().terminate()
        else:
            self._asked = True

    def _all_started(self) -> bool:
        # honcho asks this at every turn of its loop.
        started = bool(super()._all_started())
        if started and self._asked:
            self._asked = False
            super().terminate()
        running = [n for n, p in self._processes.items() if "returncode" not in p]
        if self._terminating and running and {*running} <= {*self._LAST}:
            self._tell(next(name for name in self._LAST if name in running))
        return started

    def _killall(self, force: bool = False) -> None:
        if force:
            super()._killall(force)
        else:
            self._tell(*(name for name in self._processes if name not in self._LAST))

    def _tell(self, *names: str) -> None:
        """Ask those that were not asked yet to end."""
        everybody = self._processes
        new = {n: p for n, p in everybody.items() if n in names and n not in self._told}
        self._told |= new.keys()
        self._processes = new
        super()._killall()
        self._processes = everybody


def _announce(told: Announcement) -> None:
    give_up = time.monotonic() + told.seconds
    for url in told.urls:
        while not _answers(url):
            if time.monotonic() > give_up:
                print(f"feedmesh: {told.what} is not ready yet; see the lines above")
                return
            time.sleep(0.1)
    print(told.text, flush=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False
