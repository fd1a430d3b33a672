"""What can be quoted: symbols, companies and pairs, read from the data files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Instrument:
    """Something FMP quotes; the price is in units of 10^-*places*."""

    market: str
    symbol: str
    name: str
    price: int
    places: int
    usual_size: float


@dataclass(frozen=True)
class Company:
    """Something listed in Korea; prices are whole won."""

    code: str
    name: str
    market: str
    kind: str
    price: int

    @property
    def isin(self) -> str:
        """Return an identifier of the right shape; the check digit is not real."""
        return f"KR7{self.code}00{sum(map(ord, self.code)) % 10}"


def units(text: str, places: int) -> int:
    """Return the decimal *text* in units of 10^-*places*."""
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(places, "0")[:places])


@cache
def us_stocks() -> tuple[Instrument, ...]:
    """Return the stocks of the legacy stock socket."""
    return tuple(
        Instrument("stocks", ticker.lower(), name, units(price, 2), 2, 100.0)
        for ticker, name, price in _rows("us_stocks.txt")
    )


@cache
def crypto_pairs() -> tuple[Instrument, ...]:
    """Return the pairs of the legacy crypto socket."""
    return tuple(
        Instrument(
            "crypto", pair, name, units(price, int(places)), int(places), float(size)
        )
        for pair, name, price, places, size in _rows("crypto.txt")
    )


@cache
def forex_pairs() -> tuple[Instrument, ...]:
    """Return the pairs of the legacy forex socket, spot metals among them."""
    return tuple(
        Instrument("forex", pair, name, units(price, int(places)), int(places), 1e6)
        for pair, name, price, places in _rows("forex.txt")
    )


@cache
def streams() -> dict[str, tuple[Instrument, ...]]:
    """Return the streams of the current product and what each carries."""
    stocks = us_stocks()
    listed: dict[str, list[Instrument]] = {}
    for stream, symbol, name, price in _rows("other_us.txt"):
        instrument = Instrument("stream", symbol, name, units(price, 2), 2, 100.0)
        listed.setdefault(stream, []).append(instrument)
    return {
        "fmp-us-equities-stream": stocks,
        "nasdaq-basic-w-nls-plus": stocks[::2],
        "iex-tops": stocks[::3],
        "fmp-crypto-stream": crypto_pairs(),
        "fmp-currency-stream": forex_pairs(),
        **{stream: tuple(found) for stream, found in listed.items()},
    }


@cache
def companies() -> tuple[Company, ...]:
    """Return the Korean stock master."""
    return tuple(
        Company(code, name, market, kind, int(price))
        for code, name, market, kind, price in _rows("korea.txt")
    )


@cache
def companies_by_code() -> dict[str, Company]:
    """Return the Korean stock master by short code."""
    return {company.code: company for company in companies()}


def _rows(file: str) -> Iterator[list[str]]:
    text = resources.files("simulator").joinpath("data", file).read_text("utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield line.split("|")
