"""Canaries go the whole way, and nobody meets them who does not ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from mesh import Mesh, run_mesh
from processes import ServiceProcess, run_service

from feedmesh.canary import read_mark
from feedmesh.ingest.accounting import accounts_of


SINCE = "2026-01-01T00:00:00Z"
WILDCARDS = ["*", ">", "^", "^CANARY.*"]
CANARIES = {"FMP_CANARY": "200ms", "LS_CANARY": "200ms"}


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with run_mesh(tmp_path, env=CANARIES) as mesh:
        yield mesh


@pytest.fixture
async def prober(mesh: Mesh) -> AsyncIterator[ServiceProcess]:
    env = {
        "PROBER_EDGES": f"ws://127.0.0.1:{mesh.edge_port}/api/v3/stream",
        "PROBER_NEWS_AGE": "3s",
        "PROBER_PRICE_AGE": "1s",
        "OPS_PORT": "0",
    }
    async with run_service("prober", env) as prober:
        await prober.ready()
        yield prober


async def seen(prober: ServiceProcess, **labels: str) -> float:
    return await prober.metric("feedmesh_prober_canaries_total", **labels)


async def until_seen(prober: ServiceProcess, count: int, **labels: str) -> None:
    async with asyncio.timeout(40):
        while await seen(prober, result="seen", **labels) < count:
            await asyncio.sleep(0.1)


async def test_they_come_in_order_to_whom_asked_for_them_and_to_nobody_else(
    mesh: Mesh, prober: ServiceProcess
) -> None:
    news = {"op": "subscribe", "channel": "news"}
    everything = {"op": "subscribe", "channel": "prices", "symbols": WILDCARDS}
    listeners = [
        mesh.news(),
        mesh.prices(*WILDCARDS),
        mesh.listen("/api/v3/stream", news, everything),
    ]
    await until_seen(prober, 10, feed="fmp", kind="price")
    await until_seen(prober, 10, feed="ls", kind="price")
    await until_seen(prober, 2, feed="ls", kind="news")

    for result in ("lost", "late", "repeated"):
        assert await seen(prober, result=result) == 0
    latency = "feedmesh_prober_latency_seconds"
    assert await prober.metric(f"{latency}_count", kind="price") >= 20
    assert await prober.metric(f"{latency}_sum", kind="price") > 0
    checks = "feedmesh_prober_availability_checks_total"
    assert await prober.metric(checks, result="good") > 0
    await nobody_else_met_them(mesh, [t for one in listeners for t in one.heard])
    await who_asks_by_name_gets_them(mesh)
    edge = mesh.services["edge"]
    assert await edge.metric("feedmesh_edge_cached_symbols") == 0
    assert await edge.metric("feedmesh_edge_news_items_total") == 0
    for module in ("ingest_fmp", "ingest_ls"):
        await all_are_accounted_for(mesh.services[module])


async def nobody_else_met_them(mesh: Mesh, heard: list[str]) -> None:
    async with httpx.AsyncClient(base_url=mesh.url) as http:
        news = (await http.get("/api/v3/news?limit=100")).json()["items"]
        day = f"/api/v3/news?since={SINCE}"
        news += (await http.get(day)).json()["items"]
        for wild in WILDCARDS:
            query = {"types": wild}
            assert "canary " not in (await http.get("/api/v3/news", params=query)).text
        cache = (await http.get("/api/v2/realtime/cache")).json()
        prices = (await http.get("/api/v3/prices?limit=100")).text
    upstream = await mesh.simulator.call("GET", "/stats")

    assert heard
    assert news == []
    assert not [text for text in heard if read_mark(text) is not None]
    assert "CANARY" not in str(cache) + prices + str(upstream["targets"])


async def who_asks_by_name_gets_them(mesh: Mesh) -> None:
    """The control: they are there."""
    async with httpx.AsyncClient(base_url=mesh.url) as http:
        news = await http.get(
            "/api/v3/news", params={"types": "canary", "since": SINCE}
        )
        prices = await http.get("/api/v3/prices", params={"symbols": "^CANARY.FMP"})

    assert "canary " in prices.text + news.text
    assert "^CANARY.FMP" in prices.text


async def all_are_accounted_for(service: ServiceProcess) -> None:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{await service.ops()}/metrics")).text
    accounts = accounts_of(text)

    assert accounts.missing in (-1, 0, 1)  # one may be under way
    assert accounts.published > 0


async def test_an_edge_that_is_gone_is_seen(mesh: Mesh, prober: ServiceProcess) -> None:
    await until_seen(prober, 3, feed="fmp", kind="price")
    checks = "feedmesh_prober_freshness_checks_total"
    assert await prober.metric(checks, kind="price", result="bad") == 0

    await mesh.services["edge"].stop()

    async with asyncio.timeout(20):
        while await prober.metric(checks, kind="price", result="bad") < 2:
            await asyncio.sleep(0.2)
    checks = "feedmesh_prober_availability_checks_total"
    async with asyncio.timeout(20):
        while await prober.metric(checks, result="bad") < 2:
            await asyncio.sleep(0.2)
