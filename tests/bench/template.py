"""
The message that the publisher copies, as our own code writes it.

Fields that change carry marks of the same width as their values; the publisher finds
the marks and overwrites them. A mark is a value that feedmesh could have written.
"""

from __future__ import annotations

from feedmesh import messages, prices


__all__ = ["bare_frame", "bus_message"]

_SYMBOL = "B00000"
_SEQUENCE = 1000000001
_COUNTER = "1000000002"
_MILLISECONDS = 1000000000003
_NANOSECONDS = "1000000000000000004"
_TIME = "2001-02-03T04:05:06.000007Z"
_TIME_NS = 981_173_106_000_007_000


def bare_frame() -> bytes:
    """
    Return what a client gets: ``last_size`` counts, ``ask_size`` is the send time.

    The counter grows by one with each update of the symbol; the time is in nanoseconds
    since the epoch.
    """
    return prices.encode_frame(
        prices.PriceState(
            symbol=_SYMBOL,
            timestamp_ms=_MILLISECONDS,
            data_type="T",
            last_price="189.45",
            last_size=_COUNTER,
            ask_price="189.46",
            ask_size=_NANOSECONDS,
            bid_price="189.44",
            bid_size="3000",
            cached_s=_TIME_NS // 1_000_000_000,
        )
    )


def bus_message(epoch: int) -> bytes:
    """Return the message that carries :func:`bare_frame` from the writer *epoch*."""
    head = messages.head(
        "price",
        "fmp",
        (epoch, _SEQUENCE),
        event_ns=_TIME_NS,
        received_ns=_TIME_NS,
        published_ns=_TIME_NS,
    )
    message = messages.encode(head, bare_frame())
    assert message.count(_TIME.encode()) == 3
    return message
