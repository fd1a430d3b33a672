"""However bad an outage is, a service writes few lines, and no secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from mesh import run_mesh


FLOOD = dedent("""
    import logging, sys
    from feedmesh.logs import setup_logging

    setup_logging("flooded", sys.argv[1], ["hunter2"])
    logger = logging.getLogger("outage")
    for number in range(2000):
        logger.warning("no answer to %s", "hunter2", extra={"number": number})
    logger.error("what it is about")
""")


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


async def test_an_outage_of_everything_is_few_lines(tmp_path: Path) -> None:
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
