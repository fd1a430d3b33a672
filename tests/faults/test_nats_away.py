"""All three NATS nodes are gone for a minute: what came meanwhile is stored later."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from faults.cluster import Cluster, run_cluster
from faults.identity import unaccounted
from faults.naive import NaiveWriter
from faults.results import record, scaled
from pair import NewsLoad, last_of, run_replicas, said, until_said
from processes import ServiceProcess


AWAY_SECONDS = scaled(3.0, 60.0)
PER_SECOND = 200
CALM_SECONDS = 1.0
NAMES = "AAPL,MSFT,NVDA,GOOGL,AMZN,META,TSLA,JPM,V,BTCUSD,ETHUSD,EURUSD,USDJPY"

pytestmark = pytest.mark.timeout(scaled(180, 600))


def resident_mib(service: ServiceProcess) -> float:
    """Return how much memory the process has."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def accepting(cluster: Cluster) -> float:
    """Wait until a node takes clients; return when, by the clock of the loop."""
    while True:
        for node in cluster.nodes:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", node.plan.port)
            except OSError:
                continue
            writer.close()
            return asyncio.get_running_loop().time()
        await asyncio.sleep(0.005)


async def seconds_until_back(services: list[ServiceProcess], since: float) -> float:
    """Return how long after *since* the last of *services* was back."""
    await asyncio.gather(*(until_said(each, "NATS is back", 1) for each in services))
    return asyncio.get_running_loop().time() - since


async def test_everything_waits_for_nats_and_no_news_is_lost(tmp_path: Path) -> None:
    async with (
        run_cluster(tmp_path / "nats") as cluster,
        cluster.bus() as bus,
        run_replicas(
            *(tmp_path, bus, cluster.url, "ingest_ls", "--rate", "2000"),
            *("--news-rate", "0"),
        ) as pair,
    ):
        urls = pair.simulator.urls
        fmp = ServiceProcess(
            "ingest_fmp",
            {
                "NATS_URL": cluster.url,
                "OPS_PORT": "0",
                "FMP_SYMBOLS": NAMES,
                **{
                    f"FMP_{kind.upper()}_URL": urls[f"fmp_{kind}_url"]
                    for kind in ("stocks", "crypto", "forex")
                },
            },
        )
        await fmp.start()
        try:
            await fmp.ready()
            naive = NaiveWriter(bus, PER_SECOND)
            await naive.prepare(replicas=3)
            leader = await pair.leader()
            services = [*pair.replicas, fmp]
            writing = asyncio.create_task(naive.run())
            async with NewsLoad(pair, PER_SECOND) as load:
                await asyncio.sleep(CALM_SECONDS)
                before = {each: resident_mib(each) for each in services}
                await cluster.stop()
                await asyncio.sleep(AWAY_SECONDS)
                growth = max(resident_mib(each) - before[each] for each in services)
                lines = max(len(each.lines) for each in services)
                starting = asyncio.create_task(cluster.start())
                back = await seconds_until_back(services, await accepting(cluster))
                await starting
                await asyncio.sleep(CALM_SECONDS)
            writing.cancel()
            unaccounted_events = await unaccounted(leader, fmp)
            stored = [item.realkey for item in await pair.stored()]
            gaps = await pair.gaps()
            missing = await naive.missing()
            standing = last_of(pair.other(leader), "standing by", "leading")
            links = said(leader, "link is up")
        finally:
            await fmp.stop()

    sent = [item.realkey for item in load.sent]
    record(
        "all three NATS nodes away",
        {
            "seconds": AWAY_SECONDS,
            "news_per_second": PER_SECOND,
            "news_sent": len(sent),
            "news_lost": len(set(sent) - set(stored)),
            "news_duplicated": len(stored) - len(set(stored)),
            "news_out_of_order": sum(a > b for a, b in itertools.pairwise(stored)),
            "gaps_recorded": len(gaps),
            "upstream_connects": links,
            "connected_again_s": round(back, 2),
            "memory_growth_mib": round(growth, 1),
            "log_lines": lines,
            "unaccounted_events": unaccounted_events,
            "control_lost": missing,
        },
        at_most={
            "news_lost": 0,
            "news_duplicated": 0,
            "news_out_of_order": 0,
            "gaps_recorded": 0,
            "upstream_connects": 1,
            "connected_again_s": scaled(10, 2),
            "memory_growth_mib": 64,
            "unaccounted_events": 0,
        },
        at_least={"control_lost": 1},
    )
    # Nobody took the lead from a leader that was only cut off.
    assert standing == "standing by"
