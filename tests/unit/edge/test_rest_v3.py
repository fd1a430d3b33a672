"""The REST routes with everything behind them replaced, but for cache and tape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.news.items import Entry, Hole, NewsFilter, StoredItem, read_entries
from edge.news.log import Page, Recovery
from edge.positions import GapPosition, NewsPosition, PricePosition
from edge.prices.cache import PriceCache
from edge.prices.tape import PriceTape
from edge.prices.updates import Update
from edge.rest.answers import Waiters, fingerprint
from edge.rest.freshness import GRACE_SECONDS, Freshness
from edge.rest.gate import AddressBuckets, RestGate
from edge.rest.news import Found, news_after
from edge.rest.prices import PriceRows
from edge.rest.problems import add_problems
from edge.rest.routes import RestParts, rest_v3
from feedmesh.errors import BusError
from feedmesh.gaps import FeedGap, StoredGap, encode_gap
from feedmesh.messages import encode, head
from feedmesh.news import NewsItem, Stock, encode_news
from feedmesh.prices import PriceState, encode_frame
from feedmesh.status import FeedFrame
from feedmesh.stored import StoredMessage


STREAM = "0123456789ab"
DAY = 86_400_000_000_000


def stored(
    sequence: int, news_type: str = "article", code: str = "005930"
) -> StoredMessage:
    """Return the message of a stream that carries an item."""
    item = NewsItem(
        date="20230614",
        time="095217",
        id="27",
        realkey=str(sequence),
        title=f"item {sequence}",
        bodysize="1",
        code=code,
        provider=None,
        news_type=news_type,
        stocks=(Stock(code, None),),
        published_at="2023-06-14T09:52:17+09:00",
        received_at="2023-06-14T00:52:30.123456Z",
    )
    envelope = head("news", "ls", (1, 1), event_ns=0, received_ns=0, published_ns=0)
    payload = encode(envelope, encode_news(item))
    return StoredMessage(f"news.{news_type}", sequence, payload)


class FakeLog:
    """A log of which only the newest part is in memory."""

    def __init__(self) -> None:
        self.stream = STREAM
        self.messages: list[StoredMessage] = []
        self.kept = 10_000
        self.hidden = 0
        self.away = False
        self.asked = 0

    def add(self, count: int, **fields: str) -> None:
        first = self.messages[-1].sequence if self.messages else 0
        self.messages += [stored(first + n, **fields) for n in range(1, count + 1)]

    @property
    def position(self) -> NewsPosition:
        last = self.messages[-1].sequence if self.messages else 0
        return NewsPosition(self.stream, last - self.hidden)

    def _entries(self, after: int) -> list[Entry]:
        place = NewsPosition(self.stream, after)
        rest = [m for m in self.messages if after < m.sequence]
        return list(read_entries(rest, place))

    def recent(self, limit: int) -> list[StoredItem]:
        items = [e for e in self._entries(0) if isinstance(e, StoredItem)]
        return items[-min(limit, self.kept) :]

    def in_memory(self, position: NewsPosition) -> bool:
        return (
            position.stream == self.stream
            and position.sequence >= self.position.sequence - self.kept
        )

    def after(self, position: NewsPosition, limit: int) -> Page:
        there = self._entries(position.sequence)
        entries = there[:limit]
        end = entries[-1].sequence if entries else position.sequence
        more = len(entries) < len(there)
        return Page(entries, position._replace(sequence=end), more)

    async def read(self, position: NewsPosition) -> Page:
        self.asked += 1
        if self.away:
            raise BusError("away")
        return self.after(position, 100)

    async def recovery(self, position: NewsPosition) -> Recovery:
        if self.away:
            return Recovery(False, "stream_unavailable")
        if position.stream != self.stream:
            return Recovery(False, "stream_recreated")
        if position > self.position:
            return Recovery(False, "unknown_position")
        entries = self._entries(position.sequence)
        if entries and isinstance(entries[0], Hole):
            return Recovery(False, "expired")
        if any(isinstance(entry, Hole) for entry in entries):
            return Recovery(False, "removed")
        return Recovery(True)


class FakeBoard:
    """Gaps that are just there."""

    def __init__(self) -> None:
        self.position = GapPosition(STREAM, 0)
        self.forgotten_to = 0
        self.gaps: list[StoredGap] = []

    def records(self) -> list[StoredGap]:
        return self.gaps

    def add(self, since: str, until: str | None, feed: str = "ls") -> None:
        """Have a gap told."""
        sequence = self.position.sequence + 1
        self.position = GapPosition(STREAM, sequence)
        gap = FeedGap(
            id=f"{feed}.{since}",
            feed=feed,
            link="news",
            since=since,
            until=until,
            reason="dropped",
        )
        self.gaps.append(StoredGap(sequence, gap, encode_gap(gap)))


class World:
    """Everything behind the routes, and a client in front of them."""

    def __init__(self) -> None:
        self.cache = PriceCache()
        self.tape = PriceTape(1000)
        self.log = FakeLog()
        self.board = FakeBoard()
        self.states = {"fmp": "live"}
        self.connected = self.current = True
        self.seconds = 1000.0
        self.allowed: Callable[[str], bool] | None = None
        self.found = Found(NewsPosition(STREAM, 0), complete=True)
        self.instants: list[int] = []
        self.clients = 3
        self._seq = 0
        self.buckets = AddressBuckets(100, lambda: self.seconds)
        self.app = self._build()
        self.http = self.client("192.0.2.1")

    def client(self, address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(
                self.app, raise_app_exceptions=False, client=(address, 1)
            ),
            base_url="http://edge",
        )

    def price(self, symbol: str, price: str = "189.450", source: str = "fmp") -> Update:
        """Let a price come in live; the feed is settled."""
        self._seq += 1
        state = PriceState(
            symbol=symbol,
            timestamp_ms=1699564800000,
            data_type="T",
            last_price=price,
        )
        update = Update(symbol, source, (7, self._seq), encode_frame(state))
        self.tape.live(update)
        self.cache.apply(update)
        self.tape.settle([(source, update.version)])
        return update

    def feeds(self) -> dict[str, FeedFrame]:
        return {
            name: FeedFrame(
                feed=name,
                state=state,
                since="2024-11-10T12:00:00Z",
                last_message_at="2024-11-10T12:00:00Z",
                reconnects=0,
                links={},
                at="2024-11-10T12:00:00Z",
            )
            for name, state in self.states.items()
        }

    async def _find(self, instant: int) -> Found:
        self.instants.append(instant)
        return self.found

    def _build(self) -> FastAPI:
        app = FastAPI()
        parts = RestParts(
            cache=self.cache,
            tape=self.tape,
            news=self.log,
            find_instant=self._find,
            feeds=self,
            gaps=self.board,
            freshness=Freshness(
                lambda: self.connected, lambda: self.current, lambda: self.seconds
            ),
            edge=lambda: {"status": "healthy", "clients": self.clients},
            may_see=lambda _: self.allowed,
            waiters=Waiters(limit=2, seconds=0.2),
        )
        app.include_router(rest_v3(parts))

        @app.get("/api/v2/old")
        async def old(limit: int) -> Response:
            return Response(str(limit))

        @app.get("/api/v3/broken")
        async def broken() -> Response:
            raise RuntimeError("secret")

        add_problems(app, _old_unprocessable)
        app.add_middleware(RestGate, buckets=self.buckets)
        return app


async def _old_unprocessable(_: Request, __: Exception) -> Response:
    return Response('{"detail": "old"}', 422, media_type="application/json")


def shared_world() -> World:
    """Return one for tests that ask very much of it."""
    world = World()
    world.price("AAPL")
    world.log.add(5)
    return world


SHARED = shared_world()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.http:
        yield world


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that *response* is the problem *code*; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:feedmesh:problem:{code}"
    assert body["status"] == status
    assert body["code"] == code
    assert body["title"]
    assert body["detail"]
    return body


# Prices


async def test_a_price_keeps_the_bytes_of_its_frame(world: World) -> None:
    update = world.price("AAPL", "189.4500000000000000001")

    listing = await world.http.get("/api/v3/prices?symbols=AAPL")
    one = await world.http.get("/api/v3/prices/AAPL")

    assert update.frame[:-1] in listing.content
    assert update.frame[:-1] in one.content
    assert one.headers["content-type"] == "application/json"
    body = one.json()
    assert list(body)[-5:] == ["position", "source", "state", "age_ms", "stale"]
    assert body["position"] == PricePosition("fmp", 7, 1).token()
    assert body["age_ms"] > 1_000_000


async def test_a_listing_tells_what_is_missing_and_from_where_to_resume(
    world: World,
) -> None:
    world.price("MSFT")
    world.price("AAPL")

    body = (await world.http.get("/api/v3/prices?symbols=xyz,aapl&symbols=AAPL")).json()

    assert [price["symbol"] for price in body["prices"]] == ["AAPL"]
    assert body["missing"] == ["XYZ"]
    assert body["positions"] == [PricePosition("fmp", 7, 2).token()]
    assert body["next_cursor"] is None
    assert body["stale"] is False


@pytest.mark.parametrize(
    ("feed", "shown"),
    [
        ("live", "live"),
        ("connecting", "recovering"),
        ("down", "recovering"),
        ("busy", "recovering"),
        ("refused", "recovering"),
        ("unknown", "stale"),
        ("idle", "stale"),
    ],
)
async def test_the_state_of_a_price_is_that_of_its_feed(
    world: World, feed: str, shown: str
) -> None:
    world.price("AAPL")
    world.states["fmp"] = feed

    body = (await world.http.get("/api/v3/prices/AAPL")).json()

    assert body["state"] == shown


async def test_a_price_of_a_feed_without_a_status_is_stale(world: World) -> None:
    world.price("AAPL", source="other")

    assert (await world.http.get("/api/v3/prices/AAPL")).json()["state"] == "stale"


async def test_pages_go_by_symbol_and_keep_the_first_positions(world: World) -> None:
    symbols = [f"S{n:03}" for n in range(25)]
    for symbol in reversed(symbols):
        world.price(symbol)
    first = (await world.http.get("/api/v3/prices?limit=10")).json()
    world.price("S000")
    seen, page = list(first["prices"]), first
    while page["next_cursor"] is not None:
        url = f"/api/v3/prices?limit=10&cursor={page['next_cursor']}"
        page = (await world.http.get(url)).json()
        assert page["positions"] == first["positions"]
        seen += page["prices"]

    assert [price["symbol"] for price in seen] == symbols


async def test_new_symbols_show_in_listings(world: World) -> None:
    for symbol in ("B", "A"):
        world.price(symbol)
        body = (await world.http.get("/api/v3/prices")).json()

    assert [price["symbol"] for price in body["prices"]] == ["A", "B"]


async def test_a_cursor_is_bound_to_its_query(world: World) -> None:
    for symbol in "ABC":
        world.price(symbol)
    cursor = (await world.http.get("/api/v3/prices?limit=1")).json()["next_cursor"]
    changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]

    for query in (
        f"symbols=A,B,C&cursor={cursor}",
        f"cursor={changed}",
        f"cursor={cursor}AAAA",
        "cursor=",
        "cursor=%F0%9F%98%80",
        "cursor=" + "A" * 5000,
    ):
        problem(await world.http.get(f"/api/v3/prices?{query}"), 400, "bad_cursor")


@given(st.text(max_size=200))
def test_no_forged_cursor_does_more_than_be_refused(cursor: str) -> None:
    rows = PriceRows(PriceCache(), PriceTape(1), dict)

    with pytest.raises(Exception, match="cursor"):
        rows.page(None, 10, cursor)


@pytest.mark.parametrize(
    "query",
    [
        "symbols=",
        "symbols=,",
        "symbols=AAPL,",
        "symbols=*",
        "symbols=prices.%3E",
        "symbols=" + "A" * 30,
        "symbols=%00",
        "symbols=" + ",".join(["A"] * 1001),
        "&".join(f"symbols=A{n}" for n in range(1001)),
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=1e400",
        "limit=" + "9" * 5000,
        "min_position=",
        "min_position=fmp.1.2",
        "min_position=fmp.1.2.ffff",
        "min_position=" + NewsPosition(STREAM, 1).token(),
        "min_seq=17",
        "min_position=" + ",".join([PricePosition("f", 1, 1).token()] * 33),
    ],
)
async def test_a_query_that_breaks_a_rule_is_refused(world: World, query: str) -> None:
    response = await world.http.get(f"/api/v3/prices?{query}")

    body = problem(response, 422, "invalid_parameter")
    assert body["parameter"] == query.partition("=")[0].replace("seq", "position")
    assert len(response.content) < 500


async def test_a_thousand_symbols_may_be_asked_for(world: World) -> None:
    symbols = ",".join(f"{n:020}" for n in range(1000))

    body = (await world.http.get("/api/v3/prices", params={"symbols": symbols})).json()

    assert len(body["missing"]) == 1000


@pytest.mark.parametrize(
    "path",
    ["XYZ", "%2e%2e", "%2e%2e%2f", "%2E%2E%2Fetc", "/", "a%20b", "A" * 1000, "%00"],
)
async def test_an_unknown_symbol_is_not_found(world: World, path: str) -> None:
    url = httpx.URL("http://edge", raw_path=f"/api/v3/prices/{path}".encode())

    problem(await world.http.get(url), 404, "unknown_symbol")


async def test_a_symbol_may_hold_a_slash_and_be_in_lower_case(world: World) -> None:
    world.price("BTC/USD")

    for path in ("BTC/USD", "btc%2Fusd"):
        assert (await world.http.get(f"/api/v3/prices/{path}")).status_code == 200


async def test_what_a_client_may_not_see_seems_not_to_exist(world: World) -> None:
    world.price("AAPL")
    world.price("MSFT")
    world.allowed = {"MSFT"}.__contains__

    listing = (await world.http.get("/api/v3/prices")).json()
    named = (await world.http.get("/api/v3/prices?symbols=AAPL,MSFT,XYZ")).json()
    forbidden = await world.http.get("/api/v3/prices/AAPL")
    unknown = await world.http.get("/api/v3/prices/XYZW")

    assert [price["symbol"] for price in listing["prices"]] == ["MSFT"]
    assert [price["symbol"] for price in named["prices"]] == ["MSFT"]
    assert named["missing"] == ["AAPL", "XYZ"]
    assert forbidden.text.replace("AAPL", "XYZW") == unknown.text


# What a client has seen already


async def test_an_answer_waits_for_the_position_that_the_client_has(
    world: World,
) -> None:
    world.price("AAPL", "1")
    seen = PricePosition("fmp", 7, 2).token()
    request = asyncio.create_task(
        world.http.get(f"/api/v3/prices/AAPL?min_position={seen}")
    )
    await asyncio.sleep(0.05)
    assert not request.done()
    world.price("AAPL", "2")

    assert (await request).json()["last_price"] == 2


async def test_a_position_that_does_not_come_is_told(world: World) -> None:
    world.price("AAPL")
    for name in ("min_position", "min_seq"):
        for mark in (PricePosition("fmp", 7, 9), PricePosition("new", 1, 1)):
            url = f"/api/v3/prices?{name}={mark.token()}"
            response = await world.http.get(url)

            problem(response, 503, "behind")
            assert response.headers["retry-after"] == "1"


async def test_a_position_of_an_earlier_writer_has_passed(world: World) -> None:
    world.price("AAPL")
    mark = PricePosition("fmp", 6, 999).token()

    assert (
        await world.http.get(f"/api/v3/prices?min_position={mark}")
    ).status_code == 200


async def test_not_more_than_some_may_wait(world: World) -> None:
    world.price("AAPL")
    url = f"/api/v3/prices?min_position={PricePosition('fmp', 7, 9).token()}"
    waiting = [asyncio.create_task(world.http.get(url)) for _ in range(2)]
    await asyncio.sleep(0.05)

    async with asyncio.timeout(0.1):
        problem(await world.http.get(url), 503, "behind")

    for response in await asyncio.gather(*waiting):
        problem(response, 503, "behind")


# News


def titles(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [int(item["title"].split()[1]) for item in response.json()["items"]]


async def test_the_newest_news_come_without_since(world: World) -> None:
    world.log.add(10)

    response = await world.http.get("/api/v3/news?limit=3")

    assert titles(response) == [8, 9, 10]
    body = response.json()
    assert body["position"] == NewsPosition(STREAM, 10).token()
    assert body["items"][0]["position"] == NewsPosition(STREAM, 8).token()
    assert body["next"] is None
    assert body["complete"] is True
    assert body["reason"] is None


@pytest.mark.parametrize("kept", [0, 3, 10_000])
async def test_pages_of_news_follow_each_other(world: World, kept: int) -> None:
    world.log.add(1234)
    world.log.kept = kept
    place, seen, pages = NewsPosition(STREAM, 0).token(), list[int](), 0
    while place is not None:
        response = await world.http.get(f"/api/v3/news?limit=100&since={place}")
        seen += titles(response)
        place = response.json()["next"]
        pages += 1

    assert seen == list(range(1, 1235))
    assert pages == 13


async def test_a_cursor_takes_the_place_of_since(world: World) -> None:
    world.log.add(3)
    start = NewsPosition(STREAM, 0).token()
    first = (await world.http.get(f"/api/v3/news?limit=1&since={start}")).json()
    query = f"limit=1&since={start}&cursor={first['next']}"
    second = await world.http.get(f"/api/v3/news?{query}")

    assert titles(second) == [2]
    assert second.json()["next"] == NewsPosition(STREAM, 2).token()


@pytest.mark.parametrize("path", ["news", "gaps"])
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "2024-11-10T12:00:00Z",
        "NEWS.0123456789ab.1.0000",
        "GAPS.0123456789ab.1.0000",
        PricePosition("fmp", 1, 1).token(),
        "A" * 5000,
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(
    world: World, path: str, cursor: str
) -> None:
    response = await world.http.get(f"/api/v3/{path}", params={"cursor": cursor})

    assert problem(response, 400, "bad_cursor")["parameter"] == "cursor"


async def test_a_full_last_page_says_that_it_is_the_last(world: World) -> None:
    world.log.add(10)
    since = NewsPosition(STREAM, 5).token()

    body = (await world.http.get(f"/api/v3/news?limit=5&since={since}")).json()

    assert len(body["items"]) == 5
    assert body["next"] is None


async def test_a_filter_that_seldom_matches_still_leads_on(world: World) -> None:
    world.log.add(12_000)
    world.log.add(1, code="000660")
    world.log.kept = 0
    place, seen, pages = NewsPosition(STREAM, 0).token(), list[int](), 0
    while place is not None:
        response = await world.http.get(f"/api/v3/news?symbols=000660&since={place}")
        seen += titles(response)
        place = response.json()["next"]
        pages += 1

    assert seen == [12_001]
    assert pages == 3


async def test_news_are_filtered_by_type_and_symbol(world: World) -> None:
    world.log.add(2)
    world.log.add(2, news_type="disclosure")
    world.log.add(2, news_type="disclosure", code="000660")

    async def ask(query: str) -> list[int]:
        return titles(await world.http.get(f"/api/v3/news?{query}"))

    start = NewsPosition(STREAM, 0).token()
    for since in ("", f"&since={start}"):
        assert await ask(f"types=disclosure{since}") == [3, 4, 5, 6]
        assert await ask(f"types=article,disclosure&symbols=000660{since}") == [5, 6]
        assert await ask(f"symbols=000660&symbols=005930{since}") == [1, 2, 3, 4, 5, 6]
        assert await ask(f"types=Rumour{since}") == []


@pytest.mark.parametrize("kept", [0, 10_000])
async def test_lost_items_are_told(world: World, kept: int) -> None:
    world.log.add(10)
    world.log.kept = kept
    del world.log.messages[:4]
    early = NewsPosition(STREAM, 2).token()
    good = NewsPosition(STREAM, 4).token()

    lost = await world.http.get(f"/api/v3/news?since={early}")
    whole = await world.http.get(f"/api/v3/news?since={good}")

    assert titles(lost) == [5, 6, 7, 8, 9, 10]
    assert (lost.json()["complete"], lost.json()["reason"]) == (False, "expired")
    assert titles(whole) == [5, 6, 7, 8, 9, 10]
    assert (whole.json()["complete"], whole.json()["reason"]) == (True, None)


async def test_items_removed_in_between_are_told(world: World) -> None:
    world.log.add(10)
    del world.log.messages[6]
    start = NewsPosition(STREAM, 0).token()

    body = (await world.http.get(f"/api/v3/news?since={start}")).json()

    assert (body["complete"], body["reason"]) == (False, "removed")
    assert len(body["items"]) == 9


async def test_a_position_of_another_stream_starts_the_new_one(world: World) -> None:
    old = NewsPosition("ba9876543210", 5_000).token()
    world.log.add(3)

    response = await world.http.get(f"/api/v3/news?since={old}")

    assert titles(response) == [1, 2, 3]
    assert response.json()["reason"] == "stream_recreated"
    assert response.json()["position"] == NewsPosition(STREAM, 3).token()


async def test_a_position_that_never_was_is_told(world: World) -> None:
    world.log.add(3)
    future = NewsPosition(STREAM, 5_000).token()

    response = await world.http.get(f"/api/v3/news?since={future}")

    assert titles(response) == []
    assert response.json()["reason"] == "unknown_position"
    assert response.json()["position"] == NewsPosition(STREAM, 3).token()


async def test_news_wait_for_a_position_from_an_edge_that_was_ahead(
    world: World,
) -> None:
    world.log.add(5)
    world.log.hidden = 2
    ahead = NewsPosition(STREAM, 5).token()
    requests = [
        asyncio.create_task(world.http.get(f"/api/v3/news?{name}={ahead}"))
        for name in ("since", "min_position")
    ]
    await asyncio.sleep(0.05)
    assert not any(request.done() for request in requests)
    world.log.hidden = 0

    since, newest = await asyncio.gather(*requests)

    assert since.json()["complete"] is True
    assert since.json()["items"] == []
    assert len(newest.json()["items"]) == 5


async def test_news_behind_a_position_are_refused(world: World) -> None:
    world.log.add(5)
    for mark in (NewsPosition(STREAM, 6), NewsPosition("ba9876543210", 1)):
        url = f"/api/v3/news?min_position={mark.token()}"

        problem(await world.http.get(url), 503, "behind")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-11-10T12:00:00Z", 1731240000_000000000),
        ("2024-11-10t21:00:00.5%2B09:00", 1731240000_500000000),
        ("1969-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00%2B14:00", 0),
    ],
)
async def test_an_instant_is_looked_up(world: World, text: str, instant: int) -> None:
    world.log.add(4)
    world.found = Found(NewsPosition(STREAM, 2), complete=False)

    response = await world.http.get(f"/api/v3/news?since={text}")

    assert titles(response) == [3, 4]
    assert world.instants == [instant]
    assert response.json()["reason"] == "expired"


@pytest.mark.parametrize(
    "query",
    [
        "since=",
        "since=yesterday",
        "since=2024-11-10",
        "since=2024-11-10T12:00:00",
        "since=2024-11-10T12:00:00+09:00",
        "since=2024-11-10T12:00:00%2B25:00",
        "since=2024-11-10T12:00:00%2B0900",
        "since=2024-13-10T12:00:00Z",
        "since=2024-02-30T12:00:00Z",
        "since=0000-01-01T00:00:00Z",
        "since=9999-12-31T23:59:59Z",
        "since=2999-01-01T00:00:00Z",
        "since=%D9%A2024-11-10T12:00:00Z",
        "since=" + "9" * 10_000,
        "since=NEWS.",
        "since=NEWS.0123456789ab.1.0000",
        "since=" + PricePosition("fmp", 1, 1).token(),
        "types=",
        "types=*",
        "types=news.%3E",
        "symbols=",
        "symbols=*",
        "symbols=" + ",".join(["005930"] * 101),
        "limit=0",
        "limit=501",
        "min_position=x",
    ],
)
async def test_news_queries_that_break_a_rule(world: World, query: str) -> None:
    response = await world.http.get(f"/api/v3/news?{query}")

    body = problem(response, 422, "invalid_parameter")
    assert body["parameter"] == query.partition("=")[0]
    assert len(response.content) < 500


@settings(max_examples=100)
@given(data=st.data())
async def test_pages_hold_all_that_is_there_and_never_claim_more(
    data: st.DataObject,
) -> None:
    """Whatever is removed, kept in memory, or comes in between pages."""
    log = FakeLog()
    kinds = st.lists(st.sampled_from(["article", "disclosure"]), max_size=30)
    for kind in data.draw(kinds):
        log.add(1, news_type=kind)
    last = len(log.messages)
    removed = data.draw(st.sets(st.integers(1, last), max_size=4)) if last else set()
    # The newest stays: else the log below would use the number of one again.
    log.add(1)
    log.messages = [m for m in log.messages if m.sequence not in removed]
    log.kept = data.draw(st.sampled_from([0, 3, 1000]))
    start = data.draw(st.integers(0, log.position.sequence))
    types = data.draw(st.sampled_from([None, frozenset({"article"})]))
    place, seen, complete = NewsPosition(STREAM, start), list[int](), True
    more = True
    while more:
        page = await news_after(
            log, place, NewsFilter(types), data.draw(st.integers(1, 7)), Waiters()
        )
        seen += [item.sequence for item in page.items]
        complete = complete and page.lost is None
        assert page.position >= place
        assert page.more or page.position == log.position
        place, more = page.position, page.more
        if log.messages and data.draw(st.integers(0, 4)) == 0:
            log.add(1)

    wanted = [
        message.sequence
        for message in log.messages
        if start < message.sequence <= place.sequence
        and (types is None or message.subject == "news.article")
    ]
    assert seen == wanted
    end = log.messages[-1].sequence if log.messages else 0
    assert complete == (not any(start < gone < end for gone in removed))


async def test_a_filter_that_matches_nothing_has_so_much_read_at_a_time() -> None:
    log = FakeLog()
    log.kept = 0
    log.add(7_000)

    none = NewsFilter(frozenset({"disclosure"}))
    page = await news_after(log, NewsPosition(STREAM, 0), none, 10, Waiters())

    assert (page.position.sequence, page.more) == (5_000, True)


QUERY = st.lists(
    st.tuples(
        st.sampled_from(
            "symbols types since limit cursor min_position min_seq other".split()
        ),
        st.one_of(
            st.text(max_size=40),
            st.integers().map(str),
            st.sampled_from(["AAPL", "AAPL,MSFT", "article", "2024-11-10T12:00:00Z"]),
            st.sampled_from(
                [NewsPosition(STREAM, 3).token(), PricePosition("fmp", 7, 1).token()]
            ),
        ),
    ),
    max_size=4,
)


@settings(max_examples=200)
@given(
    path=st.sampled_from(["prices", "prices/AAPL", "news", "gaps", "status"]),
    query=QUERY,
)
async def test_no_query_makes_the_edge_fail(
    path: str, query: list[tuple[str, str]]
) -> None:
    params = httpx.QueryParams(list(query))
    response = await SHARED.http.get(f"/api/v3/{path}", params=params)
    SHARED.seconds += 1

    assert response.status_code in (200, 400, 422)
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert len(response.content) < 700


async def test_a_log_that_does_not_answer_is_told(world: World) -> None:
    world.log.add(10)
    world.log.kept = 0
    world.log.away = True
    since = NewsPosition(STREAM, 1).token()

    response = await world.http.get(f"/api/v3/news?since={since}")

    problem(response, 503, "log_unavailable")
    assert response.headers["retry-after"]


# Status


async def test_the_status_tells_of_feeds_and_of_the_edge(world: World) -> None:
    world.price("AAPL")
    world.log.add(2)

    body = (await world.http.get("/api/v3/status")).json()

    assert body["feeds"]["fmp"]["state"] == "live"
    assert body["feeds"]["fmp"]["age_ms"] > 0
    assert body["feeds"]["fmp"]["position"] == PricePosition("fmp", 7, 1).token()
    assert body["positions"] == {
        "prices": [PricePosition("fmp", 7, 1).token()],
        "news": NewsPosition(STREAM, 2).token(),
    }
    assert body["edge"]["status"] == "healthy"


# Freshness


PATHS = ("/api/v3/prices", "/api/v3/prices/AAPL", "/api/v3/news", "/api/v3/status")


async def test_answers_are_stale_and_then_none_while_nats_is_away(
    world: World,
) -> None:
    world.price("AAPL")
    world.log.add(1)
    fresh = {path: await world.http.get(path) for path in PATHS}
    world.connected = False
    world.seconds += GRACE_SECONDS - 0.5
    stale = {path: await world.http.get(path) for path in PATHS}
    world.seconds += 1
    late = {path: await world.http.get(path) for path in PATHS}
    world.connected = True
    again = await world.http.get("/api/v3/prices")

    for path in PATHS:
        assert fresh[path].json()["stale"] is False
        assert "age" not in fresh[path].headers
        assert stale[path].status_code == 200
        assert stale[path].json()["stale"] is True
        assert stale[path].headers["age"] == "30"
        assert stale[path].headers["etag"] != fresh[path].headers["etag"]
    assert stale["/api/v3/prices/AAPL"].json()["state"] == "stale"
    # The status is what says that the edge is cut off.
    assert late.pop("/api/v3/status").status_code == 200
    for response in late.values():
        problem(response, 503, "nats_away")
        assert response.headers["retry-after"]
    assert again.json()["stale"] is False


async def test_answers_are_stale_until_all_is_read_again(world: World) -> None:
    world.price("AAPL")
    world.current = False
    world.seconds += 2 * GRACE_SECONDS

    answer = await world.http.get("/api/v3/prices/AAPL")

    assert answer.status_code == 200
    assert answer.headers["age"] == "0"
    assert answer.json()["stale"] is True
    assert answer.json()["state"] == "stale"


# Revalidation


@pytest.mark.parametrize("path", PATHS)
async def test_an_unchanged_answer_is_not_sent_again(world: World, path: str) -> None:
    world.price("AAPL")
    world.log.add(1)
    first = await world.http.get(path)
    etag = first.headers["etag"]
    tags = (etag, f'"x", {etag}', etag.removeprefix("W/"), "*")

    for tag in tags:
        same = await world.http.get(path, headers={"if-none-match": tag})
        assert same.status_code == 304
        assert same.content == b""
        assert same.headers["etag"] == etag
        assert same.headers["cache-control"] == "no-cache"
    other = await world.http.get(path, headers={"if-none-match": 'W/"x", "y"'})
    assert other.status_code == 200


async def test_a_change_changes_the_etag(world: World) -> None:
    async def etags() -> list[str]:
        return [(await world.http.get(path)).headers["etag"] for path in PATHS]

    world.price("AAPL")
    changes: list[Callable[[], object]] = [
        lambda: world.price("AAPL"),
        lambda: world.log.add(1),
        lambda: world.states.update(fmp="down"),
    ]
    changed = []
    for change in changes:
        before = await etags()
        change()
        after = await etags()
        changed.append([a != b for a, b in zip(after, before, strict=True)])

    assert changed == [
        [True, True, False, False],
        [False, False, True, False],
        [True, True, False, True],
    ]


@pytest.mark.parametrize("since", ["", f"&since={NewsPosition(STREAM, 1).token()}"])
async def test_what_a_filter_leaves_out_does_not_change_the_etag(
    world: World, since: str
) -> None:
    """Else none would hold for long: canaries are items, too."""
    path = f"/api/v3/news?types=disclosure{since}"
    world.log.add(1)
    world.log.add(1, news_type="disclosure")
    first = await world.http.get(path)
    world.log.add(1)
    known = {"if-none-match": first.headers["etag"]}
    same = await world.http.get(path, headers=known)
    world.log.add(1, news_type="disclosure")
    grown = await world.http.get(path, headers=known)

    assert same.status_code == 304
    assert titles(grown) == [2, 4]


def test_a_fingerprint_tells_where_its_parts_end() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


# HTTP


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_a_body(world: World, path: str) -> None:
    world.price("AAPL")

    get, head = await world.http.get(path), await world.http.head(path)

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["etag"] == get.headers["etag"]
    assert (await world.http.head("/api/v3/prices/XYZ")).status_code == 404


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_told_which_work(world: World, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        response = await world.http.request(method, path)

        problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    options = await world.http.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path", ["/api/v3/", "/api/v3/nothing", "/api/v3/prices/..%2f..", "/api/v3//prices"]
)
async def test_what_is_not_there_is_a_problem(world: World, path: str) -> None:
    url = httpx.URL("http://edge", raw_path=path.encode())
    response = await world.http.get(url)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_older_routes_keep_their_bodies(world: World) -> None:
    invalid = await world.http.get("/api/v2/old?limit=x")
    missing = await world.http.get("/api/v2/nothing")
    method = await world.http.post("/api/v2/old")

    assert (invalid.status_code, invalid.json()) == (422, {"detail": "old"})
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    assert (method.status_code, method.json()) == (
        405,
        {"detail": "Method Not Allowed"},
    )
    assert method.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_failure_of_ours_tells_nothing(world: World) -> None:
    response = await world.http.get("/api/v3/broken")

    problem(response, 500, "internal_error")
    assert "secret" not in response.text


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*;q=0", "x"])
async def test_json_comes_whatever_is_accepted(world: World, accept: str) -> None:
    response = await world.http.get("/api/v3/status", headers={"accept": accept})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


# Rate


async def test_an_address_that_asks_too_much_is_told_when_to_come_back(
    world: World,
) -> None:
    answers = [await world.http.get("/api/v3/nothing") for _ in range(200)]
    refused = await world.http.get("/api/v3/status")
    old = await world.http.get("/api/v2/old?limit=1")
    health = await world.http.get("/api/v2/realtime/health")
    async with world.client("192.0.2.2") as other:
        elsewhere = await other.get("/api/v3/status")
    world.seconds += 0.011
    later = await world.http.get("/api/v3/status")

    assert {answer.status_code for answer in answers} == {404}
    problem(refused, 429, "too_many_requests")
    assert refused.headers["retry-after"] == "1"
    assert (old.status_code, old.json()) == (429, {"detail": "ask less often"})
    assert health.status_code == 404
    assert elsewhere.status_code == 200
    assert later.status_code == 200


def test_addresses_of_one_network_share_a_bucket() -> None:
    buckets = AddressBuckets(1, lambda: 0.0)
    for address in ("2001:db8::1", "2001:db8::2"):
        assert buckets.take(address) == 0.0

    assert buckets.take("2001:db8::3") == 1.0
    assert buckets.take("2001:db8:0:1::3") == 0.0
    assert [buckets.take("192.0.2.1"), buckets.take("::ffff:192.0.2.1")] == [0, 0]
    assert buckets.take("192.0.2.1") == 1.0
    assert buckets.take("not an address") == 0.0


def test_addresses_do_not_pile_up() -> None:
    buckets = AddressBuckets(1, lambda: 0.0)

    for number in range(20_000):
        buckets.take(f"address {number}")

    assert len(buckets) == 10_000
