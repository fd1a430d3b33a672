"""All three NATS nodes are gone for a minute: what came meanwhile is stored later."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults.cluster import Cluster, run_cluster
from faults.identity import unaccounted
from faults.naive import NaiveWriter
from faults.readers import NewsReader
from faults.results import FULL, record, scaled
from pair import NewsLoad, Pair, run_replicas
from processes import ServiceProcess
from who_leads import said, until_said


AWAY_SECONDS = scaled(3.0, 60.0)
PER_SECOND = 200
CALM_SECONDS = 1.0
SAMPLE_SECONDS = 0.2
READERS = 3
NAMES = "AAPL,MSFT,NVDA,GOOGL,AMZN,META,TSLA,JPM,V,BTCUSD,ETHUSD,EURUSD,USDJPY"

pytestmark = pytest.mark.timeout(scaled(180, 600))


def resident_mib(service: ServiceProcess) -> float:
    """Return how much memory the process has."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def sample_growth(
    services: Sequence[ServiceProcess], growth: dict[ServiceProcess, float]
) -> None:
    """Note in *growth* by how many MiB each has grown at most from now on, for ever."""
    before = {each: resident_mib(each) for each in services}
    while True:
        for each in services:
            more = resident_mib(each) - before[each]
            growth[each] = max(growth.get(each, 0.0), more)
        await asyncio.sleep(SAMPLE_SECONDS)


async def stored_at_last(pair: Pair, sent: set[str]) -> list[str]:
    """Return what is stored once all of *sent* is, or after a minute."""
    end = asyncio.get_running_loop().time() + 60
    while True:
        stored = [item.realkey for item in await pair.stored()]
        if sent <= set(stored) or asyncio.get_running_loop().time() > end:
            return stored
        await asyncio.sleep(0.5)


def bounds_if_nobody_took_the_lead(overtaken: int) -> dict[str, float]:
    """
    Return what holds while the leader is the same.

    It is to be, as it was only cut off. On a machine that has no time for it, it may
    be silent for longer than others wait, and a short run does not depend on that.
    """
    if overtaken and not FULL:
        return {}
    return {
        "news_out_of_order": 0,
        "gaps_recorded": 0,
        "upstream_connects": 1,
        "leaders_overtaken": 0,
    }


async def until_all_heard(readers: Sequence[NewsReader], last: str) -> None:
    """Wait until each of *readers* has heard *last* at the end."""
    try:
        async with asyncio.timeout(60):
            while any(reader.heard[-1] != last for reader in readers):
                await asyncio.sleep(0.05)
    except TimeoutError:
        found = [(r.heard[-1], len(r.heard), r.at, r.holes) for r in readers]
        raise AssertionError(f"{last} was not heard last: {found}") from None


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


async def seconds_until_back(service: ServiceProcess, since: float) -> float:
    """Return how long after *since* the service was back."""
    await until_said(service, "NATS is back", 1)
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
        edge = ServiceProcess(
            "edge", {"NATS_URL": cluster.url, "OPS_PORT": "0", "EDGE_PORT": "0"}
        )
        tasks: list[asyncio.Task[None]] = []
        await asyncio.gather(fmp.start(), edge.start())
        try:
            await asyncio.gather(fmp.ready(), edge.ready())
            port = (await edge.event("clients are served"))["port"]
            url = f"ws://127.0.0.1:{port}/api/v3/stream"
            readers = [NewsReader([url], 0) for _ in range(READERS)]
            tasks += [asyncio.create_task(reader.run()) for reader in readers]
            naive = NaiveWriter(bus, PER_SECOND)
            await naive.prepare(replicas=3)
            leader = await pair.leader()
            services = [*pair.replicas, fmp, edge]
            writing = asyncio.create_task(naive.run())
            async with NewsLoad(pair, PER_SECOND) as load:
                async with asyncio.timeout(30):
                    while not all(reader.heard for reader in readers):
                        await asyncio.sleep(0.05)
                await asyncio.sleep(CALM_SECONDS)
                growth: dict[ServiceProcess, float] = {}
                tasks.append(asyncio.create_task(sample_growth(services, growth)))
                told = [len(each.lines) for each in services]
                await cluster.stop()
                await asyncio.sleep(AWAY_SECONDS)
                lines = max(
                    len(each.lines) - before
                    for each, before in zip(services, told, strict=True)
                )
                starting = asyncio.create_task(cluster.start())
                since = await accepting(cluster)
                *of_ingests, of_edge = await asyncio.gather(
                    *(seconds_until_back(each, since) for each in services)
                )
                await starting
                await asyncio.sleep(CALM_SECONDS)
            writing.cancel()
            # What waited is given back first, and what was missed is read by the edge:
            # that may take more memory than the wait.
            unaccounted_events = await unaccounted(leader, fmp)
            sent = [item.realkey for item in load.sent]
            stored = await stored_at_last(pair, set(sent))
            await until_all_heard(readers, stored[-1])
            gaps = await pair.gaps()
            missing = await naive.missing()
            links = said(leader, "link is up")
            overtaken = await pair.connections_allowed() - 1
            record(
                "all three NATS nodes away",
                {
                    "seconds": AWAY_SECONDS,
                    "news_per_second": PER_SECOND,
                    "news_sent": len(sent),
                    "news_lost": len(set(sent) - set(stored)),
                    "news_duplicated": len(stored) - len(set(stored)),
                    "news_out_of_order": sum(
                        a > b for a, b in itertools.pairwise(stored)
                    ),
                    "gaps_recorded": len(gaps),
                    "upstream_connects": links,
                    "leaders_overtaken": overtaken,
                    # One that lags too far behind is told so.
                    "clients_told_of_a_hole": sum(
                        reader.holes > 0 for reader in readers
                    ),
                    "news_missed_untold": sum(
                        len(
                            set(stored[stored.index(reader.heard[0]) :])
                            - set(reader.heard)
                        )
                        for reader in readers
                        if not reader.holes
                    ),
                    "connected_again_s": round(max(of_ingests), 2),
                    "edge_connected_again_s": round(of_edge, 2),
                    "memory_growth_mib": round(max(growth.values()), 1),
                    "memory_growth_of": max(
                        growth, key=lambda each: growth[each]
                    ).module,
                    "log_lines": lines,
                    "unaccounted_events": unaccounted_events,
                    "control_lost": missing,
                },
                at_most={
                    "news_lost": 0,
                    "news_duplicated": 0,
                    "news_missed_untold": 0,
                    "connected_again_s": scaled(10, 2),
                    "edge_connected_again_s": scaled(10, 2),
                    "memory_growth_mib": 64,
                    "log_lines": 60,
                    "unaccounted_events": 0,
                }
                | bounds_if_nobody_took_the_lead(overtaken),
                at_least={"control_lost": 1},
            )
        except BaseException:
            for service in (fmp, edge):
                print(f"{service.module}:", *service.lines, sep="\n")
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(fmp.stop(), edge.stop())
