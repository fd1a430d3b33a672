"""What a subscriber of prices notes: when each came, and for how long none did."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import NamedTuple

from websockets.asyncio.client import connect

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.fast_lane import LaneMessage
from feedmesh.messages import decode_head


class Arrival(NamedTuple):
    """When a price came, by the clock of the event loop, and its version."""

    at: float
    version: tuple[int, int]


class PriceListener:
    """
    Notes every price that reaches a subscriber.

    Attributes:
        newest: By subject, the message of the highest version, as a reader keeps it.
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self._of_markets: dict[str, list[Arrival]] = {}
        self.newest: dict[str, bytes] = {}
        self._versions: dict[str, tuple[int, int]] = {}

    async def listen(self, bus: Bus) -> None:
        """Note all that comes from now on, at a cost that does not hold it up."""
        await bus.nc.open_lane(subjects.ALL_PRICES, self._take)

    def _take(self, messages: Sequence[LaneMessage]) -> None:
        now = asyncio.get_running_loop().time()
        for raw, payload, _ in messages:
            subject = raw.decode()
            version = decode_head(payload)[0].version
            arrival = Arrival(now, version)
            self.arrivals.append(arrival)
            self._of_markets.setdefault(subject.split(".")[1], []).append(arrival)
            if version >= self._versions.get(subject, (0, 0)):
                self._versions[subject] = version
                self.newest[subject] = payload

    def longest_silence(self, start: float, end: float) -> float:
        """
        Return the longest time between *start* and *end* without a price of a market.

        Each market has a link of its own.
        """
        flows = self._of_markets.values()
        return max(longest_pause(arrivals, start, end) for arrivals in flows)


def longest_pause(arrivals: Sequence[Arrival], start: float, end: float) -> float:
    """Return the longest time without any of *arrivals* between *start* and *end*."""
    inside = [start, *(a.at for a in arrivals if start <= a.at <= end), end]
    return max(b - a for a, b in itertools.pairwise(inside))


class EdgeListener:
    """
    A client of an edge that wants every update, and notes when each came.

    Attributes:
        arrivals: With the version that the position tells.
    """

    def __init__(self, port: int, symbols: Sequence[str]) -> None:
        self._url = f"ws://127.0.0.1:{port}/api/v3/stream"
        self._request = {
            "op": "subscribe",
            "channel": "prices",
            "symbols": list(symbols),
            "mode": "every",
        }
        self.arrivals: list[Arrival] = []

    async def run(self) -> None:
        """Listen, for ever; the connection must hold."""
        now = asyncio.get_running_loop().time
        async with connect(self._url, compression=None) as connection:
            await connection.send(json.dumps(self._request))
            async for text in connection:
                if "price_update" in str(text)[:40]:
                    # To parse all of it would take longer than the edge needs.
                    position = str(text).partition('"position": "')[2]
                    _, epoch, seq, _ = position.partition('"')[0].split(".")
                    self.arrivals.append(Arrival(now(), (int(epoch), int(seq))))


def loss_percent(arrivals: Sequence[Arrival], sent: int) -> float:
    """Return how many of *sent* versions of a writer never came, in per cent."""
    came = len({arrival.version for arrival in arrivals})
    return round(100 * (1 - came / sent), 3)
