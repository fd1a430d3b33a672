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

import asyncio
import json
import logging
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from feedmesh import subjects
from feedmesh.backoff import backoff
from feedmesh.bus import Bus
from feedmesh.clock import now_ns
from feedmesh.errors import BusError
from feedmesh.stored import last_of
from feedmesh.streams import NEWS


__all__ = ["Claim", "claim_epoch", "claim_when_possible", "is_current"]

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


async def is_current(bus: Bus, claim: Claim) -> bool:
    """
    Return whether *claim* is still the last one of its feed.

    Raises:
        BusError: If the stream did not answer.
    """
    last = await last_of(bus, NEWS, subjects.epoch(claim.feed))
    return last is not None and last.sequence == claim.token


async def claim_epoch(bus: Bus, feed: str, *, after: int = 0) -> Claim:
    """
    Take over the writing for *feed*.

    Args:
        bus: The connection.
        feed: Which one.
        after: An epoch that was used before, even if the stream has forgotten it.

    Raises:
        BusError: If the stream did not answer, or another claimed at the same time;
            trying again is right in both cases.
    """
    subject = subjects.epoch(feed)
    last = await last_of(bus, NEWS, subject)
    previous = json.loads(last.payload)["epoch"] if last else 0
    epoch = max(now_ns() // 1_000_000, previous + 1, after + 1)
    try:
        ack = await bus.nc.jetstream().publish(
            subject,
            json.dumps({"v": 1, "epoch": epoch}).encode(),
            headers={
                "Nats-Expected-Last-Subject-Sequence": str(last.sequence if last else 0)
            },
        )
    except (NatsError, APIError) as error:
        raise BusError(
            f"claim of {feed}: {str(error) or type(error).__name__}"
        ) from error
    logger.info("writing for a feed", extra={"feed": feed, "epoch": epoch})
    return Claim(feed, epoch, ack.seq)


async def claim_when_possible(bus: Bus, feed: str, *, after: int = 0) -> Claim:
    """Take over the writing for *feed*, trying until the streams are there."""
    pauses = backoff(0.05, 1.0)
    while True:
        try:
            return await claim_epoch(bus, feed, after=after)
        except BusError as error:
            logger.debug("%s", error)
            await asyncio.sleep(next(pauses))
