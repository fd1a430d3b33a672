"""
Two replicas on three nodes: the leader is killed, paused, and asked to go.

What the upstream had written to a connection is in the stream, once and in order, or
lies in a time that a gap record names. Whatever happens to a leader, somebody soon
writes again.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from faults.cluster import Cluster, make_streams, run_cluster
from faults.identity import unaccounted
from faults.prices import PriceListener
from faults.processes import paused
from faults.results import Figure, percentile, record, scaled
from faults.turns import NewsRun, Turns
from nats.aio.msg import Msg
from pair import NewsLoad, Pair, run_replicas
from processes import ServiceProcess
from verdict import judge, seconds_of, within
from who_leads import first_to_lead, until_standing_by

from feedmesh.bus import Bus
from feedmesh.messages import decode_head
from feedmesh.stored import read_from
from feedmesh.streams import PRICES, definitions


KILLS = scaled(1, 50)
PLACES_KEPT = scaled(1, 20)
PLACE_KEPT_SECONDS = 2.0
PAUSES = scaled(1, 30)
HAND_OVERS = scaled(1, 50)
# A single kill may come when nothing is on its way.
LOSSES = scaled(0, 1)
PER_SECOND = scaled(500, 2000)
# A gap is only as fine as what comes; two cores bring no more than this evenly.
EVENLY_PER_SECOND = 500
CALM_SECONDS = 1.0
CALM_NS = 1_000_000_000
# Logs tell best when somebody led, and have no more than sixty lines a minute.
PAUSE_EVERY_SECONDS = scaled(1.0, 4.0)
# The second where the heir had not heard until when all was stored.
TAKEN_OVER = ("takeover", "restart")
FMP_LINKS = ("stocks", "crypto", "forex")
SYMBOLS = "AAPL,MSFT,NVDA,GOOGL,AMZN,META,TSLA,JPM,V,BTCUSD,ETHUSD,EURUSD,USDJPY"
# One for each of three links, every two milliseconds.
TICK_SECONDS = 0.002
PRICES_PER_SECOND = 1500
BALANCED_SYMBOLS = "AAPL,MSFT,NVDA,BTCUSD,ETHUSD,SOLUSD,EURUSD,USDJPY,GBPUSD"

pytestmark = [
    pytest.mark.timeout(scaled(240, 900)),
    pytest.mark.asyncio(loop_scope="module"),
]


class Nodes(NamedTuple):
    """Three nodes, and a connection to them."""

    cluster: Cluster
    bus: Bus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """Three nodes for all tests of this file, as each election takes seconds."""
    async with (
        run_cluster(tmp_path_factory.mktemp("nats")) as cluster,
        cluster.bus() as bus,
    ):
        yield Nodes(cluster, bus)


@asynccontextmanager
async def replicas(
    nodes: Nodes, folder: Path, module: str, *arguments: str, **env: str
) -> AsyncIterator[Pair]:
    """Run two replicas of *module* on streams that are new."""
    # Emptied, they would still know the ids of what was in them.
    for stream in definitions():
        await nodes.bus.nc.jetstream().delete_stream(str(stream.name))
    await make_streams(nodes.bus, len(nodes.cluster.nodes))
    bus, url = nodes.bus, nodes.cluster.url
    async with run_replicas(
        folder, bus, url, module, *arguments, count=2, spool=True, **env
    ) as pair:
        yield pair


async def kill(pair: Pair) -> float:
    """Kill the leader; return how long until the other one's link was up."""
    loop = asyncio.get_running_loop()
    leader = await pair.leader()
    killed = loop.time()
    await pair.end(leader, signal.SIGKILL)
    _, led = await first_to_lead(pair.replicas, 60)
    await pair.restart(leader)
    return led - killed


async def hand_over(pair: Pair) -> None:
    """Ask the leader to go; return when the other leads and the first one stands by."""
    leader = await pair.leader()
    assert await pair.end(leader, signal.SIGTERM) == 0
    await pair.leader(60)
    await pair.restart(leader)


async def only_one_connection(pair: Pair) -> None:
    """Have the upstream refuse whoever comes while somebody is connected."""
    await pair.simulator.call(
        "POST", "/fault", target="ls.ws", kind="socket_limit", limit=1
    )


async def test_news_of_one_connection_when_the_leader_is_killed(
    nodes: Nodes, tmp_path: Path
) -> None:
    async with replicas(nodes, tmp_path, "ingest_ls") as pair:
        await only_one_connection(pair)
        taken, killed = [], []
        async with NewsLoad(pair, PER_SECOND) as load:
            for _ in range(KILLS):
                await asyncio.sleep(CALM_SECONDS)
                killed.append(time.time_ns())
                taken.append(await kill(pair))
                await pair.registered()
            await asyncio.sleep(CALM_SECONDS)
        run = await NewsRun.of(pair, load)
        figures, bounds = await where_one_may_connect(run, pair)
    gaps = [gap for gap in run.gaps if gap.reason in TAKEN_OVER]
    lengths = [seconds_of(gap) for gap in gaps]
    record(
        "kill -9 of the ingest that leads, upstream allows one connection",
        {
            "kills": KILLS,
            "per_second": PER_SECOND,
            **figures,
            "gaps_recorded": len(gaps),
            "kills_without_a_gap": sum(not within(gaps, at) for at in killed),
            "gap_recorded_p50_ms": _ms(percentile(lengths, 0.5)),
            "gap_recorded_p99_ms": _ms(percentile(lengths, 0.99)),
            "link_up_again_p50_ms": _ms(percentile(taken, 0.5)),
            "link_up_again_p99_ms": _ms(percentile(taken, 0.99)),
            "sent_to_nobody": load.unheard,
            "control_lost_without_gap_records": run.verdict.in_gaps,
        },
        at_most=bounds
        | {"kills_without_a_gap": 0, "gap_recorded_p99_ms": scaled(15000, 2000)},
        at_least={"gaps_recorded": 1, "control_lost_without_gap_records": LOSSES},
    )


async def refused_connects(pair: Pair) -> int:
    found: int = (await pair.stats("ls.ws"))["refused_upgrades"]
    return found


async def where_one_may_connect(
    run: NewsRun, pair: Pair
) -> tuple[dict[str, Figure], dict[str, float]]:
    """Return the figures and bounds of *run*: a second connection is refused there."""
    figures, bounds = run.figures(), run.bounds()
    del figures["connections_at_once"], bounds["connections_at_once"]
    return figures | {"connects_refused": await refused_connects(pair)}, bounds


@asynccontextmanager
async def place_kept(pair: Pair) -> AsyncIterator[None]:
    """
    Have the upstream take nobody, as if it still held a connection that has died.

    On leaving, it goes on so for seconds, and until somebody was refused.
    """
    loop = asyncio.get_running_loop()
    fault = {"target": "ls.ws", "kind": "refuse_upgrade"}
    await pair.simulator.call("POST", "/fault", **fault, status=429)
    before = await refused_connects(pair)
    yield
    free_at = loop.time() + PLACE_KEPT_SECONDS
    async with asyncio.timeout(60):
        while loop.time() < free_at or await refused_connects(pair) == before:
            await asyncio.sleep(0.02)
    await pair.simulator.call("DELETE", "/fault?" + urlencode(fault))


async def test_news_when_the_upstream_keeps_the_place_of_the_killed_leader(
    nodes: Nodes, tmp_path: Path
) -> None:
    """The heir is refused, and asks again soon: it is no quarrel with a stranger."""
    loop = asyncio.get_running_loop()
    async with replicas(nodes, tmp_path, "ingest_ls") as pair:
        await only_one_connection(pair)
        waited: list[float] = []
        async with NewsLoad(pair, PER_SECOND) as load:
            for _ in range(PLACES_KEPT):
                await asyncio.sleep(CALM_SECONDS)
                leader = await pair.leader()
                async with place_kept(pair):
                    await pair.end(leader, signal.SIGKILL)
                free = loop.time()
                _, led = await first_to_lead(pair.replicas, 60)
                waited.append(led - free)
                await pair.registered()
                await pair.restart(leader)
            await asyncio.sleep(CALM_SECONDS)
        run = await NewsRun.of(pair, load)
        figures, bounds = await where_one_may_connect(run, pair)
    record(
        "kill -9 of the ingest that leads, upstream keeps its place for seconds",
        {
            "kills": PLACES_KEPT,
            "kept_for_at_least_s": PLACE_KEPT_SECONDS,
            "per_second": PER_SECOND,
            **figures,
            "link_up_once_free_p50_ms": _ms(percentile(waited, 0.5)),
            "link_up_once_free_p99_ms": _ms(percentile(waited, 0.99)),
            "sent_to_nobody": load.unheard,
            "control_lost_without_gap_records": run.verdict.in_gaps,
        },
        # The pauses of an heir are twelve seconds at most.
        at_most=bounds | {"link_up_once_free_p99_ms": scaled(30_000, 13_000)},
        at_least={
            "connects_refused": PLACES_KEPT,
            "control_lost_without_gap_records": LOSSES,
        },
    )


async def test_prices_of_free_connections_when_the_leader_is_killed(
    nodes: Nodes, tmp_path: Path
) -> None:
    """Nobody holds the dead connection's place: only the take-over takes time."""
    loop = asyncio.get_running_loop()
    prices = PriceListener()
    flow = ("--rate", str(PER_SECOND), "--news-rate", "0", "--fmp-slot", "unlimited")
    async with replicas(
        nodes, tmp_path, "ingest_fmp", *flow, FMP_SYMBOLS=SYMBOLS
    ) as pair:
        await prices.listen(pair.bus)
        kills: list[float] = []
        for _ in range(KILLS):
            await flowing(prices)
            await pair.leader()
            kills.append(loop.time())
            await kill(pair)
        await asyncio.sleep(CALM_SECONDS)
        ended = loop.time()
        calm = prices.longest_silence(kills[0] - CALM_SECONDS, kills[0])
        alone = await killed_while_nobody_stands_by(pair)
        await flowing(prices)
        control = prices.longest_silence(alone, loop.time())
        await pair.simulator.call("POST", "/generate", prices=False, news=False)
        await asyncio.sleep(CALM_SECONDS)
        newest = {subject: version_of(raw) for subject, raw in prices.newest.items()}
        async with asyncio.timeout(10):
            while (outdated := await older_in_stream(pair.bus, newest)) > 0:
                await asyncio.sleep(0.5)
        unaccounted_events = await unaccounted(await pair.leader())
    silences = [
        prices.longest_silence(at, next_at)
        for at, next_at in zip(kills, [*kills[1:], ended], strict=True)
    ]
    record(
        "kill -9 of the ingest that leads, upstream allows both connections",
        {
            "kills": KILLS,
            "per_second": PER_SECOND,
            "prices": len(prices.arrivals),
            "symbols_not_newest_in_stream": outdated,
            "gap_undisturbed_ms": _ms(calm),
            "gap_p50_ms": _ms(percentile(silences, 0.5)),
            "gap_p99_ms": _ms(percentile(silences, 0.99)),
            "unaccounted_events": unaccounted_events,
            "control_gap_ms": _ms(control),
        },
        at_most={
            "symbols_not_newest_in_stream": 0,
            "gap_p99_ms": scaled(8000, 400),
            "unaccounted_events": 0,
        },
        at_least={"control_gap_ms": 400},
    )


async def killed_while_nobody_stands_by(pair: Pair) -> float:
    """End the one that stands by, kill the leader, start it again; return when."""
    leader = await pair.leader()
    await pair.end(pair.other(leader), signal.SIGKILL)
    killed = asyncio.get_running_loop().time()
    await pair.end(leader, signal.SIGKILL)
    await leader.start()
    await leader.event("link is up", 60)
    return killed


async def flowing(prices: PriceListener) -> None:
    """Wait until a second's worth of prices has come."""
    async with asyncio.timeout(30):
        before = len(prices.arrivals)
        while len(prices.arrivals) < before + PER_SECOND * CALM_SECONDS:
            await asyncio.sleep(0.02)


def version_of(raw: bytes) -> tuple[int, int]:
    return decode_head(raw)[0].version


async def older_in_stream(bus: Bus, newest: dict[str, tuple[int, int]]) -> int:
    """Return of how many subjects the stream has something older than was heard."""
    stored = {m.subject: version_of(m.payload) async for m in read_from(bus, PRICES, 1)}
    return sum(stored.get(name, (0, 0)) < newest[name] for name in newest)


async def pause(pair: Pair, leader: ServiceProcess) -> float:
    """Hold *leader* for a while; return how long until the other's link was up."""
    loop = asyncio.get_running_loop()
    heir = pair.other(leader)
    held = loop.time()
    async with paused(leader.process.pid):
        _, led = await first_to_lead([heir], 60)
        await asyncio.sleep(0.5)
    # Woken, it believes that it leads until it learns better.
    await until_standing_by(leader)
    return led - held


async def test_a_leader_that_was_paused_is_fenced(nodes: Nodes, tmp_path: Path) -> None:
    async with replicas(nodes, tmp_path, "ingest_ls") as pair:
        taken = []
        async with NewsLoad(pair, PER_SECOND) as load:
            for _ in range(PAUSES):
                await asyncio.sleep(PAUSE_EVERY_SECONDS)
                taken.append(await pause(pair, await pair.leader()))
            await asyncio.sleep(CALM_SECONDS)
        await unaccounted(*pair.replicas)
        # What a woken leader still had in its socket comes last.
        await asyncio.sleep(2)
        run = await NewsRun.of(pair, load, *pair.replicas)
        stale = await pair.stale()
    late = await woken_that_learn_late(nodes, tmp_path / "fenced", PAUSES)
    unfenced = await woken_that_learn_late(nodes, tmp_path / "free", 1, UNFENCED="1")
    record(
        "pause and wake of the ingest that leads",
        {
            "pauses": PAUSES,
            "per_second": PER_SECOND,
            **run.figures(),
            "writes_of_the_woken": stale,
            "link_up_again_p99_ms": _ms(percentile(taken, 0.99)),
            "pauses_of_those_that_learn_late": PAUSES,
            "after_which_the_stream_refused_them": late.refused,
            "writes_of_those_that_learn_late": late.writes,
            "control_refused_without_the_fence": unfenced.refused,
            "control_writes_without_the_fence": unfenced.writes,
        },
        at_most={
            "writes_of_the_woken": 0,
            "writes_of_those_that_learn_late": 0,
            "lost": 0,
            "duplicated": 0,
            "out_of_order": 0,
            "unaccounted_events": 0,
        },
        at_least={
            "after_which_the_stream_refused_them": PAUSES,
            "control_writes_without_the_fence": 1,
        },
    )


class Woken(NamedTuple):
    """
    What became of paused leaders that learn seconds late of the other one.

    Attributes:
        refused: After how many pauses the stream refused what they wrote.
        writes: How many items of theirs it took all the same.
    """

    refused: int
    writes: int


async def woken_that_learn_late(
    nodes: Nodes, folder: Path, pauses: int, **env: str
) -> Woken:
    """Pause the leader *pauses* times; only the stream can stop it once it wakes."""
    refused = 0
    async with replicas(nodes, folder, "unaware_ingest_ls", **env) as pair:
        async with NewsLoad(pair, EVENLY_PER_SECOND):
            for _ in range(pauses):
                await asyncio.sleep(PAUSE_EVERY_SECONDS)
                leader = await pair.leader()
                before = await leader.metric("feedmesh_ingest_ls_fenced_total")
                await pause(pair, leader)
                after = await leader.metric("feedmesh_ingest_ls_fenced_total")
                refused += after > before
            await asyncio.sleep(CALM_SECONDS)
        return Woken(refused, await pair.stale())


async def test_a_leader_that_is_asked_to_go_hands_over(
    nodes: Nodes, tmp_path: Path
) -> None:
    async with replicas(nodes, tmp_path, "ingest_ls") as pair:
        async with NewsLoad(pair, EVENLY_PER_SECOND, evenly=True) as load:
            for _ in range(HAND_OVERS):
                await asyncio.sleep(CALM_SECONDS)
                await hand_over(pair)
            await asyncio.sleep(CALM_SECONDS)
            await pair.leader()
            killed_ns = time.time_ns()
            await kill(pair)
            await pair.registered()
            await asyncio.sleep(CALM_SECONDS)
        run = await NewsRun.of(pair, load)
    turns, published = Turns(), Turns()
    for item in run.stored:
        if item.received_ns < killed_ns:
            turns.note("received", item.epoch, item.received_ns / 1e9)
            published.note("published", item.epoch, item.published_ns / 1e9)
    heirs = [item.received_ns for item in run.stored if item.received_ns > killed_ns]
    # Whoever goes on purpose has no excuse: gaps do not count.
    whole = judge(
        [item for item in load.sent if item.after_ns < killed_ns - CALM_NS // 2],
        [item.realkey for item in run.stored if item.received_ns < killed_ns],
        [],
    )
    record(
        "graceful hand-over",
        {
            "hand_overs": HAND_OVERS,
            "per_second": EVENLY_PER_SECOND,
            **run.figures(),
            "lost_in_hand_overs": whole.lost,
            "out_of_order_in_hand_overs": whole.reordered,
            **turns.figures(),
            "gap_published_p99_ms": published.figures()["gap_p99_ms"],
            "control_gap_of_a_kill_ms": _ms((min(heirs) - killed_ns) / 1e9),
        },
        at_most=run.bounds()
        | {
            "lost_in_hand_overs": 0,
            "out_of_order_in_hand_overs": 0,
            "gap_p99_ms": scaled(5000, 50),
            "gap_published_p99_ms": scaled(5000, 50),
        },
        at_least={"control_gap_of_a_kill_ms": 200 if run.connections < 2 else 0},
    )


async def test_a_leader_of_prices_that_is_asked_to_go_hands_over(
    nodes: Nodes, tmp_path: Path
) -> None:
    """The upstream refuses the login of a second one while there is a first."""
    loop = asyncio.get_running_loop()
    turns, control = Turns(), Turns()
    noted = [turns]

    async def heard(message: Msg) -> None:
        epoch, _ = version_of(message.data)
        for each in noted:
            each.note(message.subject.split(".")[1], epoch, loop.time())

    rate, tick = str(PRICES_PER_SECOND), str(TICK_SECONDS)
    flow = ("--rate", rate, "--tick", tick, "--news-rate", "0")
    async with replicas(
        nodes, tmp_path, "ingest_fmp", *flow, FMP_SYMBOLS=BALANCED_SYMBOLS
    ) as pair:
        await pair.bus.nc.subscribe("prices.*.*", cb=heard)
        for _ in range(HAND_OVERS):
            await asyncio.sleep(CALM_SECONDS)
            await hand_over(pair)
        await pair.leader()
        noted[:] = [control]
        await asyncio.sleep(CALM_SECONDS)
        await kill(pair)
        await asyncio.sleep(CALM_SECONDS)
        await pair.simulator.call("POST", "/generate", prices=False, news=False)
        unaccounted_events = await unaccounted(await pair.leader())
        of_links = [await pair.stats(f"fmp.{name}") for name in FMP_LINKS]
        allowed = await pair.connections_allowed()
    record(
        "graceful hand-over of prices, upstream refuses a second login",
        {
            "hand_overs": HAND_OVERS,
            "per_second": PRICES_PER_SECOND,
            **turns.figures(),
            "connections_at_once": max(link["connections_max"] for link in of_links),
            "logins_refused": sum(link["failed_logins"] for link in of_links),
            "unaccounted_events": unaccounted_events,
            "control_gap_of_a_kill_ms": control.figures()["gap_p50_ms"],
        },
        at_most={
            "gap_p99_ms": scaled(8000, 50),
            "connections_at_once": scaled(allowed, 1),
            "unaccounted_events": 0,
        },
        at_least={"control_gap_of_a_kill_ms": 100},
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
