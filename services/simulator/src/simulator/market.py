"""
Prices that could be real: one seeded random walk for each symbol.

The k-th event of a symbol depends on the seed and the symbol alone, whoever listens
and whatever else is quoted. Prices are integers of the smallest unit throughout, so
no float noise can reach the wire.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from simulator.universe import Instrument


_TRADE_SHARE = 0.2
_BREAK_SHARE = 0.001
_CORRECTION = 0.002


@dataclass(frozen=True, slots=True)
class Tick:
    """One event; sizes are text because each market has its own kind of number."""

    kind: str
    bid: int
    ask: int
    last: int
    bid_size: str
    ask_size: str
    last_size: str


class Tape:
    """The endless events of one symbol."""

    def __init__(self, seed: int, instrument: Instrument, venue: str = "") -> None:
        self.instrument = instrument
        self.open = instrument.price
        self.last = instrument.price
        self.high = instrument.price
        self.low = instrument.price
        self.volume = 0
        self._random = random.Random(
            f"{seed}/{instrument.market}/{instrument.symbol}/{venue}"
        )
        self._middle = float(instrument.price)
        # Relative size of one step: pairs of currencies move least, coins most.
        self._step = {"forex": 0.00002, "crypto": 0.0002}.get(instrument.market, 0.0001)
        self._trades: deque[tuple[int, str]] = deque(maxlen=50)

    def next(self) -> Tick:
        """Make the next event."""
        rand = self._random
        home = self.instrument.price
        self._middle *= 1.0 + rand.gauss(0.0, self._step)
        # A weak pull home keeps a simulator that runs for weeks believable.
        self._middle += (home - self._middle) * _CORRECTION
        middle = self._middle
        half = max(0.5, middle * self._step * (0.3 + rand.random()))
        bid = max(1, round(middle - half))
        ask = max(bid + 1, round(middle + half))
        draw = rand.random()
        if self.instrument.market == "forex" or draw >= _TRADE_SHARE:
            return Tick("Q", bid, ask, self.last, self._size(), self._size(), "0")
        if draw < _BREAK_SHARE and self._trades:
            price, size = rand.choice(self._trades)
            return Tick("B", bid, ask, price, "0", "0", size)
        return self._trade(bid, ask)

    def _trade(self, bid: int, ask: int) -> Tick:
        size = self._size()
        self.last = bid if self._random.random() < 0.5 else ask
        self.high = max(self.high, self.last)
        self.low = min(self.low, self.last)
        self.volume += max(1, int(float(size)))
        self._trades.append((self.last, size))
        return Tick("T", bid, ask, self.last, "0", "0", size)

    def _size(self) -> str:
        rand = self._random
        usual = self.instrument.usual_size
        match self.instrument.market:
            case "crypto":
                size = usual * rand.lognormvariate(0.0, 1.2)
                text = f"{size:.8f}" if usual < 1000 else f"{size:.2f}"
                return text.rstrip("0").rstrip(".") or "0"
            case "forex":
                return str(rand.choice((1, 1, 1, 2, 3, 5)) * 1_000_000)
            case _:
                return str(rand.choice((1, 1, 2, 3, 4, 5, 8, 12, 20)) * 100)
