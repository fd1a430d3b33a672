"""
The command line: look at what travels, and make the streams.

* ``python -m feedmesh sub 'news.*'`` prints what is published on a subject
* ``python -m feedmesh streams`` creates the streams that are missing
* ``python -m feedmesh doctor`` checks a deployment; exit code 1 if something is wrong
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import os
import sys
from contextlib import AsyncExitStack
from functools import partial

from nats.aio.msg import Msg

from feedmesh import doctor
from feedmesh.backoff import backoff
from feedmesh.bus import Bus, connect_bus
from feedmesh.errors import BusError, SettingsError
from feedmesh.logs import secrets_of, setup_logging
from feedmesh.permissions import IDENTITIES
from feedmesh.service import StopRequested, job_group, stop_on_signal, unless_stopped
from feedmesh.settings import ServiceSettings
from feedmesh.streams import ensure_streams


logger = logging.getLogger(__name__)

_KEEP_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(prog="python -m feedmesh", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True)
    sub = verbs.add_parser("sub", help="print what is published on a subject")
    sub.add_argument("subject", help="such as 'prices.us.AAPL' or 'news.*'")
    sub.add_argument("--count", type=int, default=0, help="stop after so many")
    streams = verbs.add_parser("streams", help="create the streams that are missing")
    streams.add_argument("--replicas", type=int, default=1, help="1, or 3 in a cluster")
    streams.add_argument(
        "--keep", action="store_true", help="go on, and create them again when lost"
    )
    look = verbs.add_parser("doctor", help="check a deployment")
    look.add_argument("--replicas", type=int, help="expected; 3 in a cluster, else 1")
    look.add_argument("--role", choices=IDENTITIES, help="check its permissions")
    look.add_argument(
        "--monitor", action="append", default=[], help="URL of each monitoring port"
    )
    look.add_argument("--json", action="store_true", help="for machines")
    arguments = parser.parse_args()
    try:
        settings = ServiceSettings.from_env(os.environ)
    except SettingsError as error:
        print(f"feedmesh: {error}", file=sys.stderr)
        sys.exit(2)
    # What the doctor finds is its output; logs beside it would say it twice.
    level = "ERROR" if arguments.verb == "doctor" else settings.log_level
    setup_logging("feedmesh", level, secrets_of(settings))
    if arguments.verb == "doctor":
        sys.exit(asyncio.run(_examine(settings, arguments)))
    try:
        asyncio.run(_run(settings, arguments))
    except StopRequested:
        pass
    except BusError as error:
        print(f"feedmesh: {error}", file=sys.stderr)
        sys.exit(1)


async def _examine(settings: ServiceSettings, arguments: argparse.Namespace) -> int:
    facts = await doctor.gather(settings, arguments.monitor)
    replicas = arguments.replicas or doctor.usual_replicas(facts)
    findings = doctor.check(facts, replicas, arguments.role)
    if arguments.json:
        shown = [
            finding._asdict() | {"level": finding.level.value} for finding in findings
        ]
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print(doctor.table(findings))
    return doctor.exit_code(findings)


async def _run(settings: ServiceSettings, arguments: argparse.Namespace) -> None:
    with stop_on_signal() as stop:
        async with AsyncExitStack() as stack:
            connecting = connect_bus(settings, f"feedmesh-{arguments.verb}")
            bus = await unless_stopped(stop, stack.enter_async_context(connecting))
            if arguments.verb == "sub":
                await _print_messages(bus, arguments.subject, arguments.count, stop)
            elif arguments.keep:
                await job_group(
                    stop, keep=partial(_keep_streams, bus, arguments.replicas)
                )
            else:
                making = _make_streams(bus, arguments.replicas, _PATIENCE_SECONDS)
                await unless_stopped(stop, making)


async def _print_messages(
    bus: Bus, subject: str, count: int, stop: asyncio.Event
) -> None:
    left = count

    async def show(message: Msg) -> None:
        nonlocal left
        if stop.is_set():
            return
        text = message.data.decode(errors="replace")
        print(f"{message.subject} {text}", flush=True)
        left -= 1
        if left == 0:
            stop.set()

    await bus.nc.subscribe(subject, cb=show)
    await stop.wait()


async def _keep_streams(bus: Bus, replicas: int) -> None:
    doubt = asyncio.Event()
    doubt.set()
    bus.on_doubt(doubt.set)
    while True:
        await doubt.wait()
        doubt.clear()
        await _make_streams(bus, replicas, math.inf)


async def _make_streams(bus: Bus, replicas: int, patience: float) -> None:
    # Servers that have just started need seconds until they agree on anything.
    loop = asyncio.get_running_loop()
    began = loop.time()
    pauses = backoff(0.05, _KEEP_SECONDS)
    while True:
        try:
            await ensure_streams(bus.nc.jetstream(), replicas)
            return
        except BusError as error:
            if loop.time() - began >= patience:
                raise
            logger.debug("streams: %s", error)
            await asyncio.sleep(next(pauses))


if __name__ == "__main__":
    main()
