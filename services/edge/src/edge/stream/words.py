"""
The constant words of protocol v3, and what each means for a client.

They are for programs, the texts beside them for people. A client must take a word that
it does not know: new ones come, none ever changes its meaning.
"""

from __future__ import annotations

from typing import Final


__all__ = [
    "ERRORS",
    "FEED_GAPS",
    "FEED_STATES",
    "FLOWS",
    "GAPS",
    "MARKETS",
    "NOT_RECOVERED",
    "REJECTIONS",
]

ERRORS: Final = {
    "not_a_request": "The message is no JSON object with an `op`; the edge closes.",
    "unknown_op": "There is no such `op`.",
    "bad_request": "A field is missing, of the wrong type, or makes no sense here.",
    "bad_symbol": "News: one of the symbols cannot be a symbol.",
    "bad_type": "News: one of the types cannot be a type.",
    "not_available": "The token does not allow this channel.",
    "internal_error": "The edge failed; the same request may succeed later.",
}
"""Codes of ``error``: why a request was not carried out."""

REJECTIONS: Final = {
    "bad_symbol": "It cannot be a symbol.",
    "not_available": "The token does not allow it.",
    "too_many_symbols": "More than `limits.max_symbols`, or than the token allows.",
}
"""Codes in ``rejected``: why a symbol is not subscribed, although others are."""

NOT_RECOVERED: Final = {
    "bad_position": "The position is damaged, or of the other channel.",
    "no_position": "Prices: `since` has no position of the feed of these symbols.",
    "edge_is_behind": "Prices: this edge has not yet seen what the client has.",
    "too_far_behind": "More was missed than this edge keeps.",
    "removed": "News: stored messages after the position were removed.",
    "expired": "News: the position is older than what is kept.",
    "stream_recreated": "News: the position is of a log that is no more.",
    "unknown_position": "News: the log ends before the position.",
    "stream_unavailable": "News: the log could not be asked; try again later.",
}
"""Reasons of ``ack`` with ``recovered`` false: why there may be a hole."""

GAPS: Final = {
    "slow_client": "Prices: the client did not read; updates passed by it.",
    "lost_on_the_way": "Prices: updates were lost between NATS and the edge.",
    "removed": "News: stored messages were removed before the client got them.",
    "stream_recreated": "News: the log was lost and begins anew.",
}
"""Reasons of ``gap``: why something is missing in a connection that lives."""

FEED_GAPS: Final = {
    "dropped": "The connection was lost without a word.",
    "closed_1000": "The upstream closed it; so do all that begin with `closed_`.",
    "silent": "The upstream said nothing for too long.",
    "no_pong": "The upstream answered no ping.",
    "unreachable": "The upstream could not be reached.",
    "http_502": "The upstream refused the upgrade; so do all that begin with `http_`.",
    "slot_taken": "Somebody else held the only connection that is allowed.",
    "unauthorized": "The upstream refused the account.",
    "planned": "The connection was opened anew on purpose.",
    "handover": "Another replica of the ingest took over from one that went.",
    "takeover": "Another replica of the ingest took over from one that died.",
    "restart": "No replica of the ingest was there.",
    "spool_full": "NATS was away for so long that news found no room on disk.",
    "queue_full": "NATS was away for so long that news found no room in memory.",
}
"""Some reasons of ``feed_gap``; others name how a connection to an upstream ended."""

FEED_STATES: Final = {
    "live": "It is connected, and what it says flows.",
    "degraded": "It is connected, and brings a few per cent of what is usual.",
    "closed": "It is connected, its market is closed, and nothing comes.",
    "idle": "Nothing is wanted from it, so it is not connected.",
    "connecting": "It is being connected.",
    "down": "The connection is lost.",
    "busy": "Somebody else holds the only connection that the upstream allows.",
    "refused": "The upstream refuses the account.",
    "unknown": "Nothing has been heard of the feed itself for 12 s.",
}
"""States of a feed, and of its links."""

MARKETS: Final = {
    "open": "Its market trades: data is due.",
    "closed": "Its market does not trade: no data is due, though some may come.",
    "unknown": "The calendar does not reach so far, or does not have this market.",
}
"""Whether data is due from a link."""

FLOWS: Final = {
    "flowing": "Data comes.",
    "quiet": "Nothing has come for 5 minutes; too little is known to call it a fault.",
    "degraded": "A few per cent of what is usual at this time comes.",
    "closed": "Nothing comes, and nothing is due.",
}
"""How the data of a link flows, held against what is due."""
