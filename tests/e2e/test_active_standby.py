"""
Two replicas, one upstream connection: killed, paused, and asked to go.

What the upstream had sent is in the stream once and in order, or lies in a time that a
gap record names. ``FAULT_ROUNDS`` sets how often each fault is made, ``FAULT_RATE`` how
many items come a second meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path

import pytest
from pair import NewsLoad, Pair, run_pair
from processes import ServiceProcess
from verdict import judge, quantile, report, seconds_of
from who_leads import first_to_lead, said, until_said

from feedmesh.ingest.beat import SILENCE_SECONDS


ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
RATE = int(os.environ.get("FAULT_RATE", "500"))
pytestmark = pytest.mark.timeout(120 + 15 * ROUNDS)


async def test_killing_the_leader_loses_nothing_outside_a_gap(tmp_path: Path) -> None:
    async with run_pair(tmp_path) as pair:
        taken = []
        async with NewsLoad(pair, RATE) as load:
            for _ in range(ROUNDS):
                await asyncio.sleep(1)
                leader = await pair.leader()
                killed = time.monotonic()
                await pair.end(leader, signal.SIGKILL)
                await pair.leader()
                await pair.registered()
                taken.append(time.monotonic() - killed)
                await pair.restart(leader)
            await asyncio.sleep(1)
        leader = await pair.leader()
        accounts = await pair.accounts(leader)
        stored = [item.realkey for item in await pair.stored()]
        gaps = await pair.gaps()
        verdict = judge(load.sent, stored, gaps)
        report(
            "kill -9 of the leader",
            rounds=ROUNDS,
            per_second=RATE,
            take_over_ms_p50=round(quantile(taken, 0.5) * 1000),
            take_over_ms_p99=round(quantile(taken, 0.99) * 1000),
            gap_s_max=max(map(seconds_of, gaps)),
            unheard=load.unheard,
            **verdict._asdict(),
        )

        assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0)
        # Short of time, an heir may not have heard until when all was stored, and a gap
        # may last until the next kill.
        assert {"takeover", "restart"} & {gap.reason for gap in gaps}
        assert accounts.missing == 0
        at_once = (await pair.stats("ls.ws"))["connections_max"]
        assert at_once <= await pair.connections_allowed()


async def pause_and_wake(pair: Pair, leader: ServiceProcess) -> float:
    """Stop *leader* for a while and wake it; return when the other's link was up."""
    heir = pair.other(leader)
    overtaken = said(leader, "another leads; stepping down")
    stopped = time.monotonic()
    leader.process.send_signal(signal.SIGSTOP)
    await first_to_lead([heir])
    taken = time.monotonic() - stopped
    await asyncio.sleep(0.5)
    leader.process.send_signal(signal.SIGCONT)
    await until_said(leader, "another leads; stepping down", overtaken + 1)
    await until_said(leader, "standing by", said(leader, "leading"))
    return taken


async def test_a_leader_that_was_paused_and_woken_cannot_write(tmp_path: Path) -> None:
    async with run_pair(tmp_path) as pair:
        taken = []
        async with NewsLoad(pair, RATE) as load:
            for _ in range(ROUNDS):
                await asyncio.sleep(1)
                taken.append(await pause_and_wake(pair, await pair.leader()))
            await asyncio.sleep(1)
        for replica in pair.replicas:
            await pair.accounts(replica)
        await asyncio.sleep(2)
        stored = [item.realkey for item in await pair.stored()]
        verdict = judge(load.sent, stored, await pair.gaps())
        stale = await pair.stale()
        report(
            "pause and wake of the leader",
            rounds=ROUNDS,
            fenced=ROUNDS if stale == 0 else 0,
            stale_writes=stale,
            take_over_ms_max=round(max(taken) * 1000),
            **verdict._asdict(),
        )

        assert stale == 0
        assert (verdict.lost, verdict.duplicated) == (0, 0)
        assert all(replica.process.returncode is None for replica in pair.replicas)


async def stale_writes(tmp_path: Path, unfenced: str = "") -> int:
    """Pause and wake a leader that learns late of the other; return what it wrote."""
    async with run_pair(
        tmp_path, "unaware_ingest_ls", spool=False, UNFENCED=unfenced
    ) as pair:
        async with NewsLoad(pair, RATE):
            await asyncio.sleep(1)
            await pause_and_wake(pair, await pair.leader())
            await asyncio.sleep(1)
        stale = await pair.stale()
        report("wake without news of it", fenced=not unfenced, stale_writes=stale)
        return stale


async def test_the_stream_refuses_a_leader_that_does_not_know(tmp_path: Path) -> None:
    assert await stale_writes(tmp_path) == 0


async def test_without_the_fence_such_a_leader_writes(tmp_path: Path) -> None:
    """The negative control: it is the stream that refuses, nothing else."""
    assert await stale_writes(tmp_path, unfenced="1") > 0


async def test_a_leader_that_is_asked_to_go_hands_over(tmp_path: Path) -> None:
    async with run_pair(tmp_path) as pair:
        async with NewsLoad(pair, RATE) as load:
            for _ in range(ROUNDS):
                await asyncio.sleep(1)
                leader = await pair.leader()
                assert await pair.end(leader, signal.SIGTERM) == 0
                await pair.leader()
                await pair.restart(leader)
            await asyncio.sleep(1)
        await pair.accounts(await pair.leader())
        stored = await pair.stored()
        gaps = await pair.gaps()
        verdict = judge(load.sent, [item.realkey for item in stored], gaps)
        # How long nothing came, where one writer follows another.
        between = [
            (after.received_ns - before.received_ns) / 1e9
            for before, after in itertools.pairwise(stored)
            if before.epoch != after.epoch
        ]
        report(
            "hand-over",
            rounds=ROUNDS,
            without_data_ms_p50=round(quantile(between, 0.5) * 1000),
            without_data_ms_p99=round(quantile(between, 0.99) * 1000),
            unheard=load.unheard,
            **verdict._asdict(),
        )

        assert (verdict.lost, verdict.duplicated, verdict.reordered) == (0, 0, 0)
        # Short of time, a leader may be overtaken before it can hand over.
        assert [gap.reason for gap in gaps].count("handover") > ROUNDS / 2
        assert min(between) < SILENCE_SECONDS
        at_once = (await pair.stats("ls.ws"))["connections_max"]
        assert at_once <= await pair.connections_allowed()


async def test_a_take_over_survives_an_upstream_that_is_still_busy(
    tmp_path: Path,
) -> None:
    async with run_pair(tmp_path, "ingest_fmp", FMP_SYMBOLS="AAPL") as pair:
        await pair.simulator.call(
            "POST", "/fault", target="fmp.stocks", kind="slot_busy", seconds=6
        )
        leader = await pair.leader()
        heir = pair.other(leader)
        await leader.stop(signal.SIGKILL)
        await until_said(heir, "link is up", 1, 60)
        connects = await heir.metric("feedmesh_ingest_connects_total", link="stocks")
        async with asyncio.timeout(10):
            while not (gaps := await pair.gaps()):
                await asyncio.sleep(0.05)
        report("busy after a kill", connects=connects, gap_s=seconds_of(gaps[0]))

        assert 2 <= connects <= 10
        assert (gaps[0].link, gaps[0].reason) == ("stocks", "takeover")
        assert seconds_of(gaps[0]) > 5
