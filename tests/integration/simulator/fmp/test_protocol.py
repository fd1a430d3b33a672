"""Login, subscriptions and slots, as the FMP documentation has them."""

from __future__ import annotations

import pytest
from integration.simulator.fmp.client import EVERY, LEGACY, NAMES, World
from integration.simulator.fmp.conftest import Start


legacy = pytest.mark.parametrize("target", LEGACY)
every = pytest.mark.parametrize("target", EVERY)


# Login.


@legacy
async def test_a_legacy_login_is_answered_flat(world: World, target: str) -> None:
    async with world.connect(target) as client:
        reply = await client.login()

    assert reply == {"event": "login", "status": 200, "message": "Authenticated"}


async def test_a_current_login_is_answered_nested(world: World) -> None:
    async with world.connect("fmp.stream") as client:
        reply = await client.login()

    assert reply == {
        "event": "login",
        "data": {"status": 200, "message": "Authenticated"},
    }


@every
async def test_a_bad_key_is_refused_on_an_open_socket(
    world: World, target: str
) -> None:
    async with world.connect(target) as client:
        reply = await client.login("wrong")
        await client.subscribe() if target != "fmp.stream" else None

        assert (reply.get("data") or reply)["status"] == 401
        assert (reply.get("data") or reply)["message"] == "Unauthorized"
        assert await client.quiet()


async def test_subscribing_after_a_refused_login_is_refused_too(world: World) -> None:
    async with world.connect("fmp.stocks") as client:
        await client.login("wrong")
        ack = await client.subscribe("aapl")

    assert ack == {"event": "subscribe", "status": 401, "message": "Unauthorized"}


@every
async def test_nothing_is_said_before_the_login(world: World, target: str) -> None:
    await world.generate(1000)
    await world.post("/inject", target=target, frames=[{"event": "hello"}])

    async with world.connect(target) as client:
        assert await client.quiet()


@every
async def test_rubbish_from_a_client_is_ignored(world: World, target: str) -> None:
    async with world.connect(target) as client:
        for text in ("", "[]", "null", "not JSON", '{"event":"login"}', '{"data":1}'):
            await client.connection.send(text)
        await client.connection.send(b"\xff\x00")
        await client.send({"event": "subscribe", "data": {"ticker": {"a": 1}}})

        assert (await client.login()).get("event") == "login"


# Slots.


@legacy
async def test_a_second_legacy_login_is_refused(world: World, target: str) -> None:
    async with world.logged_in(target) as first, world.connect(target) as second:
        reply = await second.login()
        first_is_told_nothing = await first.quiet(0.1)

    assert reply == {
        "event": "login",
        "status": 401,
        "message": "Connected from another location",
    }
    assert first_is_told_nothing


async def test_a_second_current_login_is_refused(world: World) -> None:
    async with (
        world.logged_in("fmp.stream"),
        world.connect("fmp.stream") as second,
    ):
        reply = await second.login()

    assert reply == {
        "event": "login",
        "data": {"status": 401, "message": "Maximum number of connections reached"},
    }


async def test_the_hosts_have_slots_of_their_own(world: World) -> None:
    async with (
        world.logged_in("fmp.stocks"),
        world.logged_in("fmp.crypto"),
        world.logged_in("fmp.forex"),
        world.logged_in("fmp.stream"),
    ):
        pass


@every
async def test_the_old_connection_may_be_the_one_to_lose(
    start: Start, target: str
) -> None:
    async with (
        start(fmp_slot="kick_old") as world,
        world.logged_in(target) as first,
        world.logged_in(target) as second,
    ):
        told = await first.frame()
        await first.closed()

        assert (told.get("data") or told)["status"] == 401
        assert await second.quiet(0.1)


@every
async def test_which_side_loses_can_be_changed_at_run_time(
    world: World, target: str
) -> None:
    async with world.logged_in(target) as first:
        await world.fault(target, "slot", policy="kick_old")
        async with world.logged_in(target):
            await first.closed()

        await world.fault(target, "slot", policy="unlimited")
        async with world.logged_in(target), world.logged_in(target):
            pass


@every
async def test_a_slot_is_free_after_a_clean_end(world: World, target: str) -> None:
    async with world.logged_in(target):
        pass

    async with world.logged_in(target):
        pass


@every
async def test_a_slot_may_stay_busy_after_a_crash(world: World, target: str) -> None:
    await world.fault(target, "slot_busy", seconds=0.5)
    async with world.logged_in(target) as client:
        await world.fault(target, "drop")
        await client.closed()

    async with world.connect(target) as client:
        reply = await client.login()
        assert (reply.get("data") or reply)["status"] == 401

        while (reply.get("data") or reply)["status"] == 401:
            reply = await client.login()


# Subscriptions.


@every
async def test_an_accepted_subscription_is_acknowledged_and_flows(
    world: World, target: str
) -> None:
    async with world.logged_in(target) as client:
        ack = await client.subscribe()
        await world.generate(500)
        tick = await client.tick()

    assert ack == {"event": "subscribe", "status": 200, "message": "Subscribed"}
    assert "s" in tick or "symbol" in tick


@every
async def test_unsubscribing_ends_the_flow(world: World, target: str) -> None:
    await world.generate(500)
    async with world.subscribed(target) as client:
        await client.tick()
        ack = await client.subscribe(event="unsubscribe")

        assert ack == {"event": "unsubscribe", "status": 200, "message": "Unsubscribed"}
        assert await client.quiet()
        assert (await world.stats(target))["subscribed"] == []


@legacy
async def test_a_ticker_may_be_a_string(world: World, target: str) -> None:
    async with world.logged_in(target) as client:
        await client.send({"event": "subscribe", "data": {"ticker": NAMES[target]}})
        await client.event("subscribe")

        assert (await world.stats(target))["subscribed"] == [NAMES[target]]


@legacy
async def test_a_ticker_may_be_in_any_case(world: World, target: str) -> None:
    await world.generate(200)
    async with world.subscribed(target, NAMES[target].upper()) as client:
        tick = await client.tick()

    assert tick["s"] == NAMES[target]


async def test_unknown_tickers_are_ignored_in_silence(world: World) -> None:
    async with world.logged_in("fmp.stocks") as client:
        ack = await client.subscribe("aapl", "nosuch", "btcusd", "msft")

        assert ack["status"] == 200
        assert (await world.stats("fmp.stocks"))["subscribed"] == ["aapl", "msft"]


async def test_a_subscription_can_be_accepted_in_part(world: World) -> None:
    await world.fault("fmp.stocks", "subscribe_ack", mode="partial")
    async with world.logged_in("fmp.stocks") as client:
        ack = await client.subscribe("aapl", "msft", "nvda", "brk-b")

        assert ack["status"] == 200
        assert (await world.stats("fmp.stocks"))["subscribed"] == ["aapl", "msft"]


async def test_subscriptions_add_up(world: World) -> None:
    async with world.logged_in("fmp.stocks") as client:
        for symbol in ("aapl", "msft", "aapl", "brk-b"):
            await client.subscribe(symbol)
        await client.subscribe("msft", event="unsubscribe")
        await world.generate(500)

        assert {tick["s"] for tick in await client.ticks(50)} == {"aapl", "brk-b"}


async def test_a_star_stands_for_all_stocks(world: World) -> None:
    await world.generate(2000)
    async with world.subscribed("fmp.stocks", "*") as client:
        symbols = {tick["s"] for tick in await client.ticks(1000)}

    assert len(symbols) > 200


async def test_the_list_is_lost_on_disconnect(world: World) -> None:
    await world.generate(500)
    async with world.subscribed("fmp.stocks") as client:
        await client.tick()

    async with world.logged_in("fmp.stocks") as client:
        assert await client.quiet()


@legacy
async def test_subscribing_before_the_login_works_on_legacy(
    world: World, target: str
) -> None:
    await world.generate(500)
    async with world.connect(target) as client:
        await client.subscribe()
        await client.login()

        assert (await client.tick())["s"] == NAMES[target]


async def test_subscribing_before_the_login_is_dropped_on_current(
    world: World,
) -> None:
    await world.generate(500)
    async with world.connect("fmp.stream") as client:
        stream = {"stream": NAMES["fmp.stream"]}
        await client.send({"event": "subscribe", "data": stream})
        await client.login()

        assert await client.quiet()


async def test_several_streams_share_a_connection(world: World) -> None:
    await world.generate(500)
    async with world.logged_in("fmp.stream") as client:
        await client.subscribe("fmp-crypto-stream")
        await client.subscribe("fmp-currency-stream")
        symbols = {tick["symbol"] for tick in await client.ticks(400)}

    assert {"BTCUSD", "EURUSD"} <= symbols


async def test_a_subscriber_gets_only_its_own_symbols(world: World) -> None:
    await world.fault("fmp.stocks", "slot", policy="unlimited")
    await world.generate(500)
    async with (
        world.subscribed("fmp.stocks", "aapl") as one,
        world.subscribed("fmp.stocks", "msft") as other,
    ):
        assert {tick["s"] for tick in await one.ticks(30)} == {"aapl"}
        assert {tick["s"] for tick in await other.ticks(30)} == {"msft"}


# Heartbeats.


@legacy
async def test_a_legacy_heartbeat_has_no_timestamp(start: Start, target: str) -> None:
    async with (
        start(fmp_heartbeat_seconds=0.05) as world,
        world.logged_in(target) as client,
    ):
        assert await client.frame() == {"event": "heartbeat"}


async def test_a_current_heartbeat_has_milliseconds(start: Start) -> None:
    async with (
        start(fmp_heartbeat_seconds=0.05) as world,
        world.logged_in("fmp.stream") as client,
    ):
        beat = await client.frame()

    assert beat["event"] == "heartbeat"
    assert len(str(beat["timestamp"])) == 13
