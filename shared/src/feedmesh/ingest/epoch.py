"""
Whose turn it is to write for a feed.

A writer claims an epoch by writing it on a subject of the news stream, on condition
that nobody wrote there since it looked (compare-and-swap). The number of that message
in the stream is the fencing token: each news publish names it, and the server refuses
the publish once somebody newer has claimed. Prices carry the epoch, and readers drop
lower ones.

The epoch itself is the time of the claim in milliseconds, or one more than the last
one if the clock went back. So it still grows when the stream was lost and made anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.errors import BusError
from feedmesh.stored import last_of
from feedmesh.streams import NEWS


__all__ = ["Claim", "claim_epoch", "last_claim"]

logger = logging.getLogger(__name__)


class Claim(NamedTuple):
    """
    The right to write, until somebody claims after us.

    Attributes:
        feed: For which feed.
        epoch: Goes into every message.
        token: Goes into the headers of every news publish.
    """

    feed: str
    epoch: int
    token: int

    def headers(self) -> dict[str, str]:
        """Return the headers with which the server refuses us once we are stale."""
        return {
            "Nats-Expected-Last-Subject-Sequence": str(self.token),
            "Nats-Expected-Last-Subject-Sequence-Subject": subjects.epoch(self.feed),
        }


async def last_claim(bus: Bus, feed: str) -> Claim | None:
    """
    Return the newest claim on *feed*; None if the stream has none.

    Raises:
        BusError: If the stream did not answer.
    """
    last = await last_of(bus, NEWS, subjects.epoch(feed))
    if last is None:
        return None
    return Claim(feed, json.loads(last.payload)["epoch"], last.sequence)


async def claim_epoch(
    bus: Bus,
    feed: str,
    *,
    after: int = 0,
    last: Claim | None = None,
    still: Callable[[], bool] = lambda: True,
) -> Claim:
    """
    Take over the writing for *feed*.

    Args:
        bus: The connection.
        feed: Which one.
        after: An epoch that was used before, even if the stream has forgotten it.
        last: The newest claim, if it is known; the stream refuses us if it is not.
        still: Whether to go on, asked once the stream has answered: who cannot hear
            NATS cannot hear the leader either.

    Raises:
        BusError: If the stream did not answer, or another claimed at the same time, or
            *still* says no; trying again is right in all cases.
    """
    if last is None:
        last = await last_claim(bus, feed)
    if not still():
        raise BusError(f"claim of {feed}: another leads")
    epoch = max(now_ns() // 1_000_000, (last.epoch if last else 0) + 1, after + 1)
    try:
        ack = await bus.nc.jetstream().publish(
            subjects.epoch(feed),
            json.dumps({"v": 1, "epoch": epoch}).encode(),
            headers={
                "Nats-Expected-Last-Subject-Sequence": str(last.token if last else 0)
            },
        )
    except (NatsError, APIError) as error:
        raise BusError(
            f"claim of {feed}: {str(error) or type(error).__name__}"
        ) from error
    logger.info("writing for a feed", extra={"feed": feed, "epoch": epoch})
    return Claim(feed, epoch, ack.seq)
