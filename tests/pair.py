"""Two replicas of one ingest as real processes, and a load that keeps its books."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from mesh import Simulator, start_simulator
from nats_process import NatsProcess, open_bus, run_nats
from processes import ServiceProcess, plain_http
from verdict import Sent
from who_leads import first_to_lead, last_of, running, stepped_down

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import from_iso
from feedmesh.errors import BusError
from feedmesh.gaps import FeedGap, read_gaps
from feedmesh.ingest.accounting import Accounts, accounts_of
from feedmesh.messages import decode_head
from feedmesh.news import decode_news
from feedmesh.stored import read_from
from feedmesh.streams import NEWS


NEWS_KEY = "NWS:NWS001"


class Stored(NamedTuple):
    """An item in the stream: when it came and left, in ns, and by which writer."""

    realkey: str
    received_ns: int
    published_ns: int
    epoch: int
    sequence: int


class Pair:
    """
    Two replicas, their upstream and their NATS.

    Attributes:
        replicas: Both, the one that was started first in front.
        nats: Their server, where it is a single one.
    """

    nats: NatsProcess

    def __init__(self, module: str, bus: Bus, simulator: Simulator) -> None:
        self.module = module
        self.bus = bus
        self.simulator = simulator
        self.replicas: list[ServiceProcess] = []
        self._ended_ms: list[float] = []
        self._exit_codes: dict[ServiceProcess, int] = {}
        self._stepped_down = 0

    async def leader(self, seconds: float = 30.0) -> ServiceProcess:
        """Return the replica that leads, once one does and its link is up."""
        return (await first_to_lead(self.replicas, seconds))[0]

    def other(self, replica: ServiceProcess) -> ServiceProcess:
        """Return the replica that is not *replica*."""
        first, second = self.replicas
        return second if replica is first else first

    async def end(self, leader: ServiceProcess, number: signal.Signals) -> int:
        """Send *number* to *leader*, and return its exit code once it has ended."""
        self._ended_ms.append(time.time() * 1000)
        self._exit_codes[leader] = await leader.stop(number)
        return self._exit_codes[leader]

    def tell(self) -> None:
        """Print all that is known of each replica, for whoever looks into a failure."""
        for number, replica in enumerate(self.replicas):
            state = "running"
            if not running(replica):
                known = self._exit_codes.get(replica)
                code = replica._process.returncode if replica._process else known
                state = f"ended with {code}"
            lines = replica.lines
            print(f"{self.module} {number}, {state}:", *lines, sep="\n", flush=True)

    async def restart(self, replica: ServiceProcess) -> None:
        """Start a replica that has ended; it stands by when this returns."""
        # Its lines are gone then.
        self._stepped_down += stepped_down(replica)
        await replica.start()
        async with asyncio.timeout(30):
            # On a machine with too little time, the leader may fall silent meanwhile.
            while last_of(replica, "standing by", "leading") is None:
                await asyncio.sleep(0.01)

    async def connections_allowed(self) -> int:
        """
        Return how many connections at once are no fault of ours: 1, or 2.

        A leader that is starved of time falls silent, and is overtaken while it is
        still connected. It says so; or else, if it was ended before it could, there is
        a claim before which nobody had ended.
        """
        overtaken = self._stepped_down + sum(map(stepped_down, self.replicas))
        claims = [claim async for _, claim in self._claims()]
        unprovoked = any(
            not any(before <= ended <= claim for ended in self._ended_ms)
            for before, claim in itertools.pairwise(claims)
        )
        return 2 if overtaken or unprovoked else 1

    async def stats(self, target: str) -> dict[str, Any]:
        """Return what the simulator tells of *target*."""
        found: dict[str, Any] = (await self.simulator.call("GET", "/stats"))["targets"][
            target
        ]
        return found

    async def registered(self, seconds: float = 30.0) -> None:
        """Wait until news flow to somebody."""
        async with asyncio.timeout(seconds):
            while NEWS_KEY not in (await self.stats("ls.ws"))["subscribed"]:
                await asyncio.sleep(0.005)

    async def stored(self) -> list[Stored]:
        """Return all stored items in order."""
        found = []
        async for message in read_from(self.bus, NEWS, 1, "news.*"):
            head, frame = decode_head(message.payload)
            found.append(
                Stored(
                    decode_news(frame).realkey,
                    from_iso(head.received_at),
                    from_iso(head.published_at),
                    head.epoch,
                    message.sequence,
                )
            )
        return found

    async def stale(self) -> int:
        """Return how many items lie behind the claim of a later writer."""
        claims = [claim async for claim in self._claims()]
        return sum(
            item.epoch < max(epoch for at, epoch in claims if at < item.sequence)
            for item in await self.stored()
        )

    async def _claims(self) -> AsyncIterator[tuple[int, int]]:
        """Yield where in the stream each claim lies, and its epoch, in ms."""
        # Those of another feed are there, too.
        feed = self.module.rpartition("_")[2]
        async for message in read_from(self.bus, NEWS, 1, subjects.epoch(feed)):
            yield message.sequence, json.loads(message.payload)["epoch"]

    async def gaps(self) -> list[FeedGap]:
        """Return the gaps, in the order in which they began."""
        try:
            last = {stored.gap.id: stored.gap async for stored in read_gaps(self.bus)}
        except BusError:
            return []
        return list(last.values())

    async def accounts(self, replica: ServiceProcess) -> Accounts:
        """Return what became of all that *replica* received, once nothing waits."""
        ops = await replica.ops()
        async with plain_http() as http:
            for _ in range(100):
                accounts = accounts_of((await http.get(f"{ops}/metrics")).text)
                if accounts.waiting == 0 and accounts.missing == 0:
                    return accounts
                await asyncio.sleep(0.2)
            text = (await http.get(f"{ops}/metrics")).text
        counters = [line for line in text.splitlines() if "_total{" in line]
        raise AssertionError("\n".join([str(accounts), *counters, *replica.lines]))


class NewsLoad:
    """
    Sends numbered items through the simulator and notes which found a connection.

    *evenly* has each go out by itself, which a gap of milliseconds needs to be seen;
    else they come in bursts, twenty milliseconds apart.
    """

    def __init__(self, pair: Pair, per_second: int, *, evenly: bool = False) -> None:
        self._pair = pair
        self._rate = per_second
        self._evenly = evenly
        self._number = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sent: list[Sent] = []
        self.unheard = 0

    async def __aenter__(self) -> NewsLoad:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        url = self._pair.simulator.urls["control_url"]
        async with plain_http(base_url=url) as http:
            began = time.monotonic()
            while not self._stop.is_set():
                owed = int((time.monotonic() - began) * self._rate) - self._number
                await self._send(http, min(owed, 500))
                if not self._evenly or owed <= 0:
                    await asyncio.sleep(0.01)

    async def _send(self, http: httpx.AsyncClient, count: int) -> None:
        if count <= 0:
            return
        keys = [f"20260715{self._number + i:016}" for i in range(count)]
        self._number += count
        frames = [news_frame(key) for key in keys]
        order: dict[str, Any] = {"target": "ls.ws", "frames": frames}
        before = time.time_ns()
        if self._evenly:
            # In less time than they took to fall due, or ever more would.
            order["seconds"] = 0.8 * count / self._rate
            answer = await http.post("/inject/evenly", json=order)
            reached = answer.json()["connections"]
        else:
            answer = await http.post("/inject", json=order)
            reached = [answer.json()["connections"]] * count
        after = time.time_ns()
        heard = [key for key, to in zip(keys, reached, strict=True) if to]
        self.sent.extend(Sent(key, before, after) for key in heard)
        self.unheard += count - len(heard)


def news_frame(realkey: str) -> dict[str, Any]:
    """Return an item that no other resembles."""
    body = {
        "date": "20260715",
        "time": "090130",
        "id": "23",
        "realkey": realkey,
        "title": f"기사 {realkey}",
        "code": "000000005930",
        "bodysize": "1",
    }
    return {"header": {"tr_cd": "NWS", "tr_key": "NWS001"}, "body": body}


@asynccontextmanager
async def run_pair(
    folder: Path,
    module: str = "ingest_ls",
    *arguments: str,
    count: int = 2,
    spool: bool = True,
    **env: str,
) -> AsyncIterator[Pair]:
    """Run a server and *count* replicas of *module* while the context is open."""
    async with (
        run_nats(folder / "nats") as nats,
        open_bus(nats) as bus,
        run_replicas(
            folder, bus, nats.url, module, *arguments, count=count, spool=spool, **env
        ) as pair,
    ):
        pair.nats = nats
        yield pair


@asynccontextmanager
async def run_replicas(
    folder: Path,
    bus: Bus,
    nats_url: str,
    module: str = "ingest_ls",
    *arguments: str,
    count: int = 2,
    spool: bool = True,
    **env: str,
) -> AsyncIterator[Pair]:
    """Run *count* replicas of *module* on a NATS that is there."""
    async with AsyncExitStack() as stack:
        simulator = await start_simulator(stack, *arguments)
        pair = Pair(module, bus, simulator)
        urls = simulator.urls
        upstream = {
            "ingest_ls": {
                "LS_REST_URL": urls["ls_rest_url"],
                "LS_WS_URL": urls["ls_ws_url"],
            },
            "ingest_fmp": {
                "FMP_STOCKS_URL": urls["fmp_stocks_url"],
                "FMP_CRYPTO_URL": urls["fmp_crypto_url"],
                "FMP_FOREX_URL": urls["fmp_forex_url"],
            },
        }[module.removeprefix("unaware_")]
        for number in range(count):
            own = {"NATS_URL": nats_url, "OPS_PORT": "0", **upstream, **env}
            own["PYTHONPATH"] = str(Path(__file__).parent)
            if spool and module.endswith("ingest_ls"):
                own["LS_SPOOL_DIR"] = str(folder / f"spool-{number}")
            replica = ServiceProcess(module, own)
            pair.replicas.append(replica)
            stack.push_async_callback(_end, replica)
            await replica.start()
            await replica.event("standing by" if number else "link is up")
        try:
            yield pair
        except BaseException:
            pair.tell()
            raise


async def _end(replica: ServiceProcess) -> None:
    if running(replica):
        replica.process.send_signal(signal.SIGCONT)
        await replica.stop(signal.SIGKILL)
