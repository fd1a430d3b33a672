"""
Times for which a feed's data may lack something: from, to, why.

No upstream sends again what was missed, so every interruption is written down. A record
is published when the gap opens, with ``to`` null, and again under the same id when it
has ended; of the records of one id the last one holds. All lie in one stream, in the
order of what happened.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import msgspec

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.messages import decode_head
from feedmesh.stored import StoredMessage, read_from
from feedmesh.streams import GAPS


__all__ = [
    "FeedGap",
    "StoredGap",
    "decode_gap",
    "encode_gap",
    "parse_stored",
    "read_gaps",
]

logger = logging.getLogger(__name__)


class FeedGap(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag="feed_gap",
    tag_field="type",
    rename={"since": "from", "until": "to"},
):
    """
    A time for which data of a feed may be missing.

    Attributes:
        id: The same in all records of this gap.
        feed: Of which feed.
        link: On which of its links.
        since: All that the upstream sent before is there; ISO 8601, UTC.
        until: Data flows again from here on; null while it does not.
        reason: Why, as a constant word.
        backfilled: Whether what was missed was got by other means.
    """

    id: str
    feed: str
    link: str
    since: str
    until: str | None
    reason: str
    backfilled: bool = False


class StoredGap(msgspec.Struct, frozen=True):
    """A record, its number in the stream, and its exact bytes as clients get them."""

    sequence: int
    gap: FeedGap
    frame: bytes


encode_gap = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(FeedGap).decode


def decode_gap(frame: bytes) -> FeedGap:
    """
    Return the gap that *frame* shows.

    Raises:
        ValueError: If it is not a frame of this module.
    """
    try:
        return _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("not a gap frame") from error


def parse_stored(message: StoredMessage) -> StoredGap | None:
    """Return the record in *message*; None, and a line in the log, if there is none."""
    try:
        _, frame = decode_head(message.payload)
        return StoredGap(message.sequence, decode_gap(frame), frame)
    except ValueError:
        logger.warning("a gap record makes no sense")
        return None


async def read_gaps(bus: Bus, feed: str | None = None) -> AsyncIterator[StoredGap]:
    """
    Yield all records that the stream has, oldest first; only *feed*'s if it is given.

    Raises:
        BusError: If the stream does not answer.
    """
    subject = subjects.ALL_GAPS if feed is None else subjects.gaps(feed)
    async for message in read_from(bus, GAPS, 1, subject):
        stored = parse_stored(message)
        if stored is not None:
            yield stored
