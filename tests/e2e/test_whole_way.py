"""
From upstream frame to client, all processes real.

The official sample frames go in at the simulator's sockets; what comes out at the
client is checked field by field.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mesh import Mesh, run_mesh


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with run_mesh(tmp_path) as mesh:
        yield mesh


STOCK_QUOTE = (
    '{"s":"aapl","t":1645216790788174600,"type":"Q","ap":152.46,"as":200,"bp":152.31,'
    '"bs":100,"lp":152.17,"ls":100}'
)
STOCK_QUOTE_NULLS = (
    '{"s":"key","t":1689947444488938500,"type":"Q","ap":11.84,"as":400,"bp":11.82,'
    '"bs":1000,"lp":null,"ls":null}'
)
CRYPTO_QUOTE = (
    '{"s":"btcusd","t":16487238632060000000,"e":"binance","type":"Q","bs":0.00689248,'
    '"bp":47244.8,"as":1.72784126,"ap":47244.9}'
)
FOREX_QUOTE = (
    '{"s":"eurusd","t":1701958248213,"type":"Q","ap":1.07865,"as":1000000,'
    '"bp":1.07856,"bs":1000000}'
)

PRICE_CASES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "fmp.stocks",
        STOCK_QUOTE,
        {
            "symbol": "AAPL",
            "timestamp": 1645216790788,
            "data_type": "Q",
            "last_price": 152.17,
            "last_size": 100,
            "ask_price": 152.46,
            "ask_size": 200,
            "bid_price": 152.31,
            "bid_size": 100,
        },
    ),
    (
        "fmp.stocks",
        STOCK_QUOTE_NULLS,
        {
            "symbol": "KEY",
            "timestamp": 1689947444488,
            "data_type": "Q",
            "last_price": None,
            "last_size": None,
            "ask_price": 11.84,
            "ask_size": 400,
            "bid_price": 11.82,
            "bid_size": 1000,
        },
    ),
    (
        "fmp.stocks",
        '{"s":"msft","t":1645216790788174600,"type":"T","lp":152.170,"ls":100}',
        {
            "symbol": "MSFT",
            "timestamp": 1645216790788,
            "data_type": "T",
            "last_price": 152.17,
            "last_size": 100,
            "ask_price": None,
            "ask_size": None,
            "bid_price": None,
            "bid_size": None,
        },
    ),
    (
        "fmp.stocks",
        '{"s":"nvda","t":1645216790788174600,"type":"T","ap":null,"as":null,'
        '"bp":null,"bs":null,"lp":152.17,"ls":100}',
        {
            "symbol": "NVDA",
            "timestamp": 1645216790788,
            "data_type": "T",
            "last_price": 152.17,
            "last_size": 100,
            "ask_price": None,
            "ask_size": None,
            "bid_price": None,
            "bid_size": None,
        },
    ),
    (
        # A trade break alone: the trade that it takes back never becomes a price.
        "fmp.stocks",
        '{"s":"tsla","t":1645216790788174600,"type":"B","lp":152.17,"ls":100}',
        {
            "symbol": "TSLA",
            "timestamp": 1645216790788,
            "data_type": "B",
            "last_price": None,
            "last_size": None,
            "ask_price": None,
            "ask_size": None,
            "bid_price": None,
            "bid_size": None,
        },
    ),
    (
        "fmp.stocks",
        '[{"s":"amzn","t":1645216790788174600,"type":"Q","ap":152.46,"as":200,'
        '"bp":152.31,"bs":100,"lp":null,"ls":null}]',
        {
            "symbol": "AMZN",
            "timestamp": 1645216790788,
            "data_type": "Q",
            "last_price": None,
            "last_size": None,
            "ask_price": 152.46,
            "ask_size": 200,
            "bid_price": 152.31,
            "bid_size": 100,
        },
    ),
    (
        "fmp.crypto",
        CRYPTO_QUOTE,
        {
            "symbol": "BTCUSD",
            "timestamp": 1648723863206,
            "data_type": "Q",
            "last_price": None,
            "last_size": None,
            "ask_price": 47244.9,
            "ask_size": 1.72784126,
            "bid_price": 47244.8,
            "bid_size": 0.00689248,
        },
    ),
    (
        "fmp.forex",
        FOREX_QUOTE,
        {
            "symbol": "EURUSD",
            "timestamp": 1701958248213,
            "data_type": "Q",
            "last_price": None,
            "last_size": None,
            "ask_price": 1.07865,
            "ask_size": 1000000,
            "bid_price": 1.07856,
            "bid_size": 1000000,
        },
    ),
]

OFFICIAL_NEWS = (
    '{"header":{"tr_cd":"NWS","tr_key":"NWS001"},"body":{"date":"20230614",'
    '"code":"000000011810","realkey":"202306140952172704000165","bodysize":"4841",'
    '"time":"095217","id":"27",'
    '"title":"STX, ‘2차전지 핵심’ 수산화리튬 사업 박차…中 영정리튬과 MOU"}}'
)


def news_frame(realkey: str, title: str, code: str = "", provider: str = "23") -> Any:
    """Return an NWS frame as the portal shows it."""
    body = {
        "date": "20260715",
        "code": code,
        "realkey": realkey,
        "bodysize": "1200",
        "time": "090130",
        "id": provider,
        "title": title,
        "categoryid": "99",
        "codeaccu": "C",
    }
    return {"header": {"tr_cd": "NWS", "tr_key": "NWS001"}, "body": body}


async def test_official_price_frames_arrive_field_by_field(mesh: Mesh) -> None:
    client = mesh.prices(*(expected["symbol"] for _, _, expected in PRICE_CASES))
    stocks = [e["symbol"] for target, _, e in PRICE_CASES if target == "fmp.stocks"]
    await mesh.subscribed("fmp.stocks", *stocks)
    await mesh.subscribed("fmp.crypto", "btcusd")
    await mesh.subscribed("fmp.forex", "eurusd")
    for target, frame, expected in PRICE_CASES:
        assert await mesh.simulator.inject(target, {"text": frame}) == 1
        got = await client.until(lambda m, s=expected["symbol"]: m["symbol"] == s)
        cached_at = got.pop("cached_at")
        assert got == {"type": "price_update", **expected}
        assert len(cached_at) == len("2024-11-10T12:00:00")

    digits = next(text for text in client.heard if '"MSFT"' in text)
    assert '"last_price": 152.170,' in digits


async def test_a_quote_of_the_stream_product_arrives_field_by_field(
    tmp_path: Path,
) -> None:
    env = {"FMP_PRODUCT": "stream"}
    quote = (
        '{"symbol":"AAPL","name":"Apple Inc.","price":198.420,"change":2.41,'
        '"changesPercentage":1.23,"volume":12345678,"timestamp":1747473420,'
        '"type":"stock","updatedAt":"2026-05-15T16:30:00.504Z"}'
    )
    async with run_mesh(tmp_path, env=env) as mesh:
        client = mesh.prices("AAPL")
        await mesh.subscribed("fmp.stream", "fmp-us-equities-stream")
        await mesh.simulator.inject("fmp.stream", {"text": quote})
        got = await client.until(lambda m: m["symbol"] == "AAPL")

    assert '"last_price": 198.420,' in client.heard[0]
    assert (got["timestamp"], got["data_type"]) == (1747473420000, "T")
    assert [got[name] for name in ("last_size", "ask_price", "bid_price")] == [None] * 3


async def test_official_news_frames_arrive_field_by_field(mesh: Mesh) -> None:
    client = mesh.news()
    await client.until(lambda m: m["type"] == "test")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject(
        "ls.ws",
        {"text": OFFICIAL_NEWS},
        {"text": OFFICIAL_NEWS.replace("0952172704000165", "0957482704000212")},
        news_frame("202607150901300100000003", "두 종목", "000000005930000000000660"),
        news_frame("202607150901400100000004", "영문자 종목", "0000000017J0"),
        news_frame("20260715090150010000AB05", "[공시] <b>보고서</b>", "", "15"),
        news_frame("202607150902000100000006", "알 수 없는 매체", "", "9Z"),
    )
    await client.until(lambda m: m.get("title") == "알 수 없는 매체")

    first, repeat, two, letters, disclosure, unknown = client.news()
    received_at = first.pop("received_at")
    assert received_at.endswith("Z")
    assert first == {
        "type": "news",
        "date": "20230614",
        "time": "095217",
        "id": "27",
        "realkey": "202306140952172704000165",
        "title": "STX, ‘2차전지 핵심’ 수산화리튬 사업 박차…中 영정리튬과 MOU",
        "bodysize": "4841",
        "code": "000000011810",
        "provider": "헤럴드경제",
        "news_type": "article",
        "stocks": [{"code": "011810", "name": "STX"}],
        "published_at": "2023-06-14T09:52:17+09:00",
        "repeat_of": None,
    }
    assert repeat["title"] == first["title"]
    assert repeat["repeat_of"] == first["realkey"]
    assert two["stocks"] == [
        {"code": "005930", "name": "삼성전자"},
        {"code": "000660", "name": "SK하이닉스"},
    ]
    assert [stock["code"] for stock in letters["stocks"]] == ["0017J0"]
    assert disclosure["news_type"] == "disclosure"
    assert disclosure["title"] == "[공시] <b>보고서</b>"
    assert disclosure["provider"] == "공시"
    assert unknown["provider"] is None
    assert unknown["id"] == "9Z"


async def test_official_korean_trades_arrive_as_prices(mesh: Mesh) -> None:
    client = mesh.prices("005930", "122870")
    await mesh.subscribed("ls.ws", "S3_:005930", "K3_:122870")
    trades = [
        ("S3_", "005930", "55550", "1", "55600", "55500", "090851", "10887"),
        ("K3_", "122870", "81700", "3", "81700", "81600", "104904", "189353"),
    ]
    for code, symbol, price, size, ask, bid, time, volume in trades:
        body = {
            "price": price,
            "cvolume": size,
            "offerho": ask,
            "bidho": bid,
            "shcode": symbol,
            "chetime": time,
            "volume": volume,
            "sign": "2",
            "change": "1050",
            "cgubun": "+",
            "exchname": "KRX",
            "status": "00",
        }
        frame = {"header": {"tr_cd": code, "tr_key": symbol}, "body": body}
        await mesh.simulator.inject("ls.ws", frame)
        got = await client.until(lambda m, s=symbol: m["symbol"] == s)
        assert got["data_type"] == "T"
        assert (got["last_price"], got["last_size"]) == (int(price), int(size))
        assert (got["ask_price"], got["bid_price"]) == (int(ask), int(bid))


@pytest.mark.parametrize("module", ["edge", "ingest_fmp", "simulator", "nats"])
async def test_prices_resume_after_any_one_part_was_killed(
    mesh: Mesh, module: str
) -> None:
    client = mesh.prices("AAPL")
    await mesh.subscribed("fmp.stocks", "aapl")

    async def trade(price: str) -> None:
        time = 1645216790788174600 + int(float(price) * 10**9)
        frame = f'{{"s":"aapl","t":{time},"type":"T","lp":{price},"ls":100}}'
        async with asyncio.timeout(40):
            # The last one wins: a trade that nobody took is simply sent again.
            while not any(f'"last_price": {price},' in text for text in client.heard):
                await mesh.simulator.inject("fmp.stocks", {"text": frame})
                await asyncio.sleep(0.2)

    await trade("1.10")
    await kill(mesh, module)
    await trade("2.20")


@pytest.mark.parametrize("module", ["edge", "ingest_ls", "simulator", "nats"])
async def test_the_log_has_every_item_once_after_any_one_part_was_killed(
    mesh: Mesh, module: str
) -> None:
    await mesh.subscribed("ls.ws", "NWS:NWS001")

    async def send(first: int) -> None:
        for number in range(first, first + 20):
            frame = news_frame(f"2026071509013001{number:08}", f"기사 {number}")
            assert await mesh.simulator.inject("ls.ws", frame) == 1

    async def logged() -> list[str]:
        listener = await mesh.stored_news()
        return [item["title"] for item in listener]

    await send(0)
    async with asyncio.timeout(20):
        while len(await logged()) < 20:
            await asyncio.sleep(0.1)
    await kill(mesh, module)
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await send(20)
    async with asyncio.timeout(40):
        while len(await logged()) < 40:
            await asyncio.sleep(0.1)

    assert await logged() == [f"기사 {number}" for number in range(40)]


async def kill(mesh: Mesh, module: str) -> None:
    """End one part as a crash would, and start it again."""
    if module == "nats":
        await mesh.nats.stop()
        await mesh.nats.start()
    elif module == "simulator":
        await mesh.restart_simulator()
    else:
        await mesh.restart(module, signal.SIGKILL)
