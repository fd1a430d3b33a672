"""
Prices in every order in which they can arrive: live, from the stream, lost, twice.

A writer publishes; the wire may lose, repeat and reorder; the stream keeps the newest
of each symbol, can be made anew, and is read now and then; another writer may take
over, and the one before it may wake once more. Whatever happens, the cache must end
with the newest values, and whoever wants every update must get each of them or be told
that it does not.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.positions import PricePosition
from edge.prices.cache import PriceCache
from edge.prices.merge import PriceMerge
from edge.prices.tape import PriceTape
from edge.prices.updates import Update


SYMBOLS = ("A", "B", "C")


def update(symbol: str, version: tuple[int, int]) -> Update:
    return Update(symbol, "test", version, f"{symbol}{version}".encode())


class Step(NamedTuple):
    what: str
    number: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            ("publish",) * 6
            + ("live",) * 6
            + ("drop", "repeat", "swap", "sweep", "recreate", "resend")
            + ("takeover", "woken")
        ),
        st.integers(0, 5),
    ),
    max_size=60,
)


class World:
    """One writer at a time, one wire, one stream, one edge, one client."""

    def __init__(self) -> None:
        self.version = self.over = (1, 0)
        self.published: list[Update] = []
        self.stream: dict[str, Update] = {}
        self.wire: list[Update] = []
        self.cache = PriceCache()
        self.tape = PriceTape(1000)
        self.merge = PriceMerge(self.cache, self.tape)
        # What a client has heard that wants every update of A and B.
        self.heard: list[Update] = []
        self.told = False
        # The highest epoch that the edge has heard of.
        self.epoch = 0

    def publish(self, number: int) -> None:
        self.version = (self.version[0], self.version[1] + 1)
        message = update(SYMBOLS[number % 3], self.version)
        self.published.append(message)
        self._write(message)

    def live(self, _: int = 0) -> None:
        if self.wire:
            self._take(self.wire.pop(0))

    def drop(self, number: int) -> None:
        if self.wire:
            self.wire.pop(number % len(self.wire))

    def repeat(self, number: int) -> None:
        if self.wire:
            self.wire.append(self.wire[number % len(self.wire)])

    def swap(self, _: int) -> None:
        if len(self.wire) > 1:
            self.wire[0], self.wire[1] = self.wire[1], self.wire[0]

    def sweep(self, _: int = 0) -> None:
        read = list(self.stream.values())
        # What was sent before the answer is taken before the answer.
        while self.wire:
            self.live()
        for message in read:
            stored = update(message.symbol, message.version)
            self.epoch = max(self.epoch, stored.version[0])
            if self.merge.stored(stored):
                self._hear(stored)
        if self.merge.swept():
            self.told = True

    def takeover(self, _: int) -> None:
        self.over, self.version = self.version, (self.version[0] + 1, 0)

    def woken(self, number: int) -> None:
        """The writer before this one says what it has not said yet, and is no more."""
        symbol = SYMBOLS[number % 3]
        known = any(message.symbol == symbol for message in self.published)
        if known and self.over[0] < self.version[0]:
            self.over = (self.over[0], self.over[1] + 1)
            self._write(update(symbol, self.over))

    def recreate(self, _: int) -> None:
        self.stream.clear()
        self.merge.recreated()

    def resend(self, number: int) -> None:
        """The writer sends its newest state of a symbol again, if it is its own."""
        symbol = SYMBOLS[number % 3]
        newest = [m for m in self.published if m.symbol == symbol][-1:]
        for message in newest:
            if message.version[0] == self.version[0]:
                self._write(message)
            else:
                self.publish(number)

    def _write(self, message: Update) -> None:
        # The stream keeps the order in which it was written to.
        self.stream.pop(message.symbol, None)
        self.stream[message.symbol] = message
        self.wire.append(message)

    def _take(self, message: Update) -> None:
        fresh = update(message.symbol, message.version)
        new, lost = self.merge.live(fresh)
        self.told = self.told or lost
        assert not new or fresh.version[0] >= self.epoch
        self.epoch = max(self.epoch, fresh.version[0])
        if new:
            self._hear(fresh)

    def _hear(self, message: Update) -> None:
        if message.symbol in "AB":
            self.heard.append(message)


@settings(max_examples=500)
@given(steps)
def test_the_cache_ends_with_the_newest_and_losses_are_told(
    happened: list[Step],
) -> None:
    world = World()
    # The edge has heard of the feed.
    world.publish(2)
    world.sweep()
    for step in happened:
        getattr(world, step.what)(step.number)
    # In the end the writer sends all its states again, and the stream is swept.
    for number in range(3):
        world.resend(number)
    world.sweep()

    for symbol in SYMBOLS:
        newest = [m.version for m in world.published if m.symbol == symbol][-1:]
        entry = world.cache.entry(symbol)
        assert ([entry.version] if entry else []) == newest
    versions = [m.version for m in world.heard if m.symbol == "A"]
    assert versions == sorted(set(versions))
    if not world.told:
        due = [m.version for m in world.published if m.symbol in "AB"]
        # Before anybody has heard of another writer, a woken one is the only one.
        assert [m.version for m in world.heard if m.version in due] == due


def resumed(seed: int, *, trust: bool) -> tuple[list[str], int]:
    """Return what was untrue when clients moved between two edges, and recoveries."""
    dice = random.Random(seed)
    worlds = [World(), World()]
    untrue, recovered = [], 0
    heard: list[tuple[int, int]] | None = None
    position: PricePosition | None = None
    begun = (1, 0)
    for _ in range(30):
        for _ in range(dice.randint(0, 5)):
            number = dice.randint(0, 2)
            for world in worlds:
                world.publish(number)
        for world in worlds:
            for _ in range(dice.randint(0, 6)):
                world.live()
            if dice.random() < 0.1:
                world.drop(dice.randint(0, 5))
            if dice.random() < 0.2:
                world.sweep()
        if dice.random() < 0.03:
            for world in worlds:
                world.takeover(0)
        # The client comes, hears a part of what is going on, and goes.
        edge = dice.choice(worlds)
        missed = None
        if position is not None:
            missed = edge.tape.since(position, {"A", "B", "C"})
            settled = edge.tape.settled("test")
            behind = settled is None or settled < (position.epoch, position.seq)
            if missed is None and trust:
                missed = []
            elif behind and not trust:
                missed = None
        if missed is None or heard is None:
            heard, end = [], edge.tape.settled("test")
            if end is None:
                position = None
                continue
            begun = end
        else:
            recovered += 1
            heard += [m.version for m in missed]
            assert position is not None
            end = (position.epoch, position.seq)
            if missed:
                end = missed[-1].version
            elif trust:
                end = edge.tape.settled("test") or end
        position = PricePosition("test", *end)
        due = [m.version for m in worlds[0].published if begun < m.version <= end]
        if heard != due:
            untrue.append(f"seed {seed}: {heard} instead of {due}")
            heard = None
    return untrue, recovered


def test_a_price_resume_never_leaves_a_hole() -> None:
    untrue, recovered = [], 0
    for seed in range(3000):
        lies, count = resumed(seed, trust=False)
        untrue += lies
        recovered += count

    assert untrue == []
    assert recovered > 3000


def test_a_resume_that_trusts_every_position_leaves_holes() -> None:
    """The control."""
    assert any(resumed(seed, trust=True)[0] for seed in range(300))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ((1, 4), [5, 6]),
        ((1, 6), []),
        ((1, 3), [4, 5, 6]),
        ((1, 2), None),  # the tape is too short
        ((1, 7), None),  # from the future
        ((2, 1), None),  # another writer
        ((0, 5), None),
    ],
)
def test_the_tape_gives_what_came_after_or_nothing(
    position: tuple[int, int], expected: list[int] | None
) -> None:
    tape = PriceTape(3)
    for seq in range(1, 7):
        tape.live(update("A", (1, seq)))

    missed = tape.since(PricePosition("test", *position), {"A"})

    assert (None if missed is None else [m.version[1] for m in missed]) == expected


class Edge:
    """A cache that has heard A and B of one writer, and A of the next."""

    def __init__(self) -> None:
        self.cache = PriceCache()
        self.merge = PriceMerge(self.cache, PriceTape(100))
        self.merge.live(update("A", (1, 1)))
        self.merge.live(update("B", (1, 2)))
        self.merge.live(update("A", (2, 1)))

    def shown(self) -> dict[str, tuple[int, int]]:
        entries = {symbol: self.cache.entry(symbol) for symbol in SYMBOLS}
        return {symbol: e.version for symbol, e in entries.items() if e is not None}


def test_what_a_replaced_writer_says_live_is_dropped() -> None:
    edge = Edge()
    late = [update("B", (1, 3)), update("C", (1, 4))]

    assert edge.merge.live_all(late) == ([], 0)
    assert [edge.merge.live(each).new for each in late] == [False, False]
    assert edge.shown() == {"A": (2, 1), "B": (1, 2)}
    news, count = edge.merge.live_all([update("B", (2, 2))])
    assert ([m.version for m in news], count) == ([(2, 2)], 1)


def test_what_a_replaced_writer_had_stored_is_shown() -> None:
    edge = Edge()

    assert edge.merge.stored(update("B", (1, 5)))
    assert edge.merge.stored(update("C", (1, 6)))
    assert not edge.merge.stored(update("A", (2, 1)))
    assert edge.shown() == {"A": (2, 1), "B": (1, 5), "C": (1, 6)}


def test_what_it_stored_behind_the_next_writer_is_not() -> None:
    edge = Edge()
    edge.merge.stored(update("A", (2, 1)))
    edge.merge.swept()

    assert not edge.merge.stored(update("C", (1, 6)))
    # A stream that was made anew is read from its start.
    edge.merge.recreated()
    assert edge.merge.stored(update("C", (1, 6)))


def test_a_writer_of_which_only_the_stream_told_replaces_the_one_before() -> None:
    edge = Edge()
    edge.merge.stored(update("A", (3, 7)))

    assert edge.merge.live_all([update("B", (2, 2))]) == ([], 0)
    assert edge.merge.live(update("B", (2, 2))) == (False, False)
    assert edge.merge.swept() == ["test"]


def test_the_writer_of_one_feed_replaces_none_of_another() -> None:
    edge = Edge()

    assert edge.merge.live(Update("C", "other", (1, 1), b"{}")).new


def of_both_ways(versions: list[tuple[int, int]]) -> list[object]:
    """Return what one by one, and together, is made of updates of *versions*."""
    ends: list[object] = []
    for together in (False, True):
        world = World()
        updates = [update(SYMBOLS[seq % 3], (epoch, seq)) for epoch, seq in versions]
        news, lost = [], 0
        while updates:
            if together:
                taken, count = world.merge.live_all(updates)
                news += taken
                updates = updates[count:]
            if updates:
                merged = world.merge.live(updates[0])
                news += [updates[0]] if merged.new else []
                lost += merged.lost
                updates = updates[1:]
        newest = world.cache.as_json()
        ends.append(([each.version for each in news], lost, newest))
    return ends


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 12)), max_size=40))
def test_together_they_come_to_the_same_as_one_by_one(
    versions: list[tuple[int, int]],
) -> None:
    one_by_one, together = of_both_ways(versions)

    assert one_by_one == together


def test_what_came_over_another_connection_is_passed_over_at_once() -> None:
    world = World()
    updates = [update("A", (1, seq)) for seq in range(1, 501)]
    assert world.merge.live_all(updates[:1])[1] == 0  # where the tape begins
    world.merge.live(updates[0])
    assert world.merge.live_all(updates[1:])[1] == 499

    assert world.merge.live_all(updates) == ([], 500)
