"""
Everything runs for an hour, and every 30 seconds something fails: ``make soak``.

Three nodes, two replicas of both ingests, two edges and their clients. No ingest is
killed, nor is the second edge, so that it can be seen whether they grow: memory as a
slope, and what must be as it was once all is quiet again. The negative controls are a
service that leaks, looked at in the same way, and a client that does not resume, which
reads beside the others. ``SOAK_MINUTES`` makes it shorter.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faults.cluster import Cluster, run_cluster
from faults.identity import unaccounted
from faults.processes import paused
from faults.proxy import FaultProxy, run_proxy
from faults.readers import NewsReader
from faults.results import record, slope
from mesh import Simulator, free_block, start_simulator
from processes import ServiceProcess, plain_http
from who_leads import last_of

from feedmesh.bus import Bus
from feedmesh.messages import decode_head
from feedmesh.news import decode_news
from feedmesh.stored import read_from
from feedmesh.streams import NEWS


MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
BETWEEN_SECONDS = 30.0
QUIET_SECONDS = 20.0
# In which an ingest that has connected ten times may not connect once more.
LIMIT_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
# A request of a moment is a task and a subscription, too.
LOOKS = 10
READERS = 20
# Who goes to the edge that is to die, before it does.
TRAVELLERS = 10
SYMBOLS = "AAPL,MSFT,NVDA,GOOGL,AMZN,META,TSLA,JPM,V,BTCUSD,ETHUSD,EURUSD,USDJPY"
NEWS_A_MINUTE = 300
# More items than any memory of news holds, so that all are full when the hour begins:
# 4,000 at the edge; 20,000 ids at ingest-ls, and as many titles, of which half repeat.
FILL, FILL_PER_SECOND = 45_000, 2000
SMALL = {"EDGE_HISTORY": "5000", "EDGE_REPLAY": "500"}
EDGES = ("dies", "stays")
# Below that, a slope says nothing.
SLOPE_MINUTES = 30.0
# Scrapes and the clients of the test come and go.
SPARE_DESCRIPTORS = 4
COUNTED = ("descriptors", "tasks", "subscriptions")
LEAKY = "leaky"

pytestmark = pytest.mark.timeout(60 * MINUTES + 600)

Fault = Callable[[], Awaitable[None]]


@dataclass
class Soak:
    """Everything that runs, and what was seen of it."""

    cluster: Cluster
    bus: Bus
    simulator: Simulator
    proxies: list[FaultProxy]
    replicas: dict[str, list[ServiceProcess]] = field(default_factory=dict)
    edges: list[ServiceProcess] = field(default_factory=list)
    edge_urls: list[str] = field(default_factory=list)
    travellers: list[NewsReader] = field(default_factory=list)
    leaky: ServiceProcess | None = None
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    # Of that, what is no file: a library is read when its code is first needed.
    anonymous: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def lasting(self) -> dict[str, ServiceProcess]:
        """The processes that nothing kills, by a name of their own."""
        found = {
            f"{module} {number}": replica
            for module, replicas in self.replicas.items()
            for number, replica in enumerate(replicas)
        }
        if self.leaky is not None:
            found[LEAKY] = self.leaky
        return found | {"edge": self.edges[1]}

    async def fill(self) -> None:
        """Have more news than is kept in memory, and wait until all of it is stored."""
        async with asyncio.timeout(20 * FILL / FILL_PER_SECOND):
            while (missing := FILL - await self.stored_items()) > 0:
                # A burst ends with its link, which a busy machine may lose.
                await self.simulator.call(
                    *("POST", "/fault"),
                    target="ls.ws",
                    kind="burst",
                    count=missing,
                    per_second=FILL_PER_SECOND,
                    what="news",
                )
                await asyncio.sleep(1 + 2 * missing / FILL_PER_SECOND)

    async def stored_items(self) -> int:
        """Return how many items of news the stream has acknowledged, without copies."""
        name = "feedmesh_ingest_published_total"
        counts = [await r.metric(name, kind="news") for r in self.replicas["ingest_ls"]]
        return int(sum(counts))

    async def node_dies(self, number: int) -> None:
        node = self.cluster.nodes[number % 3]
        await node.stop()
        await asyncio.sleep(1)
        await node.start()
        await self.cluster.healthy()

    async def node_sleeps(self, number: int) -> None:
        async with self.cluster.nodes[number % 3].paused():
            await asyncio.sleep(4)
        await self.cluster.healthy()

    async def links_are_reset(self, number: int) -> None:
        for proxy in self.proxies:
            proxy.reset()

    async def links_are_dead(self, number: int) -> None:
        for proxy in self.proxies:
            proxy.set(black_hole=True)
        await asyncio.sleep(12)
        for proxy in self.proxies:
            proxy.heal()

    async def leaders_sleep(self, number: int) -> None:
        for replicas in self.replicas.values():
            for replica in replicas:
                if last_of(replica, "leading", "standing by") == "leading":
                    async with paused(replica.process.pid):
                        await asyncio.sleep(2)
                    break

    async def edge_dies(self, number: int) -> None:
        async with asyncio.timeout(30):
            while any(reader.at != 0 for reader in self.travellers):
                for reader in self.travellers:
                    if reader.at == 1:
                        await reader.move()
                await asyncio.sleep(0.1)
        await self.edges[0].stop(signal.SIGKILL)
        await self.edges[0].start()
        await self.edges[0].event("clients are served")

    async def sample(self) -> None:
        """Note how much memory each process has, for ever."""
        now = asyncio.get_running_loop().time
        while True:
            for name, service in self.lasting.items():
                status = Path(f"/proc/{service.process.pid}/status").read_text()
                for kind, seen in ("VmRSS", self.memory), ("RssAnon", self.anonymous):
                    (kib,) = re.findall(rf"^{kind}:\s+(\d+) kB$", status, re.MULTILINE)
                    seen.setdefault(name, []).append((now() / 3600, int(kib) / 1024))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def held(self) -> dict[str, int]:
        """Return what each service holds at least, of what comes and goes."""
        looks = []
        for _ in range(LOOKS):
            looks.append(await self._holds())
            await asyncio.sleep(0.7)
        return {name: min(look.get(name, 0) for look in looks) for name in looks[0]}

    async def _holds(self) -> dict[str, int]:
        """Return descriptors, tasks and subscriptions, by service."""
        found: dict[str, int] = {}

        def add(name: str, count: int) -> None:
            # Of both replicas together: who leads has more of everything.
            found[name] = found.get(name, 0) + count

        for name, service in self.lasting.items():
            descriptors = os.listdir(f"/proc/{service.process.pid}/fd")
            add(f"{name.split()[0]} descriptors", len(descriptors))
            tasks = await service.metric("feedmesh_tasks")
            add(f"{name.split()[0]} tasks", int(tasks))
        async with plain_http() as http:
            for node in self.cluster.nodes:
                url = f"{node.plan.monitor_url}/connz?limit=1000"
                for connection in (await http.get(url)).json()["connections"]:
                    name = connection["name"]
                    # Anew each time, it has what was needed since it last died.
                    if not name.startswith(f"edge-{EDGES[0]}-"):
                        who = name.split("-")[0]
                        add(f"{who} subscriptions", connection["subscriptions"])
        return found


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Soak]:
    """Run everything while the context is open."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(run_cluster(folder))
        bus = await stack.enter_async_context(cluster.bus())
        simulator = await start_simulator(
            stack,
            "--rate",
            "200",
            "--news-rate",
            str(NEWS_A_MINUTE),
            "--fmp-slot",
            "kick_old",
        )
        soak = Soak(cluster, bus, simulator, [])

        async def through_proxy(name: str) -> str:
            url = urlsplit(simulator.urls[name])
            proxy = await stack.enter_async_context(run_proxy(url.port or 0))
            soak.proxies.append(proxy)
            return url._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()

        async def start(module: str, **env: str) -> ServiceProcess:
            common = {"NATS_URL": cluster.url, "OPS_PORT": "0"}
            service = ServiceProcess(module, common | env)
            await service.start()
            stack.push_async_callback(service.stop, signal.SIGKILL)
            return service

        upstream = {
            "ingest_fmp": {
                f"FMP_{kind.upper()}_URL": await through_proxy(f"fmp_{kind}_url")
                for kind in ("stocks", "crypto", "forex")
            }
            | {"FMP_SYMBOLS": SYMBOLS, "FMP_PING": "3s"},
            "ingest_ls": {
                "LS_REST_URL": simulator.urls["ls_rest_url"],
                "LS_WS_URL": await through_proxy("ls_ws_url"),
            },
        }
        for module, env in upstream.items():
            soak.replicas[module] = [await start(module, **env) for _ in range(2)]
        base = free_block(len(EDGES))
        for port, name in enumerate(EDGES, base):
            edge = await start("edge", EDGE_PORT=str(port), EDGE_NAME=name, **SMALL)
            soak.edges.append(edge)
            soak.edge_urls.append(f"ws://127.0.0.1:{port}/api/v3/stream")
        tests = str(Path(__file__).parents[1])
        soak.leaky = await start("leaky_service", PYTHONPATH=tests)
        for service in (*soak.lasting.values(), *soak.edges):
            await service.ready(60)
        yield soak


async def test_an_hour_of_faults_leaves_everything_as_it_was(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with running(tmp_path) as soak, asyncio.TaskGroup() as group:
        readers = [NewsReader(soak.edge_urls, 1) for _ in range(READERS)]
        careless = NewsReader(soak.edge_urls, 1, resumes=False)
        soak.travellers = [*readers[:TRAVELLERS], careless]
        tasks = [group.create_task(each.run()) for each in (*readers, careless)]
        tasks.append(group.create_task(soak.sample()))
        async with asyncio.timeout(60):
            while not all(reader.heard for reader in readers):
                await asyncio.sleep(0.1)
        await soak.fill()
        kinds = (
            *(soak.node_dies, soak.links_are_reset, soak.leaders_sleep),
            *(soak.edge_dies, soak.node_sleeps, soak.links_are_dead),
        )
        # What is made when it is needed first, such as what requests over an edge's
        # second connection take, is there once each fault has happened to each node.
        for number in range(len(soak.cluster.nodes)):
            for fault in kinds:
                await fault(number)
        await asyncio.sleep(LIMIT_SECONDS + QUIET_SECONDS)
        before = await soak.held()
        ends = loop.time() + 60 * MINUTES
        faults = 0
        for fault in itertools.cycle(kinds):
            due = loop.time() + BETWEEN_SECONDS
            if due > ends:
                break
            await fault(faults)
            faults += 1
            await asyncio.sleep(max(0.0, due - loop.time()))
        await asyncio.sleep(2 * QUIET_SECONDS)
        after = await soak.held()
        await soak.simulator.call("POST", "/generate", prices=False, news=False)
        ingests = [r for replicas in soak.replicas.values() for r in replicas]
        unaccounted_events = await unaccounted(*ingests)
        acknowledged = await soak.stored_items()
        stored = await stored_news(soak.bus)
        async with asyncio.timeout(60):
            while any(reader.heard[-1] != stored[-1] for reader in readers):
                await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()

    slopes = {name: slope(second_half(points)) for name, points in soak.memory.items()}
    leaked_mib = slopes.pop(LEAKY)
    worst = max(slopes, key=lambda name: slopes[name])
    changes = {n: after.get(n, 0) - before.get(n, 0) for n in before | after}
    leaked = [changes.pop(f"{LEAKY} {what}") for what in COUNTED]
    record(
        "soak, a fault every 30 s",
        {
            "minutes": MINUTES,
            "faults": faults,
            "news": len(stored),
            "news_acknowledged_and_lost": acknowledged - len(stored),
            "news_duplicated": len(stored) - len(set(stored)),
            "resumed": sum(len(reader.resumed_at) for reader in readers),
            "not_recovered": sum(reader.holes for reader in readers),
            "news_missed_by_clients": sum(missed(r, stored) for r in readers),
            "unaccounted_events": unaccounted_events,
            "memory_slope_mib_per_h": round(slopes[worst], 2),
            "memory_slope_of": worst,
            "memory_slopes": ", ".join(f"{n} {slopes[n]:.1f}" for n in sorted(slopes)),
            "memory_mib_of_it": course(soak.memory[worst]),
            "memory_mib_of_it_without_files": course(soak.anonymous[worst]),
            **{f"more_{what}": most(changes, what) for what in COUNTED},
            "more_of": ", ".join(f"{n} {name}" for name, n in changes.items() if n > 0),
            "control_missed": missed(careless, stored),
            "control_leaked_at_least": min(leaked),
            "control_memory_slope_mib_per_h": round(leaked_mib, 2),
        },
        at_most={
            "news_acknowledged_and_lost": 0,
            "news_duplicated": 0,
            "not_recovered": 0,
            "news_missed_by_clients": 0,
            "unaccounted_events": 0,
            "more_descriptors": SPARE_DESCRIPTORS,
            "more_tasks": 0,
            "more_subscriptions": 0,
        }
        | ({"memory_slope_mib_per_h": 1} if MINUTES >= SLOPE_MINUTES else {}),
        at_least={
            "faults": 2 * MINUTES - 2,
            # To the edge that dies, and back.
            "resumed": 2 * TRAVELLERS * (faults // len(kinds)),
            "control_missed": 1,
            "control_leaked_at_least": SPARE_DESCRIPTORS + 1,
        }
        | ({"control_memory_slope_mib_per_h": 2} if MINUTES >= SLOPE_MINUTES else {}),
    )


def missed(reader: NewsReader, stored: list[str]) -> int:
    """Return how many of the items since its first one *reader* has not heard."""
    return len(set(stored[stored.index(reader.heard[0]) :]) - set(reader.heard))


def most(grown: dict[str, int], what: str) -> int:
    return max(count for name, count in grown.items() if name.endswith(what))


def second_half(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what was seen after the caches had filled."""
    return points[len(points) // 2 :]


def course(points: list[tuple[float, float]]) -> str:
    """Return what was seen from each twelfth to the next."""
    twelfths = [points[n * (len(points) - 1) // 12] for n in range(13)]
    return " ".join(f"{mib:.1f}" for _, mib in twelfths)


async def stored_news(bus: Bus) -> list[str]:
    return [
        decode_news(decode_head(message.payload)[1]).realkey
        async for message in read_from(bus, NEWS, 1, "news.*")
    ]
