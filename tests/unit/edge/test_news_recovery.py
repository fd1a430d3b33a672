"""Whoever is told that everything was recovered has everything."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from operator import attrgetter

import pytest
from unit.edge.news_history import History, Outlet

from edge.clients.chores import Chores
from edge.clients.sender import Flusher, Sender
from edge.news.log import NewsLog, Recovery
from edge.news.reader import NewsReader
from edge.positions import NewsPosition
from feedmesh.errors import BusError


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


async def untrue_histories(count: int) -> tuple[list[str], int]:
    """Return what was untrue in *count* histories, and how often was recovered."""
    untrue, recovered = [], 0
    for seed in range(count):
        history = History(random.Random(seed))
        await history.run(15)
        untrue += [f"history {seed}: {text}" for text in history.untrue]
        recovered += history.recovered
    return untrue, recovered


async def test_nobody_is_told_recovered_with_a_hole() -> None:
    untrue, recovered = await untrue_histories(10_000)

    assert untrue == []
    # Not for want of recoveries.
    assert recovered > 5_000


async def test_without_looking_for_holes_the_histories_find_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: an edge that believes every position to be complete."""

    async def believe(self: NewsLog, position: NewsPosition) -> Recovery:
        return Recovery(True)

    monkeypatch.setattr(NewsLog, "recovery", believe)

    untrue, _ = await untrue_histories(200)

    assert untrue


async def test_what_was_read_is_handed_on_though_the_rest_cannot_be() -> None:
    history = History(random.Random(1))
    log, stream = history.edges[0], history.stream
    await log.advance(check=True)
    before = log.position.sequence
    told: list[int] = []

    def tell() -> None:
        told.append(log.position.sequence - before)
        stream.away = True

    log.on_advance(tell)
    for number in range(20):
        stream.publish(f"item {number}", 0)
    with pytest.raises(BusError):
        await log.advance(check=False)

    assert told == [7]


async def test_what_was_removed_before_it_was_read_is_not_asked_for_in_a_loop() -> None:
    history = History(random.Random(1))
    log, stream = history.edges[0], history.stream
    stream.publish("first", 0)
    await log.advance(check=True)
    lost: list[tuple[NewsPosition, NewsPosition]] = []
    reader = NewsReader(
        log,
        Sender(Outlet()),
        Flusher(),
        Chores(),
        attrgetter("frame"),
        lambda after, to, _: lost.append((after, to)),
    )
    behind = reader.position
    for number in range(4100):
        stream.publish(f"later {number}", 0)
    await log.advance(check=True)
    reader.close()
    stream.expire(stream.last)
    asked = stream.asked
    reader.go_to(behind, lambda: None)

    await asyncio.sleep(0.3)

    assert stream.asked < asked + 20
    assert lost == []
    stream.publish("newest", 0)
    await log.advance(check=True)
    async with asyncio.timeout(5):
        while reader.position != log.position:
            await asyncio.sleep(0.01)
    assert lost == [(behind, behind._replace(sequence=stream.last - 1))]


async def test_a_log_that_lags_behind_a_new_stream_does_not_answer_for_it() -> None:
    history = History(random.Random(1))
    lagging, stream = history.edges[0], history.stream
    stream.publish("old", 0)
    await lagging.advance(check=True)
    stream.recreate()
    stream.publish("new", 0)
    position = NewsPosition(stream.mark, 1)

    recovery = await lagging.recovery(position)

    assert recovery == Recovery(False, "stream_unavailable")
    await lagging.advance(check=False)
    assert await lagging.recovery(position) == Recovery(True)
