"""
One NATS node of three is killed, again and again, while everything flows.

The real ingests read from the simulator, 200 news and 2,000 prices a second. News must
all be in the log, once, in order; prices may stop for the blink of an eye.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.cluster import Cluster, run_cluster
from faults.identity import unaccounted
from faults.naive import NaiveWriter
from faults.prices import EdgeListener, PriceListener, longest_pause, loss_percent
from faults.results import percentile, record, scaled
from mesh import Simulator, free_block
from processes import ServiceProcess, run_service

from feedmesh.bus import Bus, connect_bus
from feedmesh.messages import Head, decode_head
from feedmesh.stored import read_from, stream_state
from feedmesh.streams import NEWS, PRICES


KILLS = scaled(1, 60)
# Each node once at least, or the control might lose nothing.
CONTROL_KILLS = scaled(3, 6)
BETWEEN_SECONDS = 5.0
NEWS_A_SECOND = 200
PRICES_A_SECOND = 2000
DOWN_SECONDS = 0.5
UNDISTURBED_SECONDS = scaled(2.0, 30.0)
SYMBOLS = "AAPL,MSFT,NVDA,GOOGL,AMZN,META,TSLA,BRK-B,JPM,V,BTCUSD,ETHUSD,EURUSD,USDJPY"

pytestmark = pytest.mark.timeout(scaled(240, 1800))


class Flow(NamedTuple):
    """Everything that runs."""

    cluster: Cluster
    bus: Bus
    simulator: Simulator
    fmp: ServiceProcess
    ls: ServiceProcess
    edge_port: int


@asynccontextmanager
async def flowing(folder: Path) -> AsyncIterator[Flow]:
    """Run three nodes, the simulator and both ingests."""
    quiet = ("--rate", "0", "--news-rate", "0", "--base-port", str(free_block()))
    # What happens at once each 10 ms, as it does else, is a pause by itself.
    steady = ("--tick", "0.005")
    async with (
        run_cluster(folder) as cluster,
        cluster.bus() as bus,
        run_service("simulator", {}, *quiet, *steady) as process,
    ):
        simulator = Simulator(process)
        await simulator.ready()
        urls = simulator.urls
        common = {"NATS_URL": cluster.url, "OPS_PORT": "0"}
        fmp_env = common | {
            f"FMP_{kind.upper()}_URL": urls[f"fmp_{kind}_url"]
            for kind in ("stocks", "crypto", "forex", "stream")
        }
        ls_env = common | {
            "LS_REST_URL": urls["ls_rest_url"],
            "LS_WS_URL": urls["ls_ws_url"],
            "LS_SPOOL_DIR": str(folder / "spool"),
        }
        async with (
            run_service("ingest_fmp", fmp_env | {"FMP_SYMBOLS": SYMBOLS}) as fmp,
            run_service("ingest_ls", ls_env) as ls,
            run_service("edge", common | {"EDGE_PORT": "0"}) as edge,
        ):
            await fmp.ready()
            await ls.ready()
            port = (await edge.event("clients are served"))["port"]
            yield Flow(cluster, bus, simulator, fmp, ls, port)


async def test_nodes_die_in_turn_and_no_news_is_lost(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    prices = PriceListener()
    async with flowing(tmp_path) as flow:
        naive = NaiveWriter(flow.bus)
        await naive.prepare(replicas=3)
        client = EdgeListener(flow.edge_port, SYMBOLS.split(","))
        # A connection of its own, as an edge has one.
        async with connect_bus(flow.cluster.settings(), "listener") as listener:
            await prices.listen(listener)
            listening = asyncio.create_task(client.run())
            await flows(flow, prices)
            undisturbed = loop.time()
            await asyncio.sleep(UNDISTURBED_SECONDS)
            kills = await killed_in_turn(flow, KILLS)
            ended = loop.time()
            # By itself: its writes are as much work for the servers as all others.
            writing = asyncio.create_task(naive.run())
            await killed_in_turn(flow, CONTROL_KILLS)
            writing.cancel()
            await quiet(flow)
            async with asyncio.timeout(10):
                while prices.newest != await stored_prices(listener):
                    await asyncio.sleep(0.2)
        sent = (await flow.simulator.call("GET", "/stats"))["generated"]["news"]
        news = await stored_news(flow.bus)
        acknowledged = await total(flow.ls, "published", kind="news")
        # Of what was confirmed only when it was sent again.
        acknowledged += await total(flow.ls, "deduplicated", kind="news")
        rejected = await total(flow.ls, "rejected")
        link_ends = await total(flow.ls, "reconnects", link="news")
        price_events = await total(flow.fmp, "published", kind="price")
        unaccounted_events = await unaccounted(flow.ls, flow.fmp)
        control_lost = await naive.lost()
        listening.cancel()
        await asyncio.wait([listening])

    silences = [
        longest_pause(client.arrivals, at, next_at)
        for at, next_at in zip(kills, [*kills[1:], ended], strict=True)
    ]
    items = {head.id for head in news}
    # The writer counts what it sends; what it merges while NATS is away is not lost.
    last = max(arrival.version[1] for arrival in prices.arrivals)
    record(
        "one NATS node of three killed in turn",
        {
            "kills": KILLS,
            "seconds": round(ended - kills[0], 1),
            "news_sent": sent,
            "news_acknowledged": int(acknowledged),
            "news_rejected": rejected,
            "news_link_ends": link_ends,
            "news_lost": sent - len(items),
            "news_duplicated": len(news) - len(items),
            "news_out_of_order": sum(
                later.received_at < earlier.received_at
                for earlier, later in itertools.pairwise(news)
            ),
            "price_events": int(price_events),
            "price_gap_undisturbed_ms": _ms(
                longest_pause(client.arrivals, undisturbed, kills[0])
            ),
            "price_gap_at_edge_p50_ms": _ms(percentile(silences, 0.5)),
            "price_gap_at_edge_p99_ms": _ms(percentile(silences, 0.99)),
            "price_merged_percent": round(100 * (1 - last / price_events), 3),
            "price_loss_on_bus_percent": loss_percent(prices.arrivals, last),
            "price_loss_at_edge_percent": loss_percent(client.arrivals, last),
            "unaccounted_events": unaccounted_events,
            "control_lost": control_lost,
        },
        at_most={
            "news_lost": 0,
            "news_duplicated": 0,
            "news_out_of_order": 0,
            "price_gap_at_edge_p99_ms": scaled(8000, 50),
            "price_loss_at_edge_percent": scaled(25, 0.1),
            "unaccounted_events": 0,
        },
        at_least={"control_lost": 1, "news_acknowledged": sent},
    )


async def killed_in_turn(flow: Flow, count: int) -> list[float]:
    """Kill *count* nodes, one after the other; return when."""
    now = asyncio.get_running_loop().time
    kills = []
    for number in range(count):
        kills.append(now())
        node = flow.cluster.nodes[number % 3]
        await node.stop()
        await asyncio.sleep(DOWN_SECONDS)
        await node.start()
        await flow.cluster.healthy()
        await asyncio.sleep(kills[-1] + BETWEEN_SECONDS - now())
    return kills


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


async def flows(flow: Flow, prices: PriceListener) -> None:
    """Have the upstreams talk, once they are asked to, and wait until it is heard."""
    async with asyncio.timeout(30):
        while "NWS:NWS001" not in (await subscribed(flow, "ls.ws")):
            await asyncio.sleep(0.05)
        await flow.simulator.call(
            "POST",
            "/generate",
            rate=PRICES_A_SECOND,
            news_per_minute=60 * NEWS_A_SECOND,
        )
        while len(prices.arrivals) < 2000:
            await asyncio.sleep(0.05)
        while (await stream_state(flow.bus, NEWS)).last < 200:
            await asyncio.sleep(0.05)


async def subscribed(flow: Flow, target: str) -> list[str]:
    stats = await flow.simulator.call("GET", "/stats")
    return [str(key) for key in stats["targets"][target]["subscribed"]]


async def quiet(flow: Flow) -> None:
    """Have the upstreams fall silent, and wait until everything is stored."""
    await flow.simulator.call("POST", "/generate", prices=False, news=False)
    async with asyncio.timeout(60):
        for _ in range(2):
            # The gauges are set once a second; they must stay at nothing.
            await asyncio.sleep(1.2)
            for service in (flow.ls, flow.fmp):
                while await service.metric("feedmesh_ingest_backlog"):
                    await asyncio.sleep(0.2)


async def total(service: ServiceProcess, name: str, **labels: str) -> int:
    return int(await service.metric(f"feedmesh_ingest_{name}_total", **labels))


async def stored_news(bus: Bus) -> list[Head]:
    """Return the head of every item of the log, in order."""
    return [decode_head(m.payload)[0] async for m in read_from(bus, NEWS, 1, "news.*")]


async def stored_prices(bus: Bus) -> dict[str, bytes]:
    return {m.subject: m.payload async for m in read_from(bus, PRICES, 1)}
