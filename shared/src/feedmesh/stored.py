"""
Read what a stream has stored, straight from it, without a consumer.

The server answers one request with a batch of messages (ADR-31, "direct get"). A
reader keeps nothing but the number of the last message it has seen, so nothing can be
lost in between: it asks again from there. nats-py's ordered consumer, which KV watch
uses, loses messages after a slow-consumer episode and does not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from feedmesh.bus import Bus
from feedmesh.errors import BusError
from feedmesh.fast_lane import LaneMessage


__all__ = [
    "StoredMessage",
    "StoredPage",
    "StreamState",
    "last_of",
    "read_from",
    "read_page",
    "stream_state",
]

_BATCH = 1000
# Of one answer; the server cuts a batch here and tells how much is left.
_BATCH_BYTES = 8 * 1024 * 1024
# A stream that is electing its leader does not answer, not even once it has one.
_PATIENCE_SECONDS = (0.5, 0.5, 1.0, 3.0)

# What the server says of a message; of an answer without one, where its status is.
_subject = re.compile(rb"\r\nNats-Subject: *([^\r]+)").search
_sequence = re.compile(rb"\r\nNats-Sequence: *(\d+)").search
_pending = re.compile(rb"\r\nNats-Num-Pending: *(\d+)").search
_STATUS = slice(len(b"NATS/1.0 "), len(b"NATS/1.0 204"))


class StoredMessage(NamedTuple):
    """
    A message as the stream keeps it.

    Attributes:
        subject: Where it was published.
        sequence: Its number in the stream; grows, with holes.
        payload: As published.
    """

    subject: str
    sequence: int
    payload: bytes


class StoredPage(NamedTuple):
    """
    A part of a stream.

    Attributes:
        messages: Oldest first.
        more: Whether there were more when it was read.
    """

    messages: list[StoredMessage]
    more: bool


class StreamState(NamedTuple):
    """
    What a stream is now.

    Attributes:
        identity: Changes when the stream is deleted and made again.
        first: Number of its oldest message.
        last: Number of its newest message.
        deleted: Numbers in between that were deleted, if they were asked for.
    """

    identity: str
    first: int
    last: int
    deleted: tuple[int, ...] = ()

    def deleted_after(self, sequence: int) -> bool:
        """Return whether a message after *sequence* was deleted."""
        return any(number > sequence for number in self.deleted)


async def stream_state(bus: Bus, stream: str, *, deleted: bool = False) -> StreamState:
    """
    Return the state of *stream*, with what was deleted inside it if asked for.

    Raises:
        BusError: If there is no such stream, or no answer.
    """
    question = b'{"deleted_details":true}' if deleted else b""
    info = json.loads(await _answer(bus, f"$JS.API.STREAM.INFO.{stream}", question))
    if "error" in info:
        raise BusError(f"stream {stream}: {info['error'].get('description')}")
    state = info["state"]
    return StreamState(
        info["created"],
        state["first_seq"],
        state["last_seq"],
        tuple(state.get("deleted") or ()),
    )


async def _answer(bus: Bus, subject: str, question: bytes) -> bytes:
    *early, last = _PATIENCE_SECONDS
    for seconds in early:
        with contextlib.suppress(BusError):
            return await bus.request(subject, question, timeout=seconds)
    return await bus.request(subject, question, timeout=last)


async def read_from(
    bus: Bus, stream: str, sequence: int, subject: str = ">", *, batch: int = _BATCH
) -> AsyncIterator[StoredMessage]:
    """
    Yield what *stream* has from *sequence* on, oldest first, until it has no more.

    Args:
        bus: The connection.
        stream: Name of a stream that allows direct get.
        sequence: First number of interest; 0 and 1 mean from the start.
        subject: Only messages on subjects that match.
        batch: How many to ask for at a time.

    Raises:
        BusError: If the server does not answer or answers with an error.
    """
    position = max(sequence, 1)
    while True:
        page = await read_page(bus, stream, position, batch, subject)
        for message in page.messages:
            yield message
        if not page.more:
            return
        position = page.messages[-1].sequence + 1


async def last_of(bus: Bus, stream: str, subject: str) -> StoredMessage | None:
    """
    Return the newest message of *stream* on exactly *subject*, if there is one.

    Raises:
        BusError: If the server does not answer.
    """
    try:
        found = await bus.nc.jetstream().get_last_msg(stream, subject, direct=True)
    except NotFoundError:
        return None
    except (NatsError, APIError) as error:
        raise BusError(f"{stream}: {str(error) or type(error).__name__}") from error
    return StoredMessage(subject, int(found.seq or 0), bytes(found.data or b""))


async def read_page(
    bus: Bus, stream: str, sequence: int, limit: int, subject: str = ">"
) -> StoredPage:
    """
    Return at most *limit* messages of *stream* from *sequence* on.

    Fewer, but never none, may come although there are more.

    Raises:
        BusError: If the server does not answer or answers with an error.
    """
    request = {
        "batch": limit,
        "max_bytes": _BATCH_BYTES,
        "seq": sequence,
        "next_by_subj": subject,
    }
    page = _Page(stream)
    question = json.dumps(request).encode()
    return await bus.collect(
        f"$JS.API.DIRECT.GET.{stream}", question, page.take, page.whole
    )


class _Page:
    """Collects the answers to one request; *whole* is what they amount to."""

    def __init__(self, stream: str) -> None:
        self.whole: asyncio.Future[StoredPage] = (
            asyncio.get_running_loop().create_future()
        )
        self._stream = stream
        self._messages: list[StoredMessage] = []

    def take(self, answers: Sequence[LaneMessage]) -> None:
        for _, payload, headers in answers:
            if self.whole.done():
                return
            subject, sequence = _subject(headers), _sequence(headers)
            if subject and sequence:
                message = StoredMessage(subject[1].decode(), int(sequence[1]), payload)
                self._messages.append(message)
            else:
                self._end(headers)

    def _end(self, headers: bytes) -> None:
        status = headers[_STATUS]
        if status in (b"204", b"404"):  # end of the batch; nothing there
            pending = _pending(headers)
            more = bool(self._messages and pending and int(pending[1]))
            self.whole.set_result(StoredPage(self._messages, more))
        else:
            text = f"stream {self._stream}: status {status.decode()}"
            self.whole.set_exception(BusError(text))
