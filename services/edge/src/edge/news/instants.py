"""Where an instant lies in the stored news: asked of the stream, without a consumer."""

from __future__ import annotations

import json

from nats.errors import Error as NatsError

from edge.positions import NewsPosition, stream_mark
from edge.rest.news import Found
from feedmesh.bus import Bus
from feedmesh.clock import iso
from feedmesh.errors import BusError
from feedmesh.stored import stream_state
from feedmesh.streams import NEWS


__all__ = ["find_instant"]

_TIMEOUT = 5.0
_NONE_SUCH = "404"


async def find_instant(bus: Bus, instant_ns: int) -> Found:
    """
    Return the place after which the stream has what it stored from *instant_ns* on.

    Raises:
        BusError: If the stream does not answer.
    """
    # Before the search: whatever is stored in between is after this place.
    state = await stream_state(bus, NEWS)
    mark = stream_mark(state.identity)
    sequence = await _first_since(bus, instant_ns)
    if sequence is None:
        return Found(NewsPosition(mark, state.last), complete=True)
    # If the oldest message that is left is as new as asked for, older ones that were
    # as new may have gone; nothing has gone while the first of all is still there.
    complete = sequence > state.first or state.first <= 1
    return Found(NewsPosition(mark, sequence - 1), complete)


async def _first_since(bus: Bus, instant_ns: int) -> int | None:
    query = {"start_time": iso(instant_ns), "next_by_subj": ">"}
    try:
        reply = await bus.nc.request(
            f"$JS.API.DIRECT.GET.{NEWS}", json.dumps(query).encode(), timeout=_TIMEOUT
        )
    except NatsError as error:
        text = str(error) or type(error).__name__
        raise BusError(f"stream {NEWS}: {text}") from error
    headers = reply.headers or {}
    status = headers.get("Status")
    if status == _NONE_SUCH:
        return None
    if status is not None:
        raise BusError(f"stream {NEWS}: status {status}")
    return int(headers["Nats-Sequence"])
