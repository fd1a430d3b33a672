"""The power of all three nodes fails at once: what was acknowledged is still there."""

from __future__ import annotations

import asyncio
import itertools
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.cluster import Cluster, claim, make_cluster, plan_nodes, stored_news
from faults.power import PowerDisk, power_disk
from faults.results import record, scaled

from feedmesh import subjects
from feedmesh.ingest.log_entry import LogEntry, LogMessage
from feedmesh.ingest.log_publisher import LogPublisher
from feedmesh.streams import NEWS


SUITE = "power of all three nodes cut"
CUTS = scaled(1, 10)
WRITING_SECONDS = scaled(2.0, 5.0)
NEWS_A_SECOND = 200
# A disk that others keep busy confirms less, so each cut waits for as many.
CONFIRMED_A_CUT = 100

pytestmark = pytest.mark.timeout(scaled(180, 900))


class Outcome(NamedTuple):
    """Ids that the stream confirmed, and ids that it has after the power came back."""

    acknowledged: set[str]
    stored: list[str]

    @property
    def lost(self) -> int:
        return len(self.acknowledged - set(self.stored))


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """Without this, the suite below would prove nothing."""
    with power_disk(tmp_path) as disk:
        for name, synced in (("careful", True), ("careless", False)):
            with (disk.folder / name).open("wb") as file:
                file.write(b"x" * 10_000)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        disk.cut()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.folder / "after").write_bytes(b"x")
        disk.unmount()
        disk.mount()

        sizes = {p.name: p.stat().st_size for p in disk.folder.iterdir() if p.is_file()}

    assert sizes["careful"] == 10_000
    assert sizes.get("careless", 0) == 0


async def test_acknowledged_news_survive_and_without_sync_they_do_not(
    tmp_path: Path,
) -> None:
    with power_disk(tmp_path / "always") as disk:
        kept = await write_and_cut(disk, "always", CUTS)
    with power_disk(tmp_path / "default") as disk:
        control = await write_and_cut(disk, "2m", 1)

    record(
        SUITE,
        {
            "cuts": CUTS,
            "news_acknowledged": len(kept.acknowledged),
            "news_lost": kept.lost,
            "news_duplicated": len(kept.stored) - len(set(kept.stored)),
            "control_acknowledged": len(control.acknowledged),
            "control_lost": control.lost,
        },
        at_most={"news_lost": 0, "news_duplicated": 0},
        at_least={"news_acknowledged": CONFIRMED_A_CUT * CUTS, "control_lost": 1},
    )


async def write_and_cut(disk: PowerDisk, sync: str, cuts: int) -> Outcome:
    """Cut the power *cuts* times, each time while news are being written."""
    configs = disk.folder.parent
    cluster = make_cluster(disk.folder, plan_nodes(), sync=sync, configs=configs)
    numbers = itertools.count()
    acknowledged: set[str] = set()
    try:
        for _ in range(cuts):
            await cluster.start()
            await write_until_cut(cluster, disk, numbers, acknowledged)
            disk.unmount()
            disk.mount()
        await cluster.start()
        async with cluster.bus() as bus:
            await cluster.leader(bus, NEWS)
            stored = await stored_news(bus)
    finally:
        await cluster.stop()
    return Outcome(acknowledged, stored)


async def write_until_cut(
    cluster: Cluster,
    disk: PowerDisk,
    numbers: itertools.count[int],
    acknowledged: set[str],
) -> None:
    async with cluster.bus() as bus:
        publisher = LogPublisher(bus, await claim(bus, "ls"))
        publisher.on_stored = lambda item, new: acknowledged.add(id_of(item))
        publishing = asyncio.create_task(publisher.run())
        enough = len(acknowledged) + CONFIRMED_A_CUT
        least = asyncio.get_running_loop().time() + WRITING_SECONDS
        try:
            async with asyncio.timeout(60):
                while (
                    asyncio.get_running_loop().time() < least
                    or len(acknowledged) < enough
                ):
                    publisher.offer(entry(next(numbers)))
                    await asyncio.sleep(1 / NEWS_A_SECOND)
            # Whoever pulls the plug does not wait for what is being written.
            await cluster.stop()
            disk.cut()
        finally:
            publishing.cancel()


def entry(number: int) -> LogEntry:
    """Return item *number* with a copy for one symbol: an atomic batch of two."""
    encode = partial(bytes, b"%d" % number)
    name = f"item{number}"
    return LogEntry(
        (
            LogMessage(subjects.news("article"), name, encode),
            LogMessage(subjects.news("article", "005930"), f"{name}:005930", encode),
        )
    )


def id_of(item: LogEntry) -> str:
    return item.messages[0].encode().decode()
