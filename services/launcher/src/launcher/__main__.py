"""
Start everything, say where to look, and stop everything together.

honcho runs the processes: it starts each in a process group of its own, shows what
they say, and ends all when one ends or the user asks.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from dotenv import dotenv_values
from honcho.manager import Manager

from launcher.plan import Plan, PlanError, make_plan


_DATA = Path(".data")
_WAIT_SECONDS = 120.0


def main() -> None:
    """Run what the environment and the file .env ask for."""
    environ = {k: v for k, v in dotenv_values(".env").items() if v} | dict(os.environ)
    try:
        plan = make_plan(environ, _DATA.absolute(), _is_free)
    except PlanError as error:
        print(f"feedmesh: {error}", file=sys.stderr)
        sys.exit(1)
    _DATA.mkdir(exist_ok=True)
    manager = _Manager()
    for process in plan.processes:
        manager.add_process(
            process.name, process.command, env=environ | dict(process.env)
        )
    threading.Thread(target=_announce, args=(plan,), daemon=True).start()
    manager.loop()
    # Asked to stop, by Ctrl+C or SIGTERM, is how this normally ends.
    sys.exit(0 if manager.returncode in (130, 143) else manager.returncode)


class _Manager(Manager):  # type: ignore[misc] # honcho has no types
    """
    honcho's manager, with two things that it lacks.

    It can be stopped while it is still starting; and it stops the bus last, so that
    the others can still say there what they have to say.
    """

    _LAST = "nats"
    _asked = False
    _told_last = False

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
        if self._terminating and not self._told_last and self._only_last_runs():
            self._told_last = True
            super()._killall()
        return started

    def _killall(self, force: bool = False) -> None:
        last = self._processes.get(self._LAST)
        if force or last is None:
            super()._killall(force)
            return
        del self._processes[self._LAST]
        super()._killall()
        self._processes[self._LAST] = last

    def _only_last_runs(self) -> bool:
        running = [n for n, p in self._processes.items() if "returncode" not in p]
        return running == [self._LAST]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _announce(plan: Plan) -> None:
    """Wait until the edge is ready, then say where everything is."""
    give_up = time.monotonic() + _WAIT_SECONDS
    while not _is_ready(plan.edge_ops_url):
        if time.monotonic() > give_up:
            print("feedmesh: the edge is not ready yet; see the lines above")
            return
        time.sleep(0.1)
    print(_where_to_look(plan), flush=True)


def _is_ready(ops_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{ops_url}/readyz", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _where_to_look(plan: Plan) -> str:
    sockets = plan.edge_url.replace("http", "ws", 1)
    if plan.simulated:
        feeds = f"simulated: {', '.join(plan.simulated)} (set keys in .env to change)"
    else:
        feeds = "the real ones"
    lines = [
        "",
        "feedmesh is running",
        f"  page        {plan.edge_url}/",
        f"  stream      {sockets}/api/v3/stream (docs/protocol-v3.md)",
        f"  REST        {plan.edge_url}/api/v3/prices (/openapi.json)",
        f"  bus         {plan.nats_url}",
        *(f"  {name:<11} {url}/metrics" for name, url in plan.ops_urls.items()),
        f"  feeds       {feeds}",
        "  stop        Ctrl+C",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
