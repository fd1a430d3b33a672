"""Messages of prices as an ingest puts them onto the bus, as many as a test wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from feedmesh import subjects
from feedmesh.clock import now_ns
from feedmesh.prices import PriceState, encode_price


def price_messages(
    market: str, symbols: Iterable[str], *, late_ns: int = 0, source: str = "fmp"
) -> Iterator[tuple[str, bytes]]:
    """
    Yield subject and payload of one price of each symbol, numbered from 1.

    Beside an ingest, take another *source*: readers drop an epoch as low as theirs.
    """
    now = now_ns() - late_ns
    for number, symbol in enumerate(symbols, start=1):
        state = PriceState(
            symbol=symbol, timestamp_ms=now // 10**6, data_type="T", last_price="1"
        )
        payload = encode_price(
            source,
            (1, number),
            state,
            event_ns=now,
            received_ns=now,
            published_ns=now,
        )
        yield subjects.price(market, symbol), payload
