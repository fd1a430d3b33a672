"""Passes over many clients: pauses, and what comes while one is under way."""

from __future__ import annotations

import asyncio
from time import thread_time

import pytest

from edge.clients.sender import Flusher, Rest, Sender


class FakeOutlet:
    def __init__(self, log: list[bytes], seconds: float = 0.0) -> None:
        self._log = log
        self._seconds = seconds
        self.blocked = False

    def write(self, frames: bytes | memoryview) -> None:
        # Busy, as a system call is; however long that takes on a busy machine.
        end = thread_time() + self._seconds
        while thread_time() < end:
            pass
        self._log.append(bytes(frames))


class Late:
    """Has one more piece for everybody."""

    def __init__(self, flusher: Flusher, senders: list[Sender]) -> None:
        self._flusher = flusher
        self._senders = senders
        self.flushed = 0

    def join(self) -> None:
        for sender in self._senders:
            sender.buffer.append(b"late")
        self._flusher.add(dict.fromkeys(self._senders))
        self._senders = []

    def flush(self) -> None:
        self.flushed += 1
        self.join()
        self._flusher.write()


async def test_what_comes_during_a_pass_reaches_those_it_has_yet_to_reach() -> None:
    log: list[bytes] = []
    flusher = Flusher()
    senders = [Sender(FakeOutlet(log, 0.0002)) for _ in range(100)]
    for sender in senders:
        sender.buffer.append(b"first")
    flusher.add(dict.fromkeys(senders))
    assert not flusher.write()
    written = len(log)
    late = Late(flusher, senders)
    flusher.when_rested(late)

    for _ in range(200):
        await asyncio.sleep(0.001)
        if late.flushed and not len(flusher):
            break

    assert log.count(b"firstlate") == 100 - written
    assert log.count(b"late") == written
    assert len(log) == 100 + written


async def test_a_pass_is_followed_by_a_pause_and_quiet_by_none() -> None:
    log: list[bytes] = []
    flusher = Flusher()
    sender = Sender(FakeOutlet(log, 0.02))
    late = Late(flusher, [])
    flusher.when_rested(late)
    await asyncio.sleep(0)
    assert late.flushed == 1

    sender.buffer.append(b"slow")
    flusher.add({sender: None})
    assert flusher.write()
    flusher.when_rested(late)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert late.flushed == 1
    await asyncio.sleep(0.1)
    assert late.flushed == 2


async def test_who_was_written_to_longest_ago_comes_first() -> None:
    """So that nobody waits for two passes, whatever order updates come in."""
    flusher = Flusher()
    order: list[bytes] = []
    senders = {name: Sender(FakeOutlet(order)) for name in "abcd"}
    for names in ("ca", "db", "abcd"):
        for name in names:
            senders[name].buffer.append(name.encode())
            flusher.add({senders[name]: None})
        while not flusher.write():
            await asyncio.sleep(0)

    assert b"".join(order) == b"ca" + b"db" + b"cadb"


async def test_more_than_one_block_leaves_in_order() -> None:
    log: list[bytes] = []
    sender = Sender(FakeOutlet(log))
    pieces = [b"%04d" % number for number in range(1000)]
    sender.buffer.extend(pieces)

    assert sender.flush() == 1000
    assert b"".join(log) == b"".join(pieces)
    assert sender.size == sum(map(len, log))
    assert sender.buffer == []


def rested(passes: int, busy: float, idle: float = 0.0, starved: float = 0.0) -> float:
    """Return what is owed after *passes* of *busy* seconds, all in seconds."""
    rest = Rest(0.0, 0.0)
    now = cpu = owed = 0.0
    for _ in range(passes):
        now += idle
        rest.begin(now, cpu)
        now += busy + starved
        cpu += busy
        owed = rest.end(now, cpu)
    return owed


def test_short_passes_add_up_to_a_pause() -> None:
    assert 0 < rested(1, 0.0005) < 0.001 < rested(5, 0.0005) < 0.002


def test_who_is_idle_anyway_owes_next_to_nothing() -> None:
    assert rested(100, 0.0005, idle=0.0005) == pytest.approx(rested(1, 0.0005))


def test_to_wait_for_the_cpu_is_no_rest() -> None:
    assert rested(5, 0.0005, starved=0.01) == rested(5, 0.0005)


def test_pauses_grow_to_the_longest_only_when_a_core_is_full() -> None:
    assert 0.045 < rested(1000, 0.01) <= 0.05
    assert rested(1000, 0.01, idle=0.001) < 0.015


def test_a_busy_moment_costs_a_pause_of_its_length() -> None:
    """It once cost 25 ms, and one update in a hundred was late, at half a core."""
    assert rested(2, 0.005) < 0.005
