"""The garbage collector looks at little at a time, and still finds everything."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from feedmesh import collector


TAPE = 20_000
A_TURN = 100


class Ring:
    """What refers to itself."""

    def __init__(self) -> None:
        self.itself = self


class Looks(list[int]):
    """
    At how many new objects each look was.

    Attributes:
        whole: How many looks were at everything.
    """

    whole = 0


@contextmanager
def looks() -> Iterator[Looks]:
    """Note what the collector looks at."""
    noted = Looks()

    def note(phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            noted.append(len(gc.get_objects(generation=0)))
            noted.whole += info["generation"] == 2

    gc.callbacks.append(note)
    try:
        yield noted
    finally:
        gc.callbacks.remove(note)


async def churn(turns: int) -> int:
    """Replace what is on a full tape; return the most objects of one look."""
    tape = deque([(number, "old") for number in range(TAPE)], maxlen=TAPE)
    gc.collect()
    with looks() as noted:
        for turn in range(turns):
            tape.extend((turn, str(number)) for number in range(A_TURN))
            await asyncio.sleep(0.001)
        gc.collect()
    return max(noted)


async def test_a_full_tape_is_looked_at_in_small_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "_SECONDS", 0.01)
    async with collector.collecting():
        most = await churn(150)

    assert most < 5_000


async def test_by_itself_the_collector_looks_at_all_of_it() -> None:
    """The negative control: as many are freed as are new, so it never looks."""
    most = await churn(150)

    assert most > 10_000


@pytest.mark.parametrize("age", [0, 1, 2])
async def test_what_refers_to_itself_is_found(
    monkeypatch: pytest.MonkeyPatch, age: int
) -> None:
    """However old it is, once enough others have become as old."""
    monkeypatch.setattr(collector, "_SECONDS", 0.001)
    monkeypatch.setattr(collector, "_EVERYTHING", collector._SURVIVORS)
    others: list[Ring] = []
    async with collector.collecting():
        ring = Ring()
        for generation in range(age):
            gc.collect(generation)
        gone = weakref.ref(ring)
        del ring
        async with asyncio.timeout(20):
            while gone() is not None:
                others += [Ring() for _ in range(100)]
                await asyncio.sleep(0.001)


async def test_everything_is_seldom_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes long where there is much, so only if much of it is new."""
    monkeypatch.setattr(collector, "_SECONDS", 0.001)
    monkeypatch.setattr(collector, "_EVERYTHING", collector._SURVIVORS)
    async with collector.collecting():
        kept = [Ring() for _ in range(50_000)]
        with looks() as noted:
            for _ in range(100):
                kept += [Ring() for _ in range(100)]
                await asyncio.sleep(0.002)

    assert len(noted) > 50
    assert noted.whole <= 3


async def test_afterwards_it_is_as_it_was() -> None:
    async with collector.collecting():
        assert not gc.isenabled()

    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
