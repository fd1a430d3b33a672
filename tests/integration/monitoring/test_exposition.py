"""
What services export is well formed and bounded, with 10,000 symbols and 1,000 clients.

How quickly it is told is measured by ``bench/instrumentation.py``.
"""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx
import pytest
from full_mesh import run_full_mesh
from processes import ServiceProcess


BOUNDS = {"edge": 1500, "ingest_fmp": 500, "ingest_ls": 500, "prober": 500}


async def exposition(service: ServiceProcess) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{await service.ops()}/metrics")).text


async def lint(text: str) -> str:
    """Return what promtool has to say against *text*."""
    process = await asyncio.create_subprocess_exec(
        *("promtool", "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate(text.encode())
    return (out + err).decode().strip()


async def test_series_are_well_formed_and_few(tmp_path: Path) -> None:
    async with run_full_mesh(tmp_path) as services:
        texts = {name: await exposition(services[name]) for name in BOUNDS}

    for name, text in texts.items():
        series = [line for line in text.splitlines() if line and line[0] != "#"]
        print(name, len(series))
        assert len(series) <= BOUNDS[name], name
        assert not [line for line in series if "_created" in line]
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    for name, text in texts.items():
        assert await lint(text) == "", name


async def test_a_badly_named_metric_is_found() -> None:
    """The control: promtool does object."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")

    assert "_total" in await lint("# HELP x X.\n# TYPE x counter\nx 1\n")
