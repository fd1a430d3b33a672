"""The ingest as a process: from the upstream's socket to the bus, and back."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from integration.ingest_fmp.conftest import (
    Ingest,
    Reader,
    StartIngest,
    eventually,
    link_state,
    simulated,
    urls,
)
from integration.ingest_fmp.upstream import Upstream, agree
from mesh import Simulator
from nats_process import NatsProcess, open_bus
from unit.ingest_fmp.frames import frame

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.demand import DemandAnnouncer
from feedmesh.streams import ensure_streams


T = 1_645_216_790_788_174_600


def tick(price: str = "1.5", at: int = 0, **fields: Any) -> str:
    event = {"s": "aapl", "t": T + at, "type": "T", "lp": "@", "ls": 1} | fields
    return json.dumps(event).replace('"@"', price)


async def connected(ingest: Ingest, upstream: Upstream, *symbols: str) -> None:
    await upstream.asked_for("subscribe", *(symbol.lower() for symbol in symbols))
    await ingest.confirmed("stocks", len(symbols))


async def test_official_frames_become_messages(
    start: StartIngest, simulator: Simulator
) -> None:
    ingest = await start(FMP_SYMBOLS="AAPL,KEY,BTCUSD,EURUSD", **urls(simulator))
    reader = await ingest.read("prices.>")
    for link, wanted in (("stocks", 2), ("crypto", 1), ("forex", 1)):
        await ingest.confirmed(link, wanted)
    samples = [
        ("fmp.stocks", "legacy stock Q, lp and ls filled"),
        ("fmp.stocks", "legacy stock Q, lp and ls null"),
        ("fmp.crypto", "legacy crypto Q, 20 digit"),
        ("fmp.forex", "legacy forex Q"),
    ]
    for target, name in samples:
        assert await simulator.inject(target, {"text": frame(name).decode()}) == 1

    aapl = await reader.until(lambda m: m.subject == "prices.us.AAPL")
    key = await reader.until(lambda m: m.subject == "prices.us.KEY")
    bitcoin = await reader.until(lambda m: m.subject == "prices.crypto.BTCUSD")
    euro = await reader.until(lambda m: m.subject == "prices.fx.EURUSD")
    assert aapl.frame | {"cached_at": ""} == {
        "type": "price_update",
        "symbol": "AAPL",
        "timestamp": 1645216790788,
        "data_type": "Q",
        "last_price": 152.17,
        "last_size": 100,
        "ask_price": 152.46,
        "ask_size": 200,
        "bid_price": 152.31,
        "bid_size": 100,
        "cached_at": "",
    }
    assert aapl.head.source == "fmp"
    assert aapl.head.flags == ("old",)
    assert (key.frame["last_price"], key.frame["last_size"]) == (None, None)
    assert bitcoin.head.venue == "binance"
    assert bitcoin.frame["timestamp"] == 1648723863206
    assert euro.frame["timestamp"] == 1701958248213
    await ingest.assert_accounted()


async def test_the_stream_product_publishes_only_what_is_wanted(
    start: StartIngest, simulator: Simulator
) -> None:
    streams = "fmp-us-equities-stream,fmp-crypto-stream"
    ingest = await start(
        FMP_PRODUCT="stream",
        FMP_SYMBOLS="AAPL",
        FMP_STREAMS=streams,
        **urls(simulator),
    )
    reader = await ingest.read("prices.>")
    await ingest.confirmed("stream", 2)
    quote = {"symbol": "AAPL", "price": 198.42, "timestamp": 1747473420}
    await simulator.inject(
        "fmp.stream", quote, quote, quote | {"symbol": "MSFT"}, quote | {"price": 1.25}
    )
    await reader.until(lambda m: m.frame["last_price"] == 1.25)

    assert [m.subject for m in reader.messages] == ["prices.us.AAPL"] * 2
    assert reader.messages[0].frame["data_type"] == "T"
    assert await ingest.count("deduplicated") == 1
    assert await ingest.count("rejected", reason="unsubscribed") == 1
    await ingest.assert_accounted()


async def test_the_stream_product_publishes_everything_on_request(
    start: StartIngest, simulator: Simulator
) -> None:
    ingest = await start(FMP_PRODUCT="stream", FMP_SYMBOLS="*", **urls(simulator))
    reader = await ingest.read("prices.>")
    await ingest.confirmed("stream", 3)
    quote = {"symbol": "ANY", "price": 198.42, "timestamp": 1747473420}
    await simulator.inject("fmp.stream", quote)

    await reader.until(lambda m: m.subject == "prices.us.ANY")


async def test_demand_connects_subscribes_and_is_dropped_after_the_grace(
    start: StartIngest, upstream: Upstream, bus: Bus
) -> None:
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_GRACE="500ms")
    status = await ingest.read("status.fmp")
    await link_state(status, "stocks", "idle")
    wanted: set[str] = {"AAPL", "MSFT", "005930"}
    announcer = DemandAnnouncer(bus, "test", lambda: wanted)
    announcing = asyncio.create_task(announcer.run())
    await connected(ingest, upstream, "AAPL", "MSFT")

    wanted.discard("AAPL")
    announcer.changed()
    await upstream.asked_for("unsubscribe", "aapl")
    await ingest.confirmed("stocks", 1)
    await upstream.session.say(tick())
    await ingest.counted(1, "rejected", reason="unsubscribed")

    announcing.cancel()
    await asyncio.wait([announcing])
    asked = [m["data"] for m in upstream.session.asked]
    assert {"ticker": ["aapl", "msft"]} in asked
    assert "005930" not in json.dumps(asked)


async def test_who_falls_silent_wants_nothing_any_more_only_after_a_while(
    start: StartIngest, upstream: Upstream, bus: Bus
) -> None:
    """A page reload or an edge restart costs the upstream nothing."""
    ingest = await start(FMP_STOCKS_URL=upstream.url)
    announcement = {"v": 1, "who": "test", "symbols": ["AAPL"]}
    await bus.publish(subjects.demand("test"), json.dumps(announcement).encode())
    await connected(ingest, upstream, "AAPL")
    announcement["symbols"] = []
    await bus.publish(subjects.demand("test"), json.dumps(announcement).encode())
    announcement["symbols"] = ["AAPL", "MSFT"]
    await bus.publish(subjects.demand("test"), json.dumps(announcement).encode())
    await connected(ingest, upstream, "MSFT", "AAPL")

    assert all(m["event"] != "unsubscribe" for m in upstream.session.asked)


async def test_bad_frames_among_good_ones_cost_nothing_good(
    start: StartIngest, upstream: Upstream
) -> None:
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    reader = await ingest.read("prices.us.AAPL")
    letters: asyncio.Queue[bytes] = asyncio.Queue()

    async def keep(message: Any) -> None:
        letters.put_nowait(message.data)

    await ingest.bus.nc.subscribe("dlq.ingest-fmp", cb=keep)
    await connected(ingest, upstream, "AAPL")
    # Each of these ended the process once, or might have.
    bad: Iterable[str | bytes] = (
        "{",
        b"\xff\xfe",
        tick("1e999999999999999999999"),
        tick(ls="#").replace('"#"', "1e400"),
        tick(t="\udcff").encode("utf-8", "surrogateescape"),
        tick(s="*"),
        tick(s=">"),
        tick("9" * 100_000),
        "[" * 50_000,
        json.dumps([{"s": "aapl"}, 7, None]),
    )
    for number, case in enumerate(bad):
        await upstream.session.say(case)
        await upstream.session.say(tick(f"{100 + number}.5", at=number))

    await reader.until(lambda m: m.frame["last_price"] == 109.5)
    assert [m.frame["last_price"] for m in reader.messages] == [
        100.5 + number for number in range(10)
    ]
    async with asyncio.timeout(5):
        letter = json.loads(await letters.get())
    assert letter["reason"] == "not_json"
    assert len(upstream.sessions) == 1
    await ingest.assert_accounted()


async def test_a_burst_is_published_whole_and_in_order(
    start: StartIngest, upstream: Upstream
) -> None:
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    reader = await ingest.read("prices.>")
    await connected(ingest, upstream, "AAPL")
    for number in range(20_000):
        await upstream.session.say(tick(f"{number + 1}.5", at=number * 1000))
    await ingest.counted(20_000, "published")

    async def newest() -> bool:
        found = await ingest.stored("prices.us.AAPL")
        return found is not None and found.frame["last_price"] == 20_000.5

    await eventually(newest, "the stream has the newest state")
    await ingest.assert_accounted()
    await reader.until(lambda m: m.head.seq == 20_000)
    # Whoever sees every number knows that nothing is missing.
    assert [n for n, _ in itertools.groupby(m.head.seq for m in reader.messages)] == [
        *range(1, 20_001)
    ]


@pytest.mark.parametrize(
    ("kind", "params", "reason"),
    [
        ("drop", {}, "dropped"),
        ("half_open", {"for": 6}, None),
        ("silence", {"for": 6}, "silent"),
    ],
)
async def test_prices_flow_again_after_a_fault(
    start: StartIngest,
    simulator: Simulator,
    kind: str,
    params: dict[str, Any],
    reason: str | None,
) -> None:
    env = urls(simulator) | {"FMP_SILENCE": "2s", "FMP_PING": "1s"}
    ingest = await start(FMP_SYMBOLS="AAPL", **env)
    reader = await ingest.read("prices.us.AAPL")
    await ingest.confirmed("stocks", 1)
    # An upstream that never said anything unasked may be silent while its market is
    # closed; so the test does not depend on the day.
    await simulator.call(
        "POST", "/fault", target="fmp.stocks", kind="heartbeat", interval=0.2
    )
    await ingest.counted(1, "control_frames", link="stocks", control="heartbeat")
    labels = {"link": "stocks"} | ({"reason": reason} if reason else {})
    await simulator.call("POST", "/fault", target="fmp.stocks", kind=kind, **params)
    await ingest.counted(1, "reconnects", **labels)
    await simulator.call("DELETE", "/fault")

    async def arrives() -> bool:
        await simulator.inject("fmp.stocks", {"text": tick("7.25")})
        await asyncio.sleep(0.1)
        return any(m.frame["last_price"] == 7.25 for m in reader.messages)

    await eventually(arrives, "a price after the fault")
    if kind != "half_open":  # such an upstream does not see its connection end
        assert (await simulated(simulator, "fmp.stocks"))["connections_max"] == 1
    await ingest.assert_accounted()


async def test_an_upstream_that_ignores_pings_is_kept_while_it_says_something(
    start: StartIngest, simulator: Simulator
) -> None:
    """Nobody knows whether FMP answers pings; heartbeats are proof enough."""
    env = urls(simulator) | {"FMP_PING": "300ms"}
    ingest = await start(FMP_SYMBOLS="AAPL", **env)
    await ingest.confirmed("stocks", 1)
    await simulator.call(
        "POST", "/fault", target="fmp.stocks", kind="heartbeat", interval=0.2
    )
    await simulator.call("POST", "/fault", target="fmp.stocks", kind="no_pong")
    # Ten times as long as a silent upstream would be given.
    await ingest.counted(30, "control_frames", link="stocks", control="heartbeat")
    assert await ingest.count("reconnects") == 0

    await simulator.call(
        "POST", "/fault", target="fmp.stocks", kind="heartbeat", mode="off"
    )
    await ingest.counted(1, "reconnects", link="stocks", reason="no_pong")


async def test_a_refusal_is_told_in_the_status_and_is_no_reason_to_be_unready(
    start: StartIngest, simulator: Simulator
) -> None:
    ingest = await start(
        FMP_SYMBOLS="AAPL", **(urls(simulator) | {"FMP_API_KEY": "wrong-key"})
    )
    status = await ingest.read("status.fmp")

    await link_state(status, "stocks", "refused")
    await ingest.process.ready()
    assert not any("wrong-key" in line for line in ingest.process.lines)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_restarted_ingest_goes_on_from_what_was_published(
    start: StartIngest, upstream: Upstream, number: signal.Signals
) -> None:
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    reader = await ingest.read("prices.us.AAPL")
    await connected(ingest, upstream, "AAPL")
    await upstream.session.say(tick("189.450"))
    first = await reader.until(lambda m: m.frame["last_price"] == 189.45)
    await stored(ingest, 189.45)

    await ingest.restart(number)
    await upstream.until(lambda: len(upstream.sessions) == 2)
    await connected(ingest, upstream, "AAPL")
    await upstream.session.say(
        tick(type="Q", at=10**9, lp=None, ls=None, ap=190, bp=189.0)
    )
    second = await reader.until(lambda m: m.frame["data_type"] == "Q")

    assert b'"last_price": 189.450,' in second.raw
    assert (second.frame["ask_price"], second.frame["bid_price"]) == (190, 189)
    assert second.head.epoch > first.head.epoch


async def stored(ingest: Ingest, price: float) -> None:
    async def there() -> bool:
        found = await ingest.stored("prices.us.AAPL")
        return found is not None and found.frame["last_price"] == price

    await eventually(there, f"the stream has {price}")


async def test_a_lost_price_stream_is_filled_again(
    start: StartIngest, upstream: Upstream, nats_server: NatsProcess
) -> None:
    """Also with what only the writer before has published."""
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL,MSFT")
    await connected(ingest, upstream, "AAPL", "MSFT")
    await upstream.session.say(tick("1.25"))
    await stored(ingest, 1.25)
    await ingest.restart()
    await upstream.until(lambda: len(upstream.sessions) == 2)
    await connected(ingest, upstream, "AAPL", "MSFT")
    await upstream.session.say(tick("2.5", s="msft"))

    await nats_server.stop()
    await upstream.session.say(tick("3.5", s="msft", at=1))
    await nats_server.start()
    async with open_bus(nats_server) as bus:
        again = Ingest(ingest.process, bus)
        await stored(again, 1.25)

        async def newest() -> bool:
            found = await again.stored("prices.us.MSFT")
            return found is not None and found.frame["last_price"] == 3.5

        await eventually(newest, "the newest state of MSFT")
    assert len(upstream.sessions) == 2
    await ingest.assert_accounted()


async def test_a_claim_that_was_lost_is_made_again_and_higher(
    start: StartIngest, upstream: Upstream, nats_server: NatsProcess, tmp_path: Path
) -> None:
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    reader = await ingest.read("prices.us.AAPL")
    await connected(ingest, upstream, "AAPL")
    await upstream.session.say(tick("1.25"))
    before = await reader.until(lambda m: m.frame["last_price"] == 1.25)
    claims = [line for line in ingest.process.lines if "writing for a feed" in line]

    await nats_server.stop()
    shutil.rmtree(tmp_path / "nats" / "data")
    await nats_server.start()
    async with open_bus(nats_server) as bus:
        again = Ingest(ingest.process, bus)

        async def claimed() -> bool:
            said = [x for x in ingest.process.lines if "writing for a feed" in x]
            return len(said) > len(claims)

        await eventually(claimed, "another claim")
        await upstream.session.say(tick("2.25", at=1))
        await stored(again, 2.25)
        after = await again.stored("prices.us.AAPL")

    assert after is not None
    assert after.head.epoch > before.head.epoch


async def test_waits_unready_for_the_streams_and_never_makes_them(
    nats_server: NatsProcess, bus: Bus, start: StartIngest, upstream: Upstream
) -> None:
    js = bus.nc.jetstream()
    await js.delete_stream("PRICES")
    ingest = await start(wait=False, FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    await ingest.process.event("writing for a feed")
    ops = await ingest.process.ops()
    async with httpx.AsyncClient(base_url=ops) as http:
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert "streams" in ready.text
        assert (await http.get("/healthz")).status_code == 200
    assert upstream.sessions == []

    await ensure_streams(js)
    await ingest.process.ready()
    claims = [line for line in ingest.process.lines if "writing for a feed" in line]
    assert len(claims) == 1
    await connected(ingest, upstream, "AAPL")


async def test_waits_for_nats(start: StartIngest, nats_server: NatsProcess) -> None:
    await nats_server.stop()
    ingest = await start(wait=False)
    async with httpx.AsyncClient(base_url=await ingest.process.ops()) as http:
        assert (await http.get("/readyz")).status_code == 503
    await nats_server.start()
    async with open_bus(nats_server):
        await ingest.process.ready()


async def test_a_clean_stop_says_nothing_of_the_key(
    start: StartIngest, upstream: Upstream
) -> None:
    secret = "a-very-secret-key"
    ingest = await start(
        FMP_STOCKS_URL=upstream.url,
        FMP_SYMBOLS="AAPL",
        FMP_API_KEY=secret,
        LOG_LEVEL="DEBUG",
    )
    await connected(ingest, upstream, "AAPL")
    assert upstream.session.asked[0]["data"]["apiKey"] == secret

    assert await ingest.process.stop() == 0
    assert ingest.process.lines
    assert all(line.startswith("{") for line in ingest.process.lines)
    assert not any(secret in line for line in ingest.process.lines)
    assert any("lead to this machine" in line for line in ingest.process.lines)


@pytest.mark.parametrize(
    ("env", "code", "named"),
    [
        ({"FMP_SILENCE": "75"}, 2, "FMP_SILENCE"),
        ({"FMP_SYMBOL": "AAPL"}, 2, "FMP_SYMBOL"),
        ({"FMP_STOCKS_URL": "wss://u:hunter2@h"}, 2, "FMP_STOCKS_URL"),
        ({"FMP_STOCKS_URL": "wss://upstream.example"}, 2, "FMP_API_KEY"),
        ({"FMP_CA_FILE": "/nowhere"}, 2, "FMP_CA_FILE"),
    ],
    ids=str,
)
async def test_a_bad_setting_is_one_line_and_exit_code_2(
    start: StartIngest, env: dict[str, str], code: int, named: str
) -> None:
    ingest = await start(wait=False, **env)

    assert await ingest.process.exited() == code
    (line,) = ingest.process.lines
    assert named in line
    assert "hunter2" not in line


async def test_a_port_in_use_is_one_line_and_exit_code_1(start: StartIngest) -> None:
    first = await start()
    port = (await first.process.ops()).rpartition(":")[2]
    second = await start(wait=False, OPS_PORT=port)

    assert await second.process.exited() == 1
    plain = [line for line in second.process.lines if not line.startswith("{")]
    assert plain == [
        f"ingest-fmp: port {port} on 127.0.0.1 is in use; set OPS_PORT to another"
    ]


async def test_a_login_that_hangs_does_not_hinder_a_stop(
    start: StartIngest, upstream: Upstream
) -> None:
    async def mute(session: Any, message: dict[str, Any]) -> None:
        if message["event"] != "login":
            await agree(session, message)

    upstream.answer = mute
    ingest = await start(FMP_STOCKS_URL=upstream.url, FMP_SYMBOLS="AAPL")
    await upstream.until(lambda: bool(upstream.sessions and upstream.session.asked))

    assert await ingest.process.stop() == 0


async def test_links_are_independent(
    start: StartIngest, upstream: Upstream, simulator: Simulator
) -> None:
    """One socket that refuses does not keep another from flowing."""
    env = urls(simulator) | {"FMP_STOCKS_URL": upstream.url}
    await simulator.call(
        "POST", "/fault", target="fmp.crypto", kind="login", reply="another_location"
    )
    ingest = await start(FMP_SYMBOLS="AAPL,BTCUSD", **env)
    status = await ingest.read("status.fmp")
    reader: Reader = await ingest.read("prices.us.AAPL")
    await connected(ingest, upstream, "AAPL")
    await link_state(status, "crypto", "busy")
    await link_state(status, "forex", "idle")
    await upstream.session.say(tick("4.5"))

    await reader.until(lambda m: m.frame["last_price"] == 4.5)
