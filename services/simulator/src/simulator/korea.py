"""
Korean and overseas equities as LS Securities sends them, from seeded random walks.

LS Open API portal: every field is a string; `change` is unsigned with its direction in
`sign`, `drate` is signed, and `volume` grows by `cvolume` with each trade.
"""

from __future__ import annotations

import random
from datetime import datetime

from simulator.universe import Company


_LIMIT = 0.3
_TICK_SIZES = (
    (2_000, 1),
    (5_000, 5),
    (20_000, 10),
    (50_000, 50),
    (200_000, 100),
    (500_000, 500),
)


def tick_size(price: int) -> int:
    """Return the smallest price step at *price* (KRX rule of 2023)."""
    for below, size in _TICK_SIZES:
        if price < below:
            return size
    return 1_000


class KoreanTape:
    """The trades and order books of one code."""

    def __init__(self, seed: int, company: Company) -> None:
        self.company = company
        self._random = random.Random(f"{seed}/korea/{company.code}")
        self.close = company.price - company.price % tick_size(company.price)
        self.price = self.open = self.high = self.low = self.close
        self.volume = self.value = 0
        self.sold = self.bought = 0
        self.sold_count = self.bought_count = 0
        self.opened_at = "090000"
        self.high_at = self.low_at = self.opened_at

    def trade(self, now: datetime) -> dict[str, str]:
        """Make the next trade and return its body."""
        rand = self._random
        time = now.strftime("%H%M%S")
        buys = rand.random() < 0.5
        self._move(rand.choice((-1, 0, 0, 0, 1)), time)
        size = rand.choice((1, 1, 2, 3, 5, 7, 10, 15, 23, 40, 120, 438))
        self._book_trade(size, buys=buys)
        step = tick_size(self.price)
        bid = self.price - step if buys else self.price
        change = self.price - self.close
        power = 100 * self.bought / self.sold if self.sold else 0.0
        return {
            "mdchecnt": str(self.sold_count),
            "sign": self._sign(change),
            "mschecnt": str(self.bought_count),
            "mdvolume": str(self.sold),
            "w_avrg": str(self.value // self.volume),
            "cpower": f"{power:.2f}",
            "offerho": str(bid + step),
            "cvolume": str(size),
            "high": str(self.high),
            "bidho": str(bid),
            "low": str(self.low),
            "price": str(self.price),
            "cgubun": "+" if buys else "-",
            "value": str(self.value // 1_000_000),
            "change": str(abs(change)),
            "shcode": self.company.code,
            "chetime": time,
            "opentime": self.opened_at,
            "lowtime": self.low_at,
            "volume": str(self.volume),
            "drate": f"{100 * change / self.close:.2f}",
            "hightime": self.high_at,
            "jnilvolume": str(self.close * 37 % 3_000_000),
            "msvolume": str(self.bought),
            "exchname": "KRX",
            "open": str(self.open),
            "status": "00",
        }

    def book(self, now: datetime) -> dict[str, str]:
        """Return an order book around the present price."""
        step = tick_size(self.price)
        body = {}
        totals = {"offer": 0, "bid": 0}
        for level in range(1, 11):
            for side, direction in (("offer", 1), ("bid", -1)):
                price = self.price + direction * step * (level - (side == "bid"))
                remain = self._random.randrange(20, 90_000)
                totals[side] += remain
                body[f"{side}ho{level}"] = str(max(step, price))
                body[f"{side}rem{level}"] = str(remain)
        return {
            **body,
            "hotime": now.strftime("%H%M%S"),
            "donsigubun": "1",
            "shcode": self.company.code,
            "alloc_gubun": "",
            "volume": str(self.volume),
            "totofferrem": str(totals["offer"]),
            "totbidrem": str(totals["bid"]),
        }

    def unified_book(self, now: datetime, key: str) -> dict[str, str]:
        """Return the order book of `UH1`: one ladder, three sets of remains."""
        plain = self.book(now)
        body = {k: v for k, v in plain.items() if "ho" in k and k != "shcode"}
        for venue in ("krx", "nxt", "unt"):
            for name, value in plain.items():
                if "rem" in name:
                    body[f"{venue}_{name}"] = "0" if venue == "nxt" else value
        for venue in ("krx", "nxt"):
            body[f"{venue}_donsigubun"] = "1" if venue == "krx" else "0"
            body[f"{venue}_midprice"] = "0"
            body[f"{venue}_offermidsumrem"] = "0"
            body[f"{venue}_bidmidsumrem"] = "0"
            body[f"{venue}_midsumrem"] = "0"
            body[f"{venue}_midsumremgubun"] = ""
        return {
            **body,
            "alloc_gubun": "",
            # LS Open API portal: the official sample has a blank here.
            "volume": " ",
            "shcode": self.company.code,
            "ex_shcode": key.rstrip(),
        }

    def interruption(self, now: datetime) -> dict[str, str]:
        """Return a dynamic volatility interruption of this code."""
        return {
            "svi_recprice": "0",
            "vi_gubun": "2",
            "shcode": self.company.code,
            "time": now.strftime("%H%M%S"),
            "vi_trgprice": str(self.price),
            "dvi_recprice": str(self.close),
            "ref_shcode": self.company.code,
        }

    def _move(self, steps: int, time: str) -> None:
        limit = int(self.close * _LIMIT)
        price = self.price + steps * tick_size(self.price)
        self.price = min(max(price, self.close - limit, 1), self.close + limit)
        if self.price > self.high:
            self.high, self.high_at = self.price, time
        if self.price < self.low:
            self.low, self.low_at = self.price, time

    def _book_trade(self, size: int, *, buys: bool) -> None:
        self.volume += size
        self.value += size * self.price
        if buys:
            self.bought += size
            self.bought_count += 1
        else:
            self.sold += size
            self.sold_count += 1

    def _sign(self, change: int) -> str:
        limit = int(self.close * _LIMIT)
        if abs(change) == limit:
            return "1" if change > 0 else "4"
        return "3" if change == 0 else "2" if change > 0 else "5"


class OverseasTape:
    """The trades and order books of one overseas symbol (`GSC`, `GSH`)."""

    def __init__(self, seed: int, symbol: str, cents: int) -> None:
        self.symbol = symbol
        self._random = random.Random(f"{seed}/overseas/{symbol}")
        self.close = self.price = self.open = self.high = self.low = cents * 100
        self.total = 0
        self.amount = 0

    def trade(self, korean: datetime, local: datetime) -> dict[str, str]:
        """Make the next trade and return its body."""
        rand = self._random
        self.price = max(100, self.price + 100 * rand.choice((-1, 0, 0, 1)))
        self.high, self.low = max(self.high, self.price), min(self.low, self.price)
        size = rand.choice((1, 5, 16, 40, 100, 250))
        self.total += size
        self.amount += size * self.price // 10_000
        change = self.price - self.close
        return {
            "symbol": self.symbol,
            "lSeq": "0",
            "high52p": _price(self.close * 2),
            "low52p": _price(self.close // 2),
            "amount": str(self.amount),
            "kordate": korean.strftime("%Y%m%d"),
            "trdtm": local.strftime("%H%M%S"),
            "sign": "3" if change == 0 else "2" if change > 0 else "5",
            "ovsdate": local.strftime("%Y%m%d"),
            "diff": _price(abs(change)),
            "totq": str(self.total),
            "high": _price(self.high),
            "rate": f"{100 * change / self.close:.2f}",
            "low": _price(self.low),
            "price": _price(self.price),
            "cgubun": rand.choice("+-"),
            "trdq": str(size),
            "open": _price(self.open),
            "kortm": korean.strftime("%H%M%S"),
        }

    def book(self, korean: datetime, local: datetime) -> dict[str, str]:
        """Return an order book; only its first level has remains."""
        body = {"symbol": self.symbol}
        remains = {
            side: str(self._random.randrange(100, 20_000)) for side in ("offer", "bid")
        }
        for level in range(1, 11):
            for side, direction in (("offer", 1), ("bid", -1)):
                price = max(100, self.price + direction * 100 * level)
                body[f"{side}ho{level}"] = _price(price)
                body[f"{side}rem{level}"] = remains[side] if level == 1 else "0"
                body[f"{side}no{level}"] = "0"
        return {
            **body,
            "loctime": local.strftime("%H%M%S"),
            "kortime": korean.strftime("%H%M%S"),
            "totofferrem": remains["offer"],
            "totbidrem": remains["bid"],
            "totoffercnt": "0",
            "totbidcnt": "0",
        }


def _price(units: int) -> str:
    return f"{units // 10_000}.{units % 10_000:04d}"
