"""A heartbeat claims no position before all up to it has been written; no I/O."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from edge.clients.chores import Chores
from edge.clients.outlet import Outlet
from edge.clients.registry import Clients
from edge.clients.sender import Flusher
from edge.door.admission import Admission
from edge.door.gate import ANYONE, Login
from edge.gap_board import GapBoard
from edge.metrics import EdgeMetrics
from edge.news.log import BusNewsStream, NewsLog
from edge.parts import EdgeParts
from edge.positions import parse_price_position
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.merge import PriceMerge
from edge.prices.tape import PriceTape
from edge.prices.updates import Update
from edge.rest.freshness import Freshness
from edge.settings import Settings
from edge.status_board import StatusBoard
from edge.stream.session import StreamSession
from feedmesh.bus import Bus


PRICE_AND_END = ["price_update", "snapshot_end"]


class Socket(Outlet):
    """What one client, which takes arrays, has been told."""

    def __init__(self) -> None:
        self.blocked = False
        self.told: list[dict[str, Any]] = []

    def write(self, frames: bytes | memoryview) -> None:
        start = 2 if frames[1] < 126 else 4
        self.told += json.loads(bytes(frames)[start:])


def price(number: int) -> Update:
    frame = b'{"type": "price_update", "n": %d}' % number
    return Update("A", "test", (1, number), frame)


class Edge:
    """An edge without a bus that has read its stream, and one client."""

    def __init__(self) -> None:
        bus, flusher, cache = Bus(), Flusher(), PriceCache()
        metrics = EdgeMetrics(CollectorRegistry())
        tape = PriceTape(100)
        self.hub = PriceHub(cache, flusher, metrics, lambda: None)
        self.merge = PriceMerge(cache, tape)
        self.merge.stored(price(1))
        self.merge.swept()
        parts = EdgeParts(
            settings=Settings(),
            bus=bus,
            cache=cache,
            tape=tape,
            hub=self.hub,
            news=NewsLog(BusNewsStream(bus), metrics, 100),
            status=StatusBoard(bus),
            gaps=GapBoard(),
            flusher=flusher,
            chores=Chores(),
            clients=Clients(metrics),
            admission=Admission(metrics, 1, (), lambda: 0),
            freshness=Freshness(lambda: True),
            metrics=metrics,
            problems=dict,
        )
        self.socket = Socket()
        login = Login(None, ANYONE)
        self.client = StreamSession(self.socket, parts, login, arrays=True)

    def update(self, number: int) -> None:
        """Take a price as it comes live."""
        update = price(number)
        self.merge.live(update)
        self.hub.update(update)

    async def told(self, count: int) -> list[dict[str, Any]]:
        """Return the next *count* messages that the client is told."""
        async with asyncio.timeout(10):
            while len(self.socket.told) < count:
                await asyncio.sleep(0.01)
        told, self.socket.told = self.socket.told, []
        return told


@pytest.fixture
async def edge() -> Edge:
    edge = Edge()
    wanted = {"channel": "prices", "symbols": ["A"], "mode": "every"}
    edge.client.received(json.dumps({"op": "subscribe", **wanted}))
    told = await edge.told(4)
    assert [message["type"] for message in told][-2:] == PRICE_AND_END
    return edge


def claimed(heartbeat: dict[str, Any]) -> int:
    """Return up to which number the client is told to have everything."""
    assert heartbeat["type"] == "heartbeat"
    return parse_price_position(heartbeat["positions"]["prices"][0]).seq


async def test_what_waits_in_a_lane_goes_before_the_heartbeat_that_claims_it(
    edge: Edge,
) -> None:
    edge.update(2)
    edge.update(3)
    edge.client.heartbeat()
    edge.update(4)

    *before, heartbeat, after = await edge.told(4)
    assert [update["n"] for update in before] == [2, 3]
    assert claimed(heartbeat) == 3
    assert after["n"] == 4


async def test_one_who_takes_no_bytes_is_told_of_no_position(edge: Edge) -> None:
    edge.socket.blocked = True
    edge.client.blocked()
    edge.update(2)
    edge.client.heartbeat()
    edge.socket.blocked = False
    edge.client.resumed()

    # What it missed comes first; the heartbeat while it was blocked was left out.
    assert [message["n"] for message in await edge.told(1)] == [2]
    edge.client.heartbeat()
    assert claimed((await edge.told(1))[0]) == 2
