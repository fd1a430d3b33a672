"""Whatever a client does not take, every update is heard or told; no I/O."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge.clients.sender import Flusher, Sender
from edge.metrics import EdgeMetrics
from edge.prices.cache import PriceCache
from edge.prices.hub import PriceHub
from edge.prices.lanes import LatestLane
from edge.prices.listeners import EVERY, LATEST, Pace, PriceListener
from edge.prices.updates import Update


SYMBOLS = ("A", "B")
SLOW = Pace("latest", 3600.0)
PACES = (EVERY, LATEST, SLOW)


class Socket:
    """What one client has been sent, by symbol."""

    def __init__(self) -> None:
        self.blocked = False
        self.heard: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}

    def write(self, frames: bytes | memoryview) -> None:
        for line in bytes(frames).splitlines():
            message = json.loads(line)
            self.heard[message["symbol"]].append(message["n"])


class Edge:
    """A hub and one client; a piece is a line."""

    def __init__(self, paces: dict[str, Pace]) -> None:
        self.cache = PriceCache()
        self.flusher = Flusher()
        metrics = EdgeMetrics(CollectorRegistry())
        self.hub = PriceHub(self.cache, self.flusher, metrics, lambda: None)
        self.socket = Socket()
        self.sender = Sender(self.socket)
        self.listener = PriceListener(self.sender, lambda update: update.frame)
        self.bystander = PriceListener(Sender(Socket()), lambda update: update.frame)
        self.count = 0
        for symbol, pace in paces.items():
            self.hub.subscribe(self.listener, [symbol], pace)
            self.hub.subscribe(self.bystander, [symbol], pace)

    def update(self, symbol: str) -> None:
        self.count += 1
        frame = json.dumps({"symbol": symbol, "n": self.count}).encode() + b"\n"
        update = Update(symbol, "test", (1, self.count), frame)
        self.cache.apply(update)
        self.hub.update(update)

    def do(self, action: str) -> None:
        if action in SYMBOLS:
            self.update(action)
        elif action == "block":
            self.socket.blocked = True
            self.listener.suspend()
        elif action == "unblock" and self.socket.blocked:
            self.socket.blocked = False
            missed = self.hub.resume(self.listener)
            self.hub.snapshot(self.listener, missed.changed)
        elif action == "flush":
            for lane in self.hub._lanes.values():
                if isinstance(lane, LatestLane):
                    lane.ripen(math.inf)
                lane.flush()
        elif action == "leave A":
            self.hub.unsubscribe(self.listener, ["A"])
        elif action.startswith("join A"):
            self.hub.subscribe(self.listener, ["A"], PACES[int(action[-1])])
            self.hub.snapshot(self.listener, ["A"])

    def run(self, actions: list[str]) -> None:
        async def run() -> None:
            for action in actions:
                self.do(action)
            for action in ("unblock", "flush"):
                self.do(action)
            while not self.flusher.write():
                pass

        asyncio.run(run())


paces = st.fixed_dictionaries({symbol: st.sampled_from(PACES) for symbol in SYMBOLS})
steps = [*SYMBOLS, "block", "unblock", "flush"]


@given(paces, st.lists(st.sampled_from(steps), max_size=40))
def test_every_update_is_heard_or_counted(paces: Any, actions: list[str]) -> None:
    edge = Edge(paces)
    edge.run(actions)

    updates = [action for action in actions if action in SYMBOLS]
    heard = edge.socket.heard
    assert len(heard["A"]) + len(heard["B"]) + edge.sender.conflated == len(updates)
    for symbol, numbers in heard.items():
        assert numbers == sorted(set(numbers))
        newest = [i for i, name in enumerate(updates, 1) if name == symbol][-1:]
        assert numbers[-1:] == newest


changes = ["leave A", *(f"join A{i}" for i in range(len(PACES)))]


@given(paces, st.lists(st.sampled_from(steps + changes), max_size=40))
def test_the_newest_is_heard_whatever_changes_meanwhile(
    paces: Any, actions: list[str]
) -> None:
    edge = Edge(paces)
    edge.run([*actions, "join A1"])

    for symbol in SYMBOLS:
        newest = edge.cache.entry(symbol)
        heard = edge.socket.heard[symbol]
        assert heard[-1:] == ([newest.version[1]] if newest else [])
        assert heard == sorted(heard)


@pytest.mark.parametrize("pace", PACES)
async def test_what_was_noted_before_the_client_stopped_is_not_lost(pace: Pace) -> None:
    """As when another lane's write fills its socket."""
    edge = Edge({"A": pace})
    edge.update("A")
    for action in ("block", "flush", "unblock", "flush"):
        edge.do(action)
    await asyncio.sleep(0)

    assert edge.socket.heard["A"] == [1]
