"""The garbage collector looks at little at a time, and still finds everything."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from feedmesh import collector


TAPE = 20_000
A_TURN = 100


class Ring:
    """What refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@contextmanager
def looks() -> Iterator[list[int]]:
    """Note at how many new objects each look is."""
    noted: list[int] = []

    def note(phase: str, _: object) -> None:
        if phase == "start":
            noted.append(len(gc.get_objects(generation=0)))

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
    monkeypatch.setattr(collector, "_SECONDS", 0.001)
    monkeypatch.setattr(collector, "_EVERYTHING", 100)
    async with collector.collecting():
        ring = Ring()
        for generation in range(age):
            gc.collect(generation)
        gone = weakref.ref(ring)
        del ring
        async with asyncio.timeout(10):
            while gone() is not None:
                await asyncio.sleep(0.001)


async def test_afterwards_it_is_as_it_was() -> None:
    async with collector.collecting():
        assert not gc.isenabled()

    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
