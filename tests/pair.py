"""Two replicas of one ingest as real processes, and a load that keeps its books."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from mesh import Simulator, start_simulator
from nats_process import NatsProcess, open_bus, run_nats
from processes import ServiceProcess, plain_http

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
_LOOK_SECONDS = 0.005
# What a process tells is asked of it, too, but not so often that it is kept from work.
_ASK_SECONDS = 0.5
# A log has no more than sixty lines a minute.
_LINES_A_MINUTE = 50
_LEADING = re.compile(
    r'"event": "(leading|standing by|another leads; stepping down|link is up)"'
)


class Sent(NamedTuple):
    """An item that the upstream wrote to a connection, and when, in ns."""

    realkey: str
    before_ns: int
    after_ns: int


class Stored(NamedTuple):
    """An item in the stream: when it was received, in ns, and by which writer."""

    realkey: str
    received_ns: int
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
        self._stepped_down += _stepped_down(replica)
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
        stepped_down = self._stepped_down + sum(map(_stepped_down, self.replicas))
        claims = [claim async for _, claim in self._claims()]
        unprovoked = any(
            not any(before <= ended <= claim for ended in self._ended_ms)
            for before, claim in itertools.pairwise(claims)
        )
        return 2 if stepped_down or unprovoked else 1

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
        async for message in read_from(self.bus, NEWS, 1, "epoch.*"):
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
    """Sends numbered items through the simulator and notes which found a connection."""

    def __init__(self, pair: Pair, per_second: int) -> None:
        self._pair = pair
        self._rate = per_second
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
                await asyncio.sleep(0.01)

    async def _send(self, http: httpx.AsyncClient, count: int) -> None:
        if count <= 0:
            return
        keys = [f"20260715{self._number + i:016}" for i in range(count)]
        self._number += count
        before = time.time_ns()
        frames = [news_frame(key) for key in keys]
        answer = await http.post("/inject", json={"target": "ls.ws", "frames": frames})
        after = time.time_ns()
        if answer.json()["connections"]:
            self.sent.extend(Sent(key, before, after) for key in keys)
        else:
            self.unheard += len(keys)


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


class Verdict(NamedTuple):
    """
    What a run has shown.

    Attributes:
        sent: Items that the upstream wrote to a connection.
        stored: Items in the stream.
        lost: Items that were sent, are not there, and lie in no gap.
        in_gaps: Items that were sent, are not there, and lie in a recorded gap.
        duplicated: Items that are there more than once.
        reordered: Items that stand behind one that was sent after them, and lie in no
            gap.
        late: The same, but in a recorded gap: what a replica that died had kept on
            disk comes when it is back.
    """

    sent: int
    stored: int
    lost: int
    in_gaps: int
    duplicated: int
    reordered: int
    late: int


def judge(sent: list[Sent], stored: list[str], gaps: list[FeedGap]) -> Verdict:
    """Compare what was sent with what is stored."""
    there = set(stored)
    times = [(from_iso(gap.since), _end_of(gap)) for gap in gaps]
    in_gaps = {
        item.realkey
        for item in sent
        if any(since <= item.before_ns <= until for since, until in times)
    }
    missing = {item.realkey for item in sent} - there
    behind = {b for a, b in itertools.pairwise(stored) if a > b}
    verdict = Verdict(
        sent=len(sent),
        stored=len(stored),
        lost=len(missing - in_gaps),
        in_gaps=len(missing & in_gaps),
        duplicated=len(stored) - len(there),
        reordered=len(behind - in_gaps),
        late=len(behind & in_gaps),
    )
    if verdict.lost:
        _tell_lost([item for item in sent if item.realkey in missing - in_gaps], times)
    return verdict


def _tell_lost(lost: list[Sent], times: list[tuple[int, int]]) -> None:
    def seconds(instant_ns: int) -> float:
        return round((instant_ns - lost[0].before_ns) / 1e9, 3)

    gaps = [[seconds(since), seconds(until)] for since, until in times]
    report("lost", until=seconds(lost[-1].after_ns), items=len(lost), gaps=gaps)


def within(gaps: Iterable[FeedGap], instant_ns: int) -> bool:
    """Return whether any of *gaps* covers *instant_ns*."""
    return any(from_iso(gap.since) <= instant_ns <= _end_of(gap) for gap in gaps)


def seconds_of(gap: FeedGap) -> float:
    """Return how long *gap* is, or has lasted until now."""
    return (_end_of(gap) - from_iso(gap.since)) / 1e9


def _end_of(gap: FeedGap) -> int:
    return time.time_ns() if gap.until is None else from_iso(gap.until)


def report(test: str, **figures: Any) -> None:
    """Print *figures* as one JSON line."""
    print(json.dumps({"test": test, **figures}), flush=True)


def quantile(values: list[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


def running(replica: ServiceProcess) -> bool:
    """Return whether the process is there."""
    return replica._process is not None and replica._process.returncode is None


async def first_to_lead(
    replicas: Sequence[ServiceProcess], seconds: float = 30.0
) -> tuple[ServiceProcess, float]:
    """
    Wait until one of *replicas* leads and its link is up.

    Return which, and when that was seen by the clock of the event loop: within
    milliseconds as its log tells, or within half a second where its log may not.
    """
    loop = asyncio.get_running_loop()
    asked = loop.time()
    end = asked + seconds
    while (now := loop.time()) < end:
        there = [replica for replica in replicas if running(replica)]
        for replica in there:
            if _log_says_leading(replica) and _log_is_whole(replica):
                return replica, now
        if now - asked >= _ASK_SECONDS:
            for replica in there:
                if await _asked(replica, "leader") and await _asked(replica, "link_up"):
                    return replica, loop.time()
            asked = loop.time()
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError(f"no replica led with its link up within {seconds:g} s")


async def until_standing_by(replica: ServiceProcess, seconds: float = 60.0) -> None:
    """Wait until a replica that runs does not lead, or does so no more."""
    loop = asyncio.get_running_loop()
    asked = loop.time()
    end = asked + seconds
    while loop.time() < end:
        stands_by = last_of(replica, "leading", "standing by") == "standing by"
        if stands_by and _log_is_whole(replica):
            return
        if loop.time() - asked >= _ASK_SECONDS:
            if await _asked(replica, "leader") == 0:
                return
            asked = loop.time()
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError(f"the replica went on leading for {seconds:g} s")


async def _asked(replica: ServiceProcess, name: str) -> float | None:
    """Return what the metric says, or None if the replica does not answer soon."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(2 * _ASK_SECONDS):
            return await replica.metric(f"feedmesh_ingest_{name}")
    return None


def _log_is_whole(replica: ServiceProcess) -> bool:
    """Return whether nothing of the last minute can have been held back."""
    if len(replica.lines) < _LINES_A_MINUTE:
        return True
    line = replica.lines[-_LINES_A_MINUTE]
    if not line.startswith("{"):
        return False
    told = datetime.fromisoformat(json.loads(line)["at"])
    return time.time() - told.timestamp() > 60


def _log_says_leading(replica: ServiceProcess) -> bool:
    found = set()
    # An heir connects before it leads.
    for line in reversed(replica.lines):
        if told := _LEADING.search(line):
            if told[1] not in ("leading", "link is up"):
                break
            found.add(told[1])
    return len(found) == 2


def said(replica: ServiceProcess, event: str) -> int:
    """Return how often the log tells *event*."""
    return sum(f'"event": "{event}"' in line for line in replica.lines)


def _stepped_down(replica: ServiceProcess) -> int:
    return said(replica, "another leads; stepping down")


def last_of(replica: ServiceProcess, *events: str) -> str | None:
    """Return which of *events* the log tells last."""
    for line in reversed(replica.lines):
        for event in events:
            if f'"event": "{event}"' in line:
                return event
    return None


async def until_said(
    replica: ServiceProcess, event: str, times: int, seconds: float = 30.0
) -> None:
    """Wait until the log tells *event* for the time *times*."""
    try:
        async with asyncio.timeout(seconds):
            while said(replica, event) < times:
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(
            f"not said: {event!r}\n" + "\n".join(replica.lines[-30:])
        ) from None


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
