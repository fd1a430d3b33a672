"""What a stream has got since it was last looked at, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from feedmesh import tail
from feedmesh.bus import Bus
from feedmesh.stored import StoredMessage, read_from
from feedmesh.streams import GAPS
from feedmesh.tail import StreamTail


async def store(bus: Bus, *texts: str, subject: str = "gaps.ls") -> None:
    for text in texts:
        await bus.request(subject, text.encode())


async def look(bus: Bus, reader: StreamTail) -> list[str]:
    return [message.payload.decode() async for message in reader.read(bus)]


async def test_each_look_goes_on_from_the_last(bus: Bus) -> None:
    reader = StreamTail(GAPS, "gaps.ls")
    await store(bus, "a", "b")
    assert await look(bus, reader) == ["a", "b"]
    assert await look(bus, reader) == []

    await store(bus, "of another feed", subject="gaps.fmp")
    await store(bus, "c")
    await store(bus, "of another feed", subject="gaps.fmp")
    assert await look(bus, reader) == ["c"]
    assert await look(bus, reader) == []
    assert reader.read_to == 5


async def test_what_a_replica_has_not_got_yet_is_found_by_the_next_look(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = 2

    async def behind_the_leader(
        bus: Bus, stream: str, sequence: int, subject: str
    ) -> AsyncIterator[StoredMessage]:
        async for message in read_from(bus, stream, sequence, subject):
            if message.sequence <= 5 - behind:
                yield message

    monkeypatch.setattr(tail, "read_from", behind_the_leader)
    reader = StreamTail(GAPS, "gaps.ls")
    await store(bus, "a", "b", "c", "d", "e")

    assert await look(bus, reader) == ["a", "b", "c"]
    behind = 0
    assert await look(bus, reader) == ["d", "e"]
