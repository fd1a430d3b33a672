"""Wire the parts of the edge together, and take them apart in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry

from edge.app import build_app
from edge.clients.chores import Chores
from edge.clients.outlet import EdgeProtocol
from edge.clients.registry import Clients
from edge.clients.sender import Flusher
from edge.door.admission import Admission
from edge.door.doorway import open_doorway
from edge.door.gate import Authenticator, authenticator
from edge.gap_board import GapBoard
from edge.metrics import EdgeMetrics
from edge.news.log import BusNewsStream, NewsLog
from edge.parts import EdgeParts
from edge.prices.bridge import PriceBridge
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lines import PriceLines
from edge.prices.tape import PriceTape
from edge.rest.freshness import GRACE_SECONDS, Freshness
from edge.settings import Settings
from edge.status_board import StatusBoard
from feedmesh.bus import Bus, connect_bus, second_bus
from feedmesh.demand import DemandAnnouncer
from feedmesh.doctor import StreamGate
from feedmesh.metrics import BusMetrics
from feedmesh.ops import Readiness, serve, serve_ops
from feedmesh.service import bind, job_group, run_service, unless_stopped
from feedmesh.streams import SERVED


logger = logging.getLogger(__name__)

_TEND_SECONDS = 1.0
_SEND_BUFFER = 128 * 1024


@dataclass
class _Phase:
    """Why the edge is not ready; empty while it is."""

    problems: dict[str, str] = field(default_factory=dict)

    def note(self, about: str, problem: str | None) -> None:
        if problem is None:
            self.problems.pop(about, None)
        else:
            self.problems[about] = problem

    def check(self) -> str | None:
        return "; ".join(self.problems.values()) or None


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Run the edge until *stop* is set."""
    registry = CollectorRegistry()
    phase = _Phase({"start": "starting"})
    auth = authenticator(settings, registry)
    async with AsyncExitStack() as stack:
        listener = bind(settings.edge_host, settings.edge_port, "EDGE_PORT")
        stack.callback(listener.close)
        # Accepted sockets inherit it. Left alone, the kernel takes megabytes for a
        # client that does not read before anybody notices.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        ops_listener = bind(settings.ops_host, settings.ops_port, "OPS_PORT")
        readiness = Readiness({"edge": phase.check})
        await stack.enter_async_context(serve_ops(ops_listener, registry, readiness))
        # Several edges may share a name; their announcements must not mix.
        name = f"{settings.edge_name}-{uuid.uuid4().hex[:8]}"
        bus = await unless_stopped(
            stop, stack.enter_async_context(connect_bus(settings, f"edge-{name}"))
        )
        edge = _Edge(settings, bus, registry, phase, name, auth)
        finished = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(edge.run_jobs(finished), name="jobs")
            await unless_stopped(stop, edge.warm())
            app = build_app(edge.parts)
            server = serve(
                app,
                listener,
                http=open_doorway(settings, edge.parts.metrics, app),
                ws=EdgeProtocol,
                ws_max_size=settings.edge_max_message,
                ws_ping_interval=settings.edge_ping,
                ws_ping_timeout=settings.edge_ping,
                ws_per_message_deflate=False,
                lifespan="off",
                server_header=False,
            )
            async with server:
                phase.problems.clear()
                edge.note_streams()
                logger.info(
                    "clients are served", extra=_address(listener.getsockname())
                )
                await stop.wait()
                phase.problems["stop"] = "stopping"
                edge.parts.admission.close()
                await edge.parts.clients.send_away(settings.edge_drain)
            finished.set()


class _Edge:
    """The parts of one edge and the jobs that keep them going."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        registry: CollectorRegistry,
        phase: _Phase,
        name: str,
        auth: Authenticator | None,
    ) -> None:
        self._bus = bus
        self._phase = phase
        self._bus_metrics = BusMetrics(registry)
        self._streams = StreamGate(bus, *SERVED)
        metrics = EdgeMetrics(registry)
        cache = PriceCache()
        tape = PriceTape(settings.edge_history)
        flusher = Flusher()
        flusher.meter.take = metrics.write_latency.take
        clients = Clients(metrics)
        # The announcer asks the hub, and the hub wakes the announcer.
        self._announcer = DemandAnnouncer(bus, name, lambda: self.parts.hub.symbols)
        hub = PriceHub(cache, flusher, metrics, self._announcer.changed)
        self._lines = PriceLines(bus, second_bus(settings, f"edge-{name}", bus))
        self._bridge = PriceBridge(self._lines, cache, tape, hub, metrics)
        self.parts = EdgeParts(
            settings=settings,
            bus=bus,
            cache=cache,
            tape=tape,
            hub=hub,
            news=NewsLog(BusNewsStream(bus), metrics, settings.edge_replay),
            status=StatusBoard(bus),
            gaps=GapBoard(),
            flusher=flusher,
            chores=Chores(),
            clients=clients,
            admission=Admission(
                metrics,
                settings.edge_max_clients,
                settings.edge_origins,
                lambda: len(clients),
            ),
            freshness=Freshness(lambda: bus.connected, lambda: self._bridge.current),
            metrics=metrics,
            problems=lambda: dict(phase.problems),
            auth=auth,
        )
        if bus.tracer is not None:
            self.parts.news.advanced = bus.tracer.handed_on
            flusher.meter.passed = bus.tracer.written

    async def warm(self) -> None:
        """Wait until the caches hold what the streams held at the start."""
        await self._bridge.warm.wait()
        await self.parts.news.warm.wait()

    def note_streams(self) -> None:
        """Note what is wrong with the streams, or not known yet."""
        self._phase.note("streams", self._streams.problem())

    async def run_jobs(self, finished: asyncio.Event) -> None:
        """Run everything but the server until *finished* is set."""
        await job_group(
            finished,
            prices=self._bridge.run,
            lines=self._lines.run,
            news=partial(self.parts.news.run, self._bus),
            status=self.parts.status.run,
            gaps=partial(self.parts.gaps.run, self._bus),
            demand=self._announcer.run,
            chores=self.parts.chores.run,
            streams=self._streams.run,
            tend=self._tend,
        )

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            self.parts.clients.tend(self.parts.settings.edge_stuck)
            self.parts.status.tell_changes()
            if self.parts.auth is not None:
                self.parts.auth.refresh()
            self._count()
            away = self.parts.freshness.away()
            # A short outage of NATS must not make every edge unready at once: clients
            # would have nowhere to go, and the cache still answers.
            long_away = away is not None and away > GRACE_SECONDS
            self._phase.note("nats", "NATS is away" if long_away else None)
            self.note_streams()
            self._bus_metrics.show(self._bus)

    def _count(self) -> None:
        self._bridge.count()
        metrics, flusher = self.parts.metrics, self.parts.flusher
        metrics.frames.inc(flusher.pieces)
        metrics.conflated.inc(flusher.conflated)
        metrics.bytes.inc(flusher.bytes)
        metrics.writes.inc(flusher.writes)
        flusher.pieces = flusher.conflated = flusher.bytes = flusher.writes = 0
        metrics.queue.labels("writes").set(len(flusher))
        metrics.queue.labels("chores").set(len(self.parts.chores))
        metrics.subscriptions.labels("prices").set(self.parts.hub.subscriptions)
        self.parts.news.count()
        for feed, status in self.parts.status.feeds().items():
            heard = 0 if status.state == "unknown" else 1
            metrics.feed_heard.labels(feed).set(heard)
        metrics.cached.set(len(self.parts.cache))
        metrics.price_servers.set(self._lines.servers)


def _address(name: tuple[str, int]) -> dict[str, object]:
    return {"host": name[0], "port": name[1]}


if __name__ == "__main__":
    run_service("edge", Settings, main)
