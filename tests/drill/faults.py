"""
The faults: each an async context that breaks something and repairs it again.

`right` is the alert that must come; `also` are those that are true as well, because
clients notice or because one thing follows from another.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from drill.rig import Rig, leader_of, news_config, write_certificate
from faults.cluster import ClusterNode
from nats.js.api import StreamConfig
from raw_socket import raw_socket, text_frame

from feedmesh import subjects
from feedmesh.streams import NEWS, PRICES


Break = Callable[[Rig], AbstractAsyncContextManager[None]]

FRESHNESS = "FeedmeshFreshnessBurnFast"
AVAILABILITY = "FeedmeshAvailabilityBurnFast"


class Fault(NamedTuple):
    """What goes wrong, and what operators must be told."""

    name: str
    what: str
    right: str
    also: frozenset[str]
    broken: Break


@asynccontextmanager
async def ingest_dead(rig: Rig) -> AsyncIterator[None]:
    for one in rig.fmp:
        await one.stop(signal.SIGKILL)
    yield
    for one in rig.fmp:
        await one.start()


@asynccontextmanager
async def _upstream(rig: Rig, **fault: object) -> AsyncIterator[None]:
    await rig.simulator.call("POST", "/fault", target="fmp.crypto", **fault)
    yield
    await rig.simulator.call("DELETE", "/fault")


def link_down(rig: Rig) -> AbstractAsyncContextManager[None]:
    return _refusing(rig)


@asynccontextmanager
async def _refusing(rig: Rig) -> AsyncIterator[None]:
    async with _upstream(rig, kind="refuse_upgrade", status=503):
        await rig.simulator.call("POST", "/fault", target="fmp.crypto", kind="drop")
        yield


def upstream_mute(rig: Rig) -> AbstractAsyncContextManager[None]:
    return _upstream(rig, kind="heartbeats_only")


@asynccontextmanager
async def degraded_rate(rig: Rig) -> AsyncIterator[None]:
    await rig.simulator.call("POST", "/generate", rate=6)
    yield
    await rig.simulator.call("POST", "/generate", rate=200)


def dead_letters(rig: Rig) -> AbstractAsyncContextManager[None]:
    return _upstream(rig, kind="malformed", variant="not_json", ratio=0.2)


@asynccontextmanager
async def flapping(rig: Rig) -> AsyncIterator[None]:
    async def kill_leaders() -> None:
        while True:
            leader = await leader_of(rig.fmp)
            await leader.stop(signal.SIGKILL)
            await asyncio.sleep(3)
            await leader.start()
            await asyncio.sleep(12)

    task = asyncio.create_task(kill_leaders(), name="flapping")
    yield
    task.cancel()
    await asyncio.wait([task])
    for one in rig.fmp:
        if one._process is None:
            await one.start()


async def _follower(rig: Rig) -> ClusterNode:
    leads = {await rig.cluster.leader(rig.bus, name) for name in (NEWS, PRICES)}
    return next(node for node in rig.cluster.nodes if node not in leads)


@asynccontextmanager
async def nats_node_down(rig: Rig) -> AsyncIterator[None]:
    node = await _follower(rig)
    await node.stop()
    yield
    await rig.cluster.start()


@asynccontextmanager
async def nats_down(rig: Rig) -> AsyncIterator[None]:
    await rig.cluster.stop()
    yield
    await rig.cluster.start()


@asynccontextmanager
async def news_backlog(rig: Rig) -> AsyncIterator[None]:
    js = rig.bus.nc.jetstream()
    await js.update_stream(news_config(["epoch.*"]))
    yield
    await js.update_stream(news_config([subjects.ALL_NEWS, "epoch.*"]))


@asynccontextmanager
async def disk_nearly_full(rig: Rig) -> AsyncIterator[None]:
    js = rig.bus.nc.jetstream()
    await js.add_stream(StreamConfig(name="FILLER", subjects=["filler"]))
    block = bytes(900_000)
    for _ in range(510):
        await js.publish("filler", block)
    yield
    await js.delete_stream("FILLER")


@asynccontextmanager
async def slow_clients(rig: Rig) -> AsyncIterator[None]:
    request = {"action": "subscribe", "symbols": ["BTCUSD", "ETHUSD", "SOLUSD"]}
    async with AsyncExitStack() as stack:
        for _ in range(60):
            client = await stack.enter_async_context(raw_socket(rig.edge_port))
            await client.upgrade()
            client.stop_reading()
            await client.send(text_frame(json.dumps(request)))
        yield


@asynccontextmanager
async def edge_lag(rig: Rig) -> AsyncIterator[None]:
    async def hold_up() -> None:
        while True:
            rig.edge.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.6)
            rig.edge.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(2.0)

    task = asyncio.create_task(hold_up(), name="hold_up")
    yield
    task.cancel()
    await asyncio.wait([task])
    rig.edge.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def edge_down(rig: Rig) -> AsyncIterator[None]:
    await rig.edge.stop(signal.SIGKILL)
    yield
    await rig.edge.start()


@asynccontextmanager
async def certificate_ends(rig: Rig) -> AsyncIterator[None]:
    write_certificate(rig.certificate, 2)
    yield
    write_certificate(rig.certificate, 90)


def _fault(name: str, what: str, right: str, broken: Break, *also: str) -> Fault:
    return Fault(name, what, f"Feedmesh{right}", frozenset(also), broken)


FAULTS = [
    _fault("mute", "FMP sends heartbeats and no data", "UpstreamMute", upstream_mute),
    _fault("rate", "FMP sends 3 % of the usual rate", "RateDegraded", degraded_rate),
    _fault("link", "FMP refuses every connection", "LinkDown", link_down),
    _fault("letters", "a fifth of FMP's frames is broken", "DeadLetters", dead_letters),
    _fault(
        "ingest",
        "both replicas of ingest-fmp are killed",
        "IngestDead",
        ingest_dead,
        FRESHNESS,
    ),
    _fault(
        "flapping",
        "whoever leads is killed, again and again",
        "LeadershipFlapping",
        flapping,
        FRESHNESS,
    ),
    _fault("node", "one of three servers is killed", "NatsNodeDown", nats_node_down),
    _fault("nats", "all three servers are killed", "NatsDown", nats_down, FRESHNESS),
    _fault(
        "backlog", "the stream takes no news", "NewsBacklog", news_backlog, FRESHNESS
    ),
    _fault("disk", "other data fill the storage", "DiskNearlyFull", disk_nearly_full),
    _fault("slow", "60 clients do not read", "SlowClients", slow_clients),
    _fault("lag", "the edge is paused again and again", "EdgeLag", edge_lag),
    _fault(
        "edge",
        "the only edge is killed",
        "EdgesDown",
        edge_down,
        AVAILABILITY,
        FRESHNESS,
    ),
    _fault(
        "certificate",
        "a certificate ends in two days",
        "CertificateExpiring",
        certificate_ends,
    ),
]
