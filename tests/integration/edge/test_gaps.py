"""Gaps on a running edge: REST and protocol v3, now and after a restart."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import NatsProcess

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.gaps import FeedGap, encode_gap
from feedmesh.messages import encode


GAP = FeedGap(
    id="ls.news.1",
    feed="ls",
    link="news",
    since="2026-07-15T09:00:00.000000Z",
    until=None,
    reason="dropped",
)
ENDED = msgspec.structs.replace(GAP, until="2026-07-15T09:05:00.000000Z")


async def tell(bus: Bus, writer: Writer, gap: FeedGap) -> None:
    payload = encode(writer.head("gap"), encode_gap(gap))
    await bus.request(subjects.gaps(gap.feed), payload)


async def shown(edge: EdgeProcess, count: int, query: str = "") -> httpx.Response:
    """Return the answer of REST once it has *count* gaps."""
    async with httpx.AsyncClient(base_url=edge.url) as http, asyncio.timeout(15):
        while True:
            answer = await http.get(f"/api/v3/gaps{query}")
            if answer.is_success and len(answer.json()["gaps"]) == count:
                return answer
            await asyncio.sleep(0.05)


async def test_rest_shows_a_gap_while_it_lasts_and_when_it_has_ended(
    edge: EdgeProcess, bus: Bus, writer: Writer, nats_server: NatsProcess
) -> None:
    await tell(bus, writer, GAP)
    opened = (await shown(edge, 1)).json()
    await tell(bus, writer, ENDED)
    ended = await shown(edge, 1, f"?feed=ls&since={opened['position']}")
    async with httpx.AsyncClient(base_url=edge.url) as http:
        same = await http.get(
            f"/api/v3/gaps?feed=ls&since={opened['position']}",
            headers={"if-none-match": ended.headers["etag"]},
        )
        other = await http.get("/api/v3/gaps?feed=fmp")
        bad = await http.get("/api/v3/gaps?since=yesterday")
    async with run_edge(nats_server) as second:
        again = (await shown(second, 1)).json()

    assert opened["gaps"] == [msgspec.to_builtins(GAP)]
    assert ended.json()["gaps"] == again["gaps"] == [msgspec.to_builtins(ENDED)]
    assert ended.json()["complete"]
    assert same.status_code == 304
    assert other.json()["gaps"] == []
    assert bad.status_code == 422
    assert bad.headers["content-type"] == "application/problem+json"


async def test_the_stream_tells_open_gaps_and_then_every_change(
    edge: EdgeProcess, bus: Bus, writer: Writer
) -> None:
    await tell(bus, writer, GAP)
    await shown(edge, 1)
    async with edge.stream() as client:
        await client.ask("subscribe", channel="status")
        first = await client.take("feed_gap")
        await tell(bus, writer, ENDED)
        second = await client.take("feed_gap")

    assert first == [msgspec.to_builtins(GAP)]
    assert second == [msgspec.to_builtins(ENDED)]
