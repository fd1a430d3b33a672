"""However bad an outage is, a service writes few lines, and no secrets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest
from mesh import Mesh, run_mesh
from processes import ServiceProcess, run_service


FLOOD = dedent("""
    import logging, sys
    from feedmesh.logs import setup_logging

    setup_logging("flooded", sys.argv[1], ["hunter2"])
    logger = logging.getLogger("outage")
    for number in range(2000):
        logger.warning("no answer to %s", "hunter2", extra={"number": number})
    logger.error("what it is about")
""")

LOUD = str(Path(__file__).parents[2] / "loud")


@pytest.mark.parametrize(("level", "most"), [("INFO", 60), ("DEBUG", 5000)])
def test_a_flood_is_held_back_and_told(level: str, most: int) -> None:
    """At DEBUG all of it is written: that is the control."""
    done = subprocess.run(
        [sys.executable, "-c", FLOOD, level], capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert "hunter2" not in done.stderr
    assert "[redacted]" in done.stderr
    assert lines[-1]["event"] == "what it is about"
    assert len(lines) <= most
    held = [line["lines"] for line in lines if "held back" in line["event"]]
    assert held == ([1980] if level == "INFO" else [])
    assert sum(held) + len(lines) - len(held) == 2001


async def until_it_warns(service: ServiceProcess, least: int) -> None:
    """Wait until *service* has said so often that something is wrong."""
    async with asyncio.timeout(30):
        while sum('"level": "WARNING"' in line for line in service.lines) < least:
            await asyncio.sleep(0.05)


async def outage(mesh: Mesh, prober: ServiceProcess, least: int) -> None:
    """Take away from every service what it cannot do without; each warns of it."""
    await mesh.simulator.service.stop(signal.SIGKILL)
    await mesh.nats.stop()
    for service in mesh.services.values():
        await until_it_warns(service, least)
    # Not killed: it shall say all that it has to say.
    await mesh.services["edge"].stop()
    await until_it_warns(prober, least)
    # The rest of what it says is under way at most.
    await asyncio.sleep(0.5)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_no_service_says_much_in_an_outage(tmp_path: Path, level: str) -> None:
    """
    Not even services that have a hundred things to say about each that is wrong.

    At DEBUG they may: that is the control.
    """
    env = {"PYTHONPATH": LOUD, "LOG_LEVEL": level, "EDGE_DRAIN": "1s"}
    async with run_mesh(tmp_path / "mesh", env=env) as mesh:
        edges = f"ws://127.0.0.1:{mesh.edge_port}/api/v3/stream"
        env |= {"PROBER_EDGES": edges, "OPS_PORT": "0"}
        async with run_service("prober", env) as prober:
            await prober.ready()
            await outage(mesh, prober, 10 if level == "INFO" else 101)
            for service in (*mesh.services.values(), prober):
                assert (len(service.lines) <= 60) == (level == "INFO"), service.module


async def test_who_waits_for_nats_has_no_error_to_tell() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        env = {"NATS_URL": url, "LOG_LEVEL": "DEBUG"}
        async with run_service("feedmesh", env, "streams") as service:
            async with asyncio.timeout(60):
                while sum("close: " in line for line in service.lines) < 5:
                    await asyncio.sleep(0.05)
            levels = Counter(json.loads(line)["level"] for line in service.lines)

    assert levels["WARNING"] == 1
    assert levels.keys() == {"WARNING", "DEBUG"}, service.lines


async def test_services_as_they_are_say_little_when_all_comes_and_goes(
    tmp_path: Path,
) -> None:
    async with run_mesh(tmp_path) as mesh:
        before = {name: len(s.lines) for name, s in mesh.services.items()}
        for _ in range(3):
            await mesh.nats.stop()
            await mesh.restart_simulator()
            await mesh.nats.start()
        await mesh.services["edge"].ready()
        await mesh.services["edge"].event("NATS is back")

        for name, service in mesh.services.items():
            told = service.lines[before[name] :]
            assert len(told) <= 60, "\n".join(told)
            assert all(line.startswith("{") for line in told), told
