"""
NATS away for a while: news go to disk, and from there into the stream, in order.

``FAULT_AWAY`` sets for how many seconds, ``FAULT_RATE`` how many items come a second.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from pair import NewsLoad, Pair, run_pair
from processes import ServiceProcess
from verdict import judge, report
from who_leads import last_of, said, until_said

from feedmesh.streams import ensure_streams


AWAY = float(os.environ.get("FAULT_AWAY", "4"))
RATE = int(os.environ.get("FAULT_RATE", "500"))
pytestmark = pytest.mark.timeout(180 + 2 * AWAY)

# Shortly before a kill, items are still in the socket or in memory.
_IN_FLIGHT_NS = 500_000_000


def resident_mib(replica: ServiceProcess) -> float:
    """Return how much memory the process has."""
    status = Path(f"/proc/{replica.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def back(pair: Pair, replica: ServiceProcess, times: int = 1) -> float:
    """Start NATS again; return how long *replica* took to be back."""
    await start_nats(pair)
    began = time.monotonic()
    await until_said(replica, "NATS is back", times)
    return time.monotonic() - began


async def start_nats(pair: Pair) -> None:
    await pair.nats.start()
    async with asyncio.timeout(30):
        while not pair.bus.connected:
            await asyncio.sleep(0.01)
        # A single server forgets what is in memory.
        await ensure_streams(pair.bus.nc.jetstream())


async def test_news_wait_on_disk_and_nothing_else_changes(tmp_path: Path) -> None:
    async with run_pair(tmp_path) as pair:
        leader = await pair.leader()
        async with NewsLoad(pair, RATE) as load:
            await asyncio.sleep(1)
            before = resident_mib(leader)
            await pair.nats.stop()
            await asyncio.sleep(AWAY)
            growth = resident_mib(leader) - before
            spooled = await leader.metric("feedmesh_ingest_ls_spooled")
            returned = await back(pair, leader)
            await asyncio.sleep(1)
        accounts = await pair.accounts(leader)
        stored = [item.realkey for item in await pair.stored()]
        gaps = await pair.gaps()
        verdict = judge(load.sent, stored, gaps)
        report(
            "NATS away",
            seconds=AWAY,
            per_second=RATE,
            spooled=spooled,
            memory_growth_mib=round(growth, 1),
            back_after_s=round(returned, 2),
            **verdict._asdict(),
        )

        assert spooled > 0
        assert stored == [item.realkey for item in load.sent]
        assert gaps == []
        assert accounts.published == len(load.sent)
        # The upstream stayed connected, and nobody else took the lead.
        assert said(leader, "link is up") == 1
        assert last_of(pair.other(leader), "standing by", "leading") == "standing by"
        assert growth < 64


async def lost_in_a_crash(
    tmp_path: Path, *, spool: bool, number: signal.Signals = signal.SIGKILL
) -> int:
    """End the ingest while NATS is away; return how many it lost of what it had."""
    end_soon = {"SHUTDOWN_TIMEOUT": "1s"}
    async with run_pair(tmp_path, count=1, spool=spool, **end_soon) as pair:
        (replica,) = pair.replicas
        async with NewsLoad(pair, RATE) as load:
            await asyncio.sleep(1)
            await pair.nats.stop()
            await asyncio.sleep(AWAY / 2)
            killed = time.time_ns()
            await replica.stop(number)
            await replica.start()
            await asyncio.sleep(AWAY / 2)
            await start_nats(pair)
            await until_said(replica, "link is up", 1, 60)
            await asyncio.sleep(1)
        await pair.accounts(replica)
        stored = [item.realkey for item in await pair.stored()]
        verdict = judge(load.sent, stored, await pair.gaps())
        had = [item for item in load.sent if item.after_ns < killed - _IN_FLIGHT_NS]
        lost = {item.realkey for item in had} - set(stored)
        report(
            "end while NATS is away",
            spool=spool,
            signal=number.name,
            lost_of_what_it_had=len(lost),
            unheard=load.unheard,
            **verdict._asdict(),
        )
        assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0)
        # Nobody else has led, so nothing fresh is stored before what waited.
        assert stored == sorted(stored)
        return len(lost)


async def test_what_waited_survives_a_crash(tmp_path: Path) -> None:
    assert await lost_in_a_crash(tmp_path, spool=True) == 0


async def test_what_waited_survives_a_stop(tmp_path: Path) -> None:
    assert await lost_in_a_crash(tmp_path, spool=True, number=signal.SIGTERM) == 0


async def test_without_a_spool_a_crash_loses_what_waited(tmp_path: Path) -> None:
    """The negative control; what is lost lies in a gap that is told, all the same."""
    assert await lost_in_a_crash(tmp_path, spool=False) > 0


async def test_a_full_spool_refuses_the_newest_and_says_when(tmp_path: Path) -> None:
    async with run_pair(tmp_path, count=1, LS_SPOOL_MAX="1") as pair:
        (replica,) = pair.replicas
        async with NewsLoad(pair, 2 * RATE) as load:
            await asyncio.sleep(1)
            await pair.nats.stop()
            async with asyncio.timeout(60):
                while not await replica.metric(
                    "feedmesh_ingest_rejected_total", reason="no_room"
                ):
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
            await back(pair, replica)
            await asyncio.sleep(2)
        accounts = await pair.accounts(replica)
        stored = [item.realkey for item in await pair.stored()]
        gaps = await pair.gaps()
        verdict = judge(load.sent, stored, gaps)
        report("spool full", rejected=accounts.rejected, **verdict._asdict())

        assert {gap.reason for gap in gaps} == {"spool_full"}
        assert verdict.in_gaps == accounts.rejected > 0
        assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0)
