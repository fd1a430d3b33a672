"""
Which trade of a stock is the newest; no I/O.

Stamps have whole seconds and no sequence number. The volume of the day only grows, and
so tells the order of the trades of one second, and a trade that was sent twice.
"""

from __future__ import annotations

from ingest_ls.korea import in_kst
from ingest_ls.normalize import Trade


__all__ = ["Trades"]


class Trades:
    """The newest trade of each stock; bounded by the number of stocks."""

    def __init__(self) -> None:
        self._newest: dict[str, Trade] = {}

    def take(self, trade: Trade) -> tuple[Trade, tuple[str, ...]] | None:
        """
        Return the trade to show and the flags of this one; None for a duplicate.

        A late trade is told with a flag, and the newer one stays the one to show.
        """
        known = self._newest.get(trade.code)
        if known is None or known.volume is None or trade.volume is None:
            self._newest[trade.code] = trade
            return trade, trade.flags
        if trade._replace(flags=()) == known._replace(flags=()):
            return None
        same_day = in_kst(trade.event_ns).date() == in_kst(known.event_ns).date()
        if same_day and trade.volume < known.volume:
            return known, (*trade.flags, "late")
        self._newest[trade.code] = trade
        return trade, trade.flags
