"""Whoever is told that everything was recovered has everything."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from unit.edge.news_history import History

from edge.news.log import NewsLog, Recovery
from edge.positions import NewsPosition


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
