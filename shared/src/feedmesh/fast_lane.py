"""
A shorter way through nats-py for subscriptions with very many small messages.

nats-py matches each message with regular expressions, wraps it, puts it into a queue
and wakes a task: about 5 µs each. A *lane* is a subscription whose messages go straight
from the bytes that were read to a plain function, all of one read at a time: about a
tenth of that. There is no queue, so there is nothing to overflow; whoever is too slow
makes the server's own buffer grow, and after the disconnect that follows everything is
read again from the stream.

Everything else, connecting, reconnecting, subscribing again, all other messages, stays
with nats-py. It has no public hook for this; the one attribute that is used is its
parser. A test against a real server tells when a new version has changed that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import Parser


__all__ = ["Lane", "LaneClient", "LaneMessage"]

LaneMessage = tuple[bytes, bytes, bytes]
"""Subject, payload, and raw headers: empty if there are none."""
Lane = Callable[[Sequence[LaneMessage]], None]
"""Takes the messages of one read, in order; must neither raise nor wait."""

_CRLF = b"\r\n"


class _Head(NamedTuple):
    """What the first line of a message says; sizes in bytes, with the last CRLF."""

    lane: Lane | None
    subject: bytes
    headers: int
    size: int


class _LaneParser(Parser):
    """nats-py's parser with a shorter way for messages on lanes."""

    def __init__(self, nc: Client, lanes: dict[bytes, Lane]) -> None:
        super().__init__(nc)
        self._lanes = lanes

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read; keep an incomplete rest for the next time."""
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at = 0
        size = len(data)
        find = data.find
        lane: Lane | None = None
        messages: list[LaneMessage] = []
        while True:
            start = find(_CRLF, at) + 2
            if start < 2:
                break
            own, subject, headers, rest = self._read(data[at:start])
            end = start + rest
            if end > size:
                break
            if own is not lane or own is None:
                # What came before must be taken before, whatever this is.
                if lane is not None and messages:
                    lane(messages)
                    messages = []
                lane = own
            if own is None:
                await super().parse(data[at:end])
            elif headers:
                body = start + headers
                messages.append((subject, data[body : end - 2], data[start:body]))
            else:
                messages.append((subject, data[start : end - 2], b""))
            at = end
        self.buf.extend(data[at:])
        if lane is not None and messages:
            lane(messages)

    def _read(self, line: bytes) -> _Head:
        # MSG subject sid [reply] size, or HMSG subject sid [reply] headers size
        words = line.split()
        kind = words[0] if words else b""
        if kind != b"MSG" and kind != b"HMSG":
            return _Head(None, b"", 0, 0)
        lane = self._lanes.get(words[2])
        headers = int(words[-2]) if kind == b"HMSG" else 0
        return _Head(lane, words[1], headers, int(words[-1]) + 2)


class LaneClient(Client):
    """nats-py's client, which can also open lanes."""

    def __init__(self) -> None:
        super().__init__()
        self._lanes: dict[bytes, Lane] = {}
        self._ps: _LaneParser = _LaneParser(self, self._lanes)

    async def open_lane(self, subject: str, lane: Lane) -> Subscription:
        """
        Subscribe to *subject* and have its messages handed to *lane*.

        Raises:
            nats.errors.Error: As ``subscribe`` does.
        """

        async def early(message: Msg) -> None:
            # What came before the next line has been reached.
            lane([(message.subject.encode(), message.data, b"")])

        subscription = await self.subscribe(subject, cb=early)
        self._lanes[_key(subscription)] = lane
        return subscription

    async def close_lane(self, subscription: Subscription) -> None:
        """
        End a subscription of :meth:`open_lane`.

        Raises:
            nats.errors.Error: As ``unsubscribe`` does.
        """
        self._lanes.pop(_key(subscription), None)
        await subscription.unsubscribe()


def _key(subscription: Subscription) -> bytes:
    return str(subscription._id).encode()
