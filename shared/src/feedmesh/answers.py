"""
Requests that have many answers, which come over one subscription for all requests.

A subscription for each would tell the server of it and of its end 400 times a second
where news come fast. And what was asked when the connection broke is not answered any
more: to wait until that is overdue would hold up its reader for seconds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeVar

from feedmesh.errors import BusError
from feedmesh.fast_lane import Lane, LaneClient, LaneMessage


__all__ = ["Answers"]

T = TypeVar("T")


class Answers:
    """What is asked over one connection and not answered in full yet."""

    def __init__(self) -> None:
        self._inbox = ""
        self._names = itertools.count(1)
        self._asked: dict[bytes, tuple[Lane, asyncio.Future[Any]]] = {}

    async def collect(
        self,
        nc: LaneClient,
        subject: str,
        payload: bytes,
        take: Lane,
        whole: asyncio.Future[T],
    ) -> T:
        """
        Return what *whole* becomes, while answers to *payload* are handed to *take*.

        Raises:
            BusError: If the connection breaks before.
            nats.errors.Error: As ``subscribe`` and ``publish`` do.
        """
        if not self._inbox:
            inbox = nc.new_inbox()
            await nc.open_lane(f"{inbox}.*", self._answered)
            self._inbox = inbox
        reply = f"{self._inbox}.{next(self._names)}"
        key = reply.encode()
        self._asked[key] = take, whole
        try:
            await nc.publish(subject, payload, reply)
            return await whole
        finally:
            del self._asked[key]

    def lost(self) -> None:
        """Note that the connection broke: nothing that was asked is answered now."""
        for _, whole in self._asked.values():
            if not whole.done():
                whole.set_exception(BusError("NATS went away"))

    def _answered(self, messages: Sequence[LaneMessage]) -> None:
        for reply, answers in itertools.groupby(messages, itemgetter(0)):
            take, _ = self._asked.get(reply, (None, None))
            if take is not None:
                take(list(answers))
