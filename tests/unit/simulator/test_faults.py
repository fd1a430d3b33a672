"""Which fault strikes whom, and for how long."""

from __future__ import annotations

import pytest

from simulator.faults import FMP_TARGETS, FaultBook, FaultError, kinds_of, read_fault


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def book_with(clock: Clock, **order: object) -> FaultBook:
    book = FaultBook(clock)
    for fault in read_fault({"target": "fmp.stocks", **order}, clock):
        book.add(fault)
    return book


def test_a_fault_strikes_everyone_until_it_is_cleared() -> None:
    book = book_with(Clock(), kind="no_pong")

    assert book.strike("fmp.stocks", "no_pong", 1)
    assert book.strike("fmp.stocks", "no_pong", 2)
    assert book.clear("fmp.stocks") == 1
    assert book.strike("fmp.stocks", "no_pong", 3) is None


def test_a_counted_fault_strikes_the_next_so_many_again_and_again() -> None:
    book = book_with(Clock(), kind="silence", count=2)

    assert book.strike("fmp.stocks", "silence", 1)
    assert book.strike("fmp.stocks", "silence", 2)
    assert book.strike("fmp.stocks", "silence", 3) is None
    assert book.strike("fmp.stocks", "silence", 1)


def test_a_timed_fault_ends_by_itself() -> None:
    clock = Clock()
    book = book_with(clock, kind="silence", **{"for": 5})

    clock.now += 4.9
    assert book.strike("fmp.stocks", "silence", 1)
    clock.now += 0.1
    assert book.strike("fmp.stocks", "silence", 1) is None
    assert list(book) == []


def test_a_fault_strikes_its_target_only() -> None:
    book = book_with(Clock(), kind="silence")

    assert book.strike("fmp.crypto", "silence", 1) is None


def test_a_group_names_all_its_targets() -> None:
    faults = read_fault({"target": "fmp", "kind": "silence"})

    assert tuple(fault.target for fault in faults) == FMP_TARGETS


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ({"target": "nobody", "kind": "silence"}, "nobody"),
        ({"target": "fmp.stocks", "kind": "earthquake"}, "earthquake"),
        ({"target": "fmp.stocks", "kind": "no_pong", "colour": 1}, "colour"),
        ({"target": "fmp.stocks"}, "kind"),
        ({"target": "fmp.stocks", "kind": "token"}, "token"),
    ],
)
def test_what_nothing_can_play_is_refused_with_a_clear_text(
    order: dict[str, object], text: str
) -> None:
    with pytest.raises(FaultError, match=text):
        read_fault(order)


@pytest.mark.parametrize(
    "kind",
    [
        *("silence", "heartbeats_only", "heartbeat", "half_open", "no_pong"),
        *("drop", "cut", "one_byte_per_second", "close", "refuse_upgrade"),
        *("tls_fail", "login", "slot", "slot_busy", "subscribe_ack", "shape"),
        *("malformed", "duplicate", "out_of_order", "burst", "end_after"),
    ],
)
def test_fmp_knows_every_fault_that_its_documentation_makes_likely(kind: str) -> None:
    assert all(kind in kinds_of(target) for target in FMP_TARGETS)
