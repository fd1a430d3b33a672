"""
The messages on the bus: an envelope around the bytes that clients get.

Every message is one JSON object. Its last key is ``frame``: the finished client
message, built once by the only writer of its subject. The keys before it say where
the message comes from and where it stands among others::

    {"v":1,"kind":"price","source":"fmp","epoch":1763690000000,"seq":17, … ,
     "frame":{"type": "price_update", "symbol": "AAPL", … }}

So a reader that forwards cuts the frame out with one search (:func:`split`) and
never parses or rebuilds it, while any other reader just parses JSON. Readers ignore
keys that they do not know; keys are only ever added. ``frame`` stays last.

``(epoch, seq)`` is the version: *epoch* grows whenever another writer takes over,
*seq* with every message of one writer. Higher is newer, across all symbols of a feed.

Of prices, *seq* proves that nothing was missed. In each epoch of a feed it runs
1, 2, 3 … without a hole, in the order in which states first go onto the wire: a state
gets its number when it is first sent, keeps it if the very same state is sent again,
and takes none if a newer one replaces it before. So a reader of all prices of a feed
that sees a number it knows drops a resend; one that sees the next number has missed
nothing; one that sees a higher number has missed what lies between, and can say so.
Other kinds of messages have counters of their own, and prove nothing by them.
"""

from __future__ import annotations

import msgspec

from feedmesh.clock import iso, now_ns


__all__ = [
    "SCHEMA_VERSION",
    "Head",
    "Version",
    "decode_head",
    "encode",
    "head",
    "renewed",
    "split",
]

SCHEMA_VERSION = 1

Version = tuple[int, int]

_FRAME_KEY = b',"frame":'


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Everything about a message but what clients see.

    Attributes:
        v: Version of this schema.
        kind: ``price``, ``news`` or ``status``.
        source: The feed, ``fmp`` or ``ls``.
        epoch: Which writer; grows with every change of writer.
        seq: Which message of that writer. Of prices contiguous from 1, across all
            symbols of the feed; of other kinds it only grows.
        event_at: When it happened, as the upstream says; ISO 8601 with zone.
        received_at: When its frame was read from the upstream; UTC.
        published_at: When it was handed to NATS; UTC.
        flags: What is odd about it, in constant words (``late``, ``no_time`` …).
        id: Of a news item: its identity, the same from every replica.
        venue: Of a price: the venue within the feed, where there are several.
        broken: Of a trade break: price and size of the trade that was taken back.
        extra: Upstream fields that we do not know: names, and values as JSON text.
    """

    v: int
    kind: str
    source: str
    epoch: int
    seq: int
    event_at: str
    received_at: str
    published_at: str
    flags: tuple[str, ...] = ()
    id: str | None = None
    venue: str | None = None
    broken: tuple[str | None, str | None] | None = None
    # Pairs, not an object: no key in front may ever read "frame".
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def version(self) -> Version:
        """What decides which of two messages of one symbol is newer."""
        return self.epoch, self.seq


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(Head).decode


def head(
    kind: str,
    source: str,
    version: Version,
    *,
    event_ns: int,
    received_ns: int,
    published_ns: int,
    event_at: str | None = None,
    flags: tuple[str, ...] = (),
    id: str | None = None,
    venue: str | None = None,
    broken: tuple[str | None, str | None] | None = None,
    extra: tuple[tuple[str, str], ...] = (),
) -> Head:
    """Return a head; instants are nanoseconds since the epoch, see `clock`."""
    return Head(
        v=SCHEMA_VERSION,
        kind=kind,
        source=source,
        epoch=version[0],
        seq=version[1],
        event_at=event_at or iso(event_ns),
        received_at=iso(received_ns),
        published_at=iso(published_ns),
        flags=flags,
        id=id,
        venue=venue,
        broken=broken,
        extra=extra,
    )


def encode(head: Head, frame: bytes) -> bytes:
    """Return the message that carries *frame*, a JSON object, under *head*."""
    return b"%b%b%b}" % (_encode(head)[:-1], _FRAME_KEY, frame)


def split(payload: bytes) -> tuple[bytes, bytes]:
    """
    Return the head, as JSON, and the frame of a message.

    Raises:
        ValueError: If *payload* is not a message.
    """
    at = payload.find(_FRAME_KEY)
    if at < 0 or not payload.endswith(b"}}"):
        raise ValueError("not a message of the bus")
    return payload[:at] + b"}", payload[at + len(_FRAME_KEY) : -1]


def decode_head(payload: bytes) -> tuple[Head, bytes]:
    """
    Return the head and the frame of a message.

    Raises:
        ValueError: If *payload* is not a message, or one of a later schema.
    """
    raw, frame = split(payload)
    try:
        decoded = _decode_head(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a message of the bus") from error
    if decoded.v != SCHEMA_VERSION:
        raise ValueError("a message of another schema version")
    return decoded, frame


def renewed(payload: bytes, version: Version) -> bytes:
    """
    Return the message *payload* as another writer sends it now, with its *version*.

    Raises:
        ValueError: If *payload* is not a message, or one of a later schema.
    """
    old, frame = decode_head(payload)
    epoch, seq = version
    published_at = iso(now_ns())
    return encode(
        msgspec.structs.replace(old, epoch=epoch, seq=seq, published_at=published_at),
        frame,
    )
