"""
Bad input from the upstreams: counted, answered by nothing, and good input unharmed.

Each case is sent between two good frames that must arrive. At the end every event is
accounted for, and the reject counters add up to the bad frames that were sent.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mesh import Listener, Mesh, run_mesh


pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)
_BASE = 1_645_216_790_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with run_mesh(tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prices(mesh: Mesh) -> Listener:
    listener = mesh.prices("AAPL")
    await mesh.subscribed("fmp.stocks", "aapl")
    return listener


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def news(mesh: Mesh) -> Listener:
    listener = mesh.news()
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await listener.until(lambda m: m["type"] == "test")
    return listener


def raw(data: bytes) -> dict[str, str]:
    return {"bytes_b64": base64.b64encode(data).decode()}


def text(body: str) -> dict[str, str]:
    return {"text": body}


def tick(**fields: Any) -> dict[str, str]:
    number = next(_numbers)
    event = {"s": "aapl", "t": _BASE + number * 1000, "type": "T", "lp": 1.5, "ls": 1}
    return text(json.dumps(event | fields))


async def good_tick(mesh: Mesh, prices: Listener) -> None:
    price = f"{1000 + next(_numbers)}.5"
    frame = tick()["text"].replace("1.5", price)
    assert await mesh.simulator.inject("fmp.stocks", text(frame)) == 1
    await prices.until(lambda m: str(m["last_price"]) == price)


async def good_item(mesh: Mesh, news: Listener) -> None:
    title = f"좋은 기사 {next(_numbers)}"
    assert await mesh.simulator.inject("ls.ws", item(title=title)) == 1
    await news.until(lambda m: m.get("title") == title)


def item(**fields: Any) -> dict[str, Any]:
    body = {
        "date": "20260715",
        "time": "090130",
        "id": "23",
        "realkey": f"2026071509013001{next(_numbers):08}",
        "title": "제목",
        "code": "",
        "bodysize": "1",
    }
    return {"header": {"tr_cd": "NWS", "tr_key": "NWS001"}, "body": body | fields}


async def refused(mesh: Mesh, module: str) -> dict[str, float]:
    """Return the counters of what was not taken, by reason."""
    service = mesh.services[module]
    counts = {
        kind: await service.metric(f"feedmesh_ingest_{kind}_total")
        for kind in ("rejected", "quarantined", "deduplicated", "flagged")
    }
    for flag in ("old", "late"):
        counts["flagged"] -= await service.metric(
            "feedmesh_ingest_flagged_total", flag=flag
        )
    return counts


FMP_CASES: dict[str, tuple[dict[str, str], str]] = {
    "empty text frame": (text(""), "quarantined"),
    "whitespace only": (text("  \n"), "quarantined"),
    "two objects in a frame": (text("{}{}"), "quarantined"),
    "top-level string": (text('"x"'), "quarantined"),
    "top-level number": (text("1"), "quarantined"),
    "top-level null": (text("null"), "quarantined"),
    "top-level true": (text("true"), "quarantined"),
    "binary frame": (raw(b"\x00\xff\xfe"), "quarantined"),
    "lone surrogate": (
        text('{"s":"aapl","t":1,"type":"\\ud800","lp":1}'),
        "quarantined",
    ),
    "a million digits": (tick(lp=int("9" * 4000)), "rejected"),
    "NaN": (text('{"s":"aapl","t":1,"type":"T","lp":NaN}'), "quarantined"),
    "Infinity": (text('{"s":"aapl","t":1,"type":"T","lp":Infinity}'), "quarantined"),
    "price zero": (tick(lp=0), "rejected"),
    "price negative": (tick(lp=-1), "rejected"),
    "price 1e308": (tick(lp=1e308), "flagged"),
    "price 1e-30": (tick(lp=1e-30), "flagged"),
    "size negative": (tick(ls=-1), "rejected"),
    "size fractional": (tick(ls=0.5), "flagged"),
    "unknown symbol": (tick(s="zzzz"), "rejected"),
    "symbol *": (tick(s="*"), "rejected"),
    "symbol >": (tick(s=">"), "rejected"),
    "symbol of 10 KB": (tick(s="a" * 10_000), "rejected"),
    "price as object": (tick(lp={}), "rejected"),
}


@pytest.mark.parametrize("case", FMP_CASES)
async def test_a_bad_price_frame_is_counted_and_harms_nothing(
    mesh: Mesh, prices: Listener, case: str
) -> None:
    frame, counter = FMP_CASES[case]
    await good_tick(mesh, prices)
    before = await refused(mesh, "ingest_fmp")
    await mesh.simulator.inject("fmp.stocks", frame)
    await good_tick(mesh, prices)
    after = await refused(mesh, "ingest_fmp")

    grown = {kind: after[kind] - before[kind] for kind in after}
    # Ticks of 2022 are flagged as old, so only other flags tell.
    assert grown.pop("flagged") == float(counter == "flagged")
    assert grown == {kind: float(kind == counter) for kind in grown}


async def test_a_duplicate_tick_is_counted(mesh: Mesh, prices: Listener) -> None:
    before = await refused(mesh, "ingest_fmp")
    frame = tick()
    await mesh.simulator.inject("fmp.stocks", frame, frame, frame)
    await good_tick(mesh, prices)
    after = await refused(mesh, "ingest_fmp")

    assert after["deduplicated"] - before["deduplicated"] == 2


async def test_an_array_with_bad_events_gives_the_good_ones(
    mesh: Mesh, prices: Listener
) -> None:
    parts = [json.loads(tick()["text"]) for _ in range(2)]
    parts[0]["lp"] = 77.25
    parts[1]["lp"] = 78.25
    array = [parts[0], {"s": "*"}, 7, parts[1]]
    before = await refused(mesh, "ingest_fmp")
    await mesh.simulator.inject("fmp.stocks", text(json.dumps(array)))
    await prices.until(lambda m: m["last_price"] == 78.25)
    after = await refused(mesh, "ingest_fmp")

    assert any(json.loads(m)["last_price"] == 77.25 for m in prices.heard)
    assert after["rejected"] - before["rejected"] == 2


async def test_a_bom_and_a_fragmented_frame_are_no_problem(
    mesh: Mesh, prices: Listener
) -> None:
    frame = tick()["text"].replace("1.5", "55.125")
    await mesh.simulator.inject("fmp.stocks", text("\ufeff" + frame))
    await prices.until(lambda m: m["last_price"] == 55.125)
    frame = tick()["text"].replace("1.5", "56.125")
    await mesh.simulator.call(
        "POST", "/inject", target="fmp.stocks", frames=[text(frame)], fragmented=True
    )
    await prices.until(lambda m: m["last_price"] == 56.125)


LS_CASES: dict[str, tuple[Any, str]] = {
    "empty": (text(""), "quarantined"),
    "two objects": (text("{}{}"), "quarantined"),
    "top-level null": (text("null"), "quarantined"),
    "binary garbage": (raw(b"\x00\xff"), "quarantined"),
    "CP949 title": (
        raw(json.dumps(item(title="삼성전자"), ensure_ascii=False).encode("cp949")),
        "quarantined",
    ),
    "lone surrogate": (text(json.dumps(item(title="\ud800"))), "quarantined"),
    "no body": (text('{"header":{"tr_cd":"NWS"},"body":null}'), "rejected"),
    "no header": (text('{"body":{}}'), "rejected"),
    "title as object": (item(title={}), "rejected"),
    "nobody asked": (
        {"header": {"tr_cd": "JIF", "tr_key": "0"}, "body": {"jstatus": "21"}},
        "rejected",
    ),
    "a header in the realkey": (
        item(realkey="1\r\nNats-Expected-Stream: none\r\n\r\n", title="머리"),
        "",
    ),
    "300 KB of codes": (item(code="005930" * 50_000), "rejected"),
    "no realkey": (item(realkey="", title="키 없음"), "flagged"),
    "empty title": (item(title=""), "flagged"),
    "5,000 characters": (item(title="가" * 5000), "flagged"),
    "impossible date": (item(date="20261399", title="날짜"), "flagged"),
    "odd codes": (item(code="12345", title="코드"), "flagged"),
}


@pytest.mark.parametrize("case", LS_CASES)
async def test_a_bad_news_frame_is_counted_and_harms_nothing(
    mesh: Mesh, news: Listener, case: str
) -> None:
    frame, counter = LS_CASES[case]
    await good_item(mesh, news)
    before = await refused(mesh, "ingest_ls")
    await mesh.simulator.inject("ls.ws", frame)
    await good_item(mesh, news)
    after = await refused(mesh, "ingest_ls")

    grown = {kind: after[kind] - before[kind] for kind in after}
    assert grown == {kind: float(kind == counter) for kind in grown}


async def test_markup_in_a_title_arrives_as_text(mesh: Mesh, news: Listener) -> None:
    title = "<script>alert(1)</script> &lt;b&gt; 속보"
    await mesh.simulator.inject("ls.ws", item(title=title))

    await news.until(lambda m: m.get("title") == title)


async def test_the_same_item_twice_is_shown_once(mesh: Mesh, news: Listener) -> None:
    twice = item(title="두 번")
    await mesh.simulator.inject("ls.ws", twice, twice)
    await good_item(mesh, news)

    assert [i["title"] for i in news.news()].count("두 번") == 1


async def test_a_key_that_is_used_again_keeps_both_items(
    mesh: Mesh, news: Listener
) -> None:
    key = "202607150901300199990001"
    await mesh.simulator.inject(
        "ls.ws", item(realkey=key, title="하나"), item(realkey=key, title="둘")
    )
    await news.until(lambda m: m.get("title") == "둘")

    assert [i["title"] for i in news.news() if i["realkey"] == key] == ["하나", "둘"]


async def test_a_burst_of_twenty_thousand_items_loses_none(
    mesh: Mesh, news: Listener
) -> None:
    service = mesh.services["ingest_ls"]
    await good_item(mesh, news)
    heard = len(news.news())
    stored = await service.metric("feedmesh_ingest_published_total", kind="news")
    before = await service.metric("feedmesh_ingest_received_total")
    await mesh.simulator.call(
        *("POST", "/fault"),
        target="ls.ws",
        kind="burst",
        count=20_000,
        per_second=20_000,
        what="news",
    )
    async with asyncio.timeout(60):
        while await service.metric("feedmesh_ingest_received_total") < before + 20_000:
            await asyncio.sleep(0.2)
        while await service.metric("feedmesh_ingest_backlog", kind="news"):
            await asyncio.sleep(0.2)
        published = await service.metric("feedmesh_ingest_published_total", kind="news")
        while len(news.heard) < heard + published - stored:
            await asyncio.sleep(0.2)
    await good_item(mesh, news)

    assert published - stored > 19_000  # the others repeat a key and a text
    assert len(news.news()) == heard + published - stored + 1


async def test_every_event_is_accounted_for(
    mesh: Mesh, prices: Listener, news: Listener
) -> None:
    await good_tick(mesh, prices)
    await good_item(mesh, news)
    for module in ("ingest_fmp", "ingest_ls"):
        service = mesh.services[module]
        counts = {
            name: await service.metric(f"feedmesh_ingest_{name}_total")
            for name in (
                "received",
                "published",
                "deduplicated",
                "rejected",
                "quarantined",
            )
        }
        received = counts.pop("received")
        assert received == sum(counts.values()), (module, counts)
        assert received > 20


async def test_a_frame_over_the_limit_costs_the_connection_not_the_process(
    mesh: Mesh, prices: Listener
) -> None:
    await mesh.simulator.inject("fmp.stocks", text("x" * 2_000_000))
    service = mesh.services["ingest_fmp"]
    async with asyncio.timeout(10):
        while not await service.metric(
            "feedmesh_ingest_reconnects_total", reason="frame_too_big"
        ):
            await asyncio.sleep(0.05)
    await mesh.subscribed("fmp.stocks", "aapl")
    await good_tick(mesh, prices)
