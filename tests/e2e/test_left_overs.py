"""Replicas that hold what nobody else has: when they go, and when they lead again."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import closing
from pathlib import Path

from pair import news_frame, run_pair

from feedmesh.clock import now_ns
from feedmesh.ingest.log_entry import pack
from feedmesh.ingest.spool import Spool
from feedmesh.ingest.spools import Spools
from ingest_ls.master import Master
from ingest_ls.normalize import News, normalize
from ingest_ls.outgoing import news_entry


LEFT = 2000
MORE = 10_000


def keys(count: int) -> list[str]:
    return [f"20260715{number:016}" for number in range(count)]


def leave(spool: Spool, count: int) -> None:
    """Have *spool* hold *count* items that an earlier term had not stored."""
    for number, key in enumerate(keys(count)):
        at_ns = now_ns()
        frame = json.dumps(news_frame(key)).encode()
        (news,) = normalize(frame, at_ns, Master())
        assert isinstance(news, News)
        assert spool.append(pack(news_entry(news, (1, number), at_ns)))


async def test_who_goes_leaves_nothing_that_nobody_else_has(tmp_path: Path) -> None:
    folder = tmp_path / "spool-1"
    with closing(Spools(folder, 64 << 20)) as spools:
        leave(spools.left, LEFT)
    async with run_pair(tmp_path) as pair:
        leader = await pair.leader()
        standby = pair.other(leader)
        # The leader takes some of it at a time: it is not through yet.
        assert await pair.end(standby, signal.SIGTERM) == 0
        with closing(Spools(folder, 64 << 20)) as spools:
            assert len(spools) == 0
        async with asyncio.timeout(10):
            while len(stored := await pair.stored()) < LEFT:
                await asyncio.sleep(0.05)
        assert [item.realkey for item in stored] == keys(LEFT)


async def test_news_do_not_wait_for_what_was_left_before_another_led(
    tmp_path: Path,
) -> None:
    with closing(Spools(tmp_path / "spool-1", 64 << 20)) as spools:
        leave(spools.own, MORE)
    async with run_pair(tmp_path) as pair:
        await pair.end(await pair.leader(), signal.SIGKILL)
        await pair.leader()
        await pair.registered()
        await pair.simulator.inject("ls.ws", news_frame("fresh"))
        async with asyncio.timeout(20):
            while "fresh" not in (order := [i.realkey for i in await pair.stored()]):
                await asyncio.sleep(0.01)
        assert len(order) < MORE
        async with asyncio.timeout(60):
            while len(await pair.stored()) < MORE + 1:
                await asyncio.sleep(0.2)
