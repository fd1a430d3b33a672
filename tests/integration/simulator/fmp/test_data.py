"""Data frames, as documented and as a fault bends them."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from integration.simulator.fmp.client import EVERY, LEGACY, Frame, World
from integration.simulator.fmp.conftest import Start


legacy = pytest.mark.parametrize("target", LEGACY)
every = pytest.mark.parametrize("target", EVERY)

QUOTE_KEYS = {
    "fmp.stocks": ["s", "t", "type", "ap", "as", "bp", "bs", "lp", "ls"],
    "fmp.crypto": ["s", "t", "e", "type", "bs", "bp", "as", "ap"],
    "fmp.forex": ["s", "t", "type", "ap", "as", "bp", "bs"],
}
CURRENT_KEYS = (
    "symbol name price changesPercentage change dayLow dayHigh yearHigh yearLow "
    "marketCap volume avgVolume open previousClose eps pe earningsAnnouncement "
    "sharesOutstanding timestamp range type updatedAt"
).split()


async def _texts(world: World, target: str, count: int = 60) -> list[str]:
    """Subscribe, let data flow and return the frames as they came."""
    await world.generate(1500)
    texts: list[str] = []
    async with world.subscribed(target) as client:
        while len(texts) < count:
            texts.append(str(await client.raw()))
    await world.generate(0)
    return texts


async def _ticks(world: World, target: str, count: int = 60) -> list[Frame]:
    return [json.loads(text) for text in await _texts(world, target, count)]


async def _bent(world: World, target: str, **shape: object) -> list[Any]:
    await world.fault(target, "shape", **shape)
    return await _ticks(world, target)


# As documented.


@legacy
async def test_a_quote_has_the_keys_of_the_samples_in_their_order(
    world: World, target: str
) -> None:
    quotes = [t for t in await _ticks(world, target) if t["type"] == "Q"]

    assert quotes
    assert all(list(quote) == QUOTE_KEYS[target] for quote in quotes)
    assert all(0 < quote["bp"] < quote["ap"] for quote in quotes)


async def test_a_stock_quote_says_null_for_the_last_trade(world: World) -> None:
    quotes = [t for t in await _ticks(world, "fmp.stocks") if t["type"] == "Q"]

    assert all(quote["lp"] is None and quote["ls"] is None for quote in quotes)


async def test_a_stock_trade_leaves_out_the_quote(world: World) -> None:
    trades = [t for t in await _ticks(world, "fmp.stocks") if t["type"] == "T"]

    assert trades
    assert all(list(trade) == ["s", "t", "type", "lp", "ls"] for trade in trades)


async def test_a_trade_break_comes_now_and_then(world: World) -> None:
    await world.fault("fmp.stocks", "shape", types=["B"])

    ticks = await _ticks(world, "fmp.stocks", 20)

    assert {tick["type"] for tick in ticks} == {"B"}


@pytest.mark.parametrize(
    ("target", "digits", "nanoseconds"),
    [("fmp.stocks", 19, 1.0), ("fmp.crypto", 20, 0.1), ("fmp.forex", 13, 1e6)],
)
async def test_each_market_has_its_unit_of_time(
    world: World, target: str, digits: int, nanoseconds: float
) -> None:
    for tick in await _ticks(world, target):
        assert len(str(tick["t"])) == digits
        assert abs(tick["t"] * nanoseconds / 1e9 - time.time()) < 10


async def test_nanoseconds_have_been_through_a_float64(world: World) -> None:
    for tick in await _ticks(world, "fmp.stocks"):
        assert str(tick["t"]).endswith("00")
        assert json.loads(f"[{tick['t']}]")[0] == tick["t"]


@legacy
async def test_prices_have_no_float_noise(world: World, target: str) -> None:
    longest = 0
    for text in await _texts(world, target):
        for number in re.findall(r'"[abl]p":([0-9.]+)', text):
            longest = max(longest, len(number.partition(".")[2]))
            assert "." not in number or not number.endswith(("0", "."))

    assert longest <= 8


async def test_crypto_names_its_venue(start: Start) -> None:
    async with start(crypto_venues=("binance", "coinbase")) as world:
        venues = {tick["e"] for tick in await _ticks(world, "fmp.crypto")}

    assert venues == {"binance", "coinbase"}


async def test_crypto_sizes_are_decimal(world: World) -> None:
    ticks = await _ticks(world, "fmp.crypto")

    assert any(isinstance(tick.get("bs"), float) for tick in ticks)


async def test_forex_has_quotes_only(world: World) -> None:
    assert {t["type"] for t in await _ticks(world, "fmp.forex", 200)} == {"Q"}


async def test_a_current_quote_is_that_of_the_sample(world: World) -> None:
    for quote in await _ticks(world, "fmp.stream"):
        assert list(quote) == CURRENT_KEYS
        assert quote["symbol"] == quote["symbol"].upper()
        assert len(str(quote["timestamp"])) == 10
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", quote["updatedAt"]
        )
        assert quote["range"] == (
            f"{_plain(quote['dayLow'])} - {_plain(quote['dayHigh'])}"
        )


def _plain(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")


async def test_a_delayed_stream_is_behind(world: World) -> None:
    await world.generate(500)
    async with world.subscribed("fmp.stream", "fmp-crypto-stream-delayed") as client:
        quote = await client.tick()

    assert time.time() - quote["timestamp"] > 60


async def test_the_current_volume_only_grows(world: World) -> None:
    await world.generate(2000)
    seen: dict[str, int] = {}
    async with world.subscribed("fmp.stream", "fmp-crypto-stream") as client:
        for quote in await client.ticks(300):
            assert quote["volume"] >= seen.get(quote["symbol"], 0)
            seen[quote["symbol"]] = quote["volume"]


async def test_the_same_seed_says_the_same_again(start: Start) -> None:
    runs = []
    for _ in range(2):
        async with start(seed=7) as world:
            ticks = await _ticks(world, "fmp.stocks")
            runs.append([{k: v for k, v in t.items() if k != "t"} for t in ticks])

    assert runs[0] == runs[1]


# As a fault bends them.


async def test_the_last_trade_of_a_quote_may_be_absent_null_or_set(
    world: World,
) -> None:
    for last, wanted in {"absent": [False], "null": [True], "set": [True]}.items():
        ticks = await _bent(world, "fmp.stocks", quote_last=last, types=["Q"])
        assert {"lp" in tick for tick in ticks} == set(wanted)
        if "lp" in ticks[0]:
            assert (ticks[0]["lp"] is None) == (last == "null")


async def test_the_rest_of_a_trade_may_be_null(world: World) -> None:
    ticks = await _bent(world, "fmp.stocks", trade_rest="null", types=["T"])

    assert list(ticks[0]) == ["s", "t", "type", "ap", "as", "bp", "bs", "lp", "ls"]
    assert ticks[0]["ap"] is None


@legacy
@pytest.mark.parametrize(
    ("unit", "digits"),
    [("ns", 19), ("us", 16), ("ms", 13), ("20 digits", 20), ("s", 10)],
)
async def test_the_unit_of_time_can_be_any(
    world: World, target: str, unit: str, digits: int
) -> None:
    ticks = await _bent(world, target, timestamp=unit)

    assert {len(str(tick["t"])) for tick in ticks} == {digits}


@legacy
async def test_the_time_may_be_missing(world: World, target: str) -> None:
    assert all("t" not in t for t in await _bent(world, target, timestamp="missing"))


async def test_the_time_of_a_current_quote_may_be_missing(world: World) -> None:
    ticks = await _bent(world, "fmp.stream", timestamp="missing")

    assert all("timestamp" not in tick for tick in ticks)


async def test_the_time_may_be_in_the_future(world: World) -> None:
    ticks = await _bent(world, "fmp.forex", timestamp_offset=3600)

    assert all(tick["t"] / 1000 > time.time() + 3000 for tick in ticks)


@pytest.mark.parametrize(
    ("price", "value"),
    [("zero", 0), ("null", None), ("tiny", 1e-8), ("integer", 150)],
)
@every
async def test_a_price_may_be_strange(
    world: World, target: str, price: str, value: float | None
) -> None:
    name = {"fmp.stream": "price"}.get(target, "bp")
    ticks = await _bent(world, target, price=price)

    assert all(tick[name] == value for tick in ticks if name in tick)
    assert any(name in tick for tick in ticks)


@every
async def test_a_price_may_be_negative(world: World, target: str) -> None:
    name = {"fmp.stream": "price"}.get(target, "bp")
    ticks = await _bent(world, target, price="negative")

    assert all(tick[name] < 0 for tick in ticks if name in tick)


@pytest.mark.parametrize("size", ["null", "decimal", "integer", "negative", "zero"])
async def test_a_size_may_be_strange(world: World, size: str) -> None:
    ticks = await _bent(world, "fmp.stocks", size=size, types=["Q"])

    wanted = {"null": None, "decimal": 100.5, "integer": 100}
    wanted |= {"negative": -100, "zero": 0}
    assert {tick["bs"] for tick in ticks} == {wanted[size]}


@every
async def test_a_frame_may_be_an_array(world: World, target: str) -> None:
    frames = await _bent(world, target, array=3)

    assert all(isinstance(frame, list) and len(frame) == 3 for frame in frames)


@every
async def test_there_may_be_unknown_fields_and_events(
    world: World, target: str
) -> None:
    frames = await _bent(world, target, unknown_fields=True, unknown_events=True)

    known = {*QUOTE_KEYS["fmp.stocks"], "e", *CURRENT_KEYS}
    assert any(set(frame) - known - {"event", "message"} for frame in frames)
    assert any("event" in frame for frame in frames)


async def test_a_current_quote_may_be_sent_again(world: World) -> None:
    ticks = await _bent(world, "fmp.stream", rebroadcast=0.9)

    by_symbol: dict[str, list[tuple[object, ...]]] = {}
    for tick in ticks:
        by_symbol.setdefault(tick["symbol"], []).append((tick["price"], tick["volume"]))
    assert any(len(set(said)) < len(said) for said in by_symbol.values())


@every
async def test_a_frame_may_come_twice(world: World, target: str) -> None:
    await world.fault(target, "duplicate", ratio=1.0, copies=2)

    texts = await _texts(world, target)

    assert all(texts[i] == texts[i + 1] == texts[i + 2] for i in range(0, 60, 3))


@legacy
async def test_frames_may_come_out_of_order(world: World, target: str) -> None:
    await world.fault(target, "out_of_order", ratio=0.5, seconds=5)

    stamps = [tick["t"] for tick in await _ticks(world, target)]

    assert stamps != sorted(stamps)


@every
async def test_a_burst_sends_thousands_of_frames(world: World, target: str) -> None:
    async with world.subscribed(target) as client:
        await world.fault(target, "burst", count=5000)

        assert len(await client.ticks(5000)) == 5000
        assert await client.quiet(0.1)
