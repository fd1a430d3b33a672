"""When the log is looked at after an item was heard."""

from __future__ import annotations

import pytest

from edge.news.pace import Pace


def looks_needed(pace: Pace, stored_after: float) -> int:
    """Hear one item, which the stream has *stored_after* seconds later."""
    pace.heard(1)
    now, looks = pace.first, 1
    while now < stored_after:
        pace.looked(0)
        now += pace.next
        looks += 1
    pace.looked(1)
    return looks


@pytest.mark.parametrize("stored_after", [0.0, 0.001, 0.004, 0.009])
def test_who_had_to_wait_looks_later_and_seldom_in_vain(stored_after: float) -> None:
    pace = Pace()
    for _ in range(100):
        looks_needed(pace, stored_after)

    looks = sum(looks_needed(pace, stored_after) for _ in range(100))

    assert looks <= 140
    assert stored_after * 0.9 - 0.001 <= pace.first <= stored_after + 0.0005


def test_who_need_not_wait_any_more_looks_earlier_again() -> None:
    pace = Pace()
    for _ in range(100):
        looks_needed(pace, 0.008)
    for _ in range(300):
        looks_needed(pace, 0.0)
    assert pace.first < 0.0001


def test_the_first_look_never_waits_long() -> None:
    pace = Pace()
    for _ in range(100):
        looks_needed(pace, 5.0)
    assert pace.first == 0.01


def test_looks_in_vain_are_farther_and_farther_apart() -> None:
    pace = Pace()
    pace.heard(1)
    pauses = []
    for _ in range(12):
        pace.looked(0)
        pauses.append(pace.next)
    assert pauses[:3] == [0.002, 0.004, 0.008]
    assert pauses[-3:] == [1.0, 1.0, 1.0]


def test_of_two_items_the_second_is_looked_for_soon_after_the_first() -> None:
    pace = Pace()
    pace.heard(2)
    pace.looked(1)
    assert pace.next == 0.002
    pace.looked(1)
    assert pace.next == 1.0


def test_what_was_refused_is_not_waited_for_with_the_next() -> None:
    pace = Pace()
    pace.heard(1)
    while pace.next < 1.0:
        pace.looked(0)
    pace.heard(1)
    pace.looked(1)
    assert pace.next == 1.0


def test_what_was_refused_does_not_make_looks_late_while_others_come() -> None:
    pace = Pace()
    pace.heard(1)
    for _ in range(1000):
        pace.heard(1)
        pace.looked(1)
    assert pace.first == 0.0


def test_where_nothing_is_owed_a_look_in_vain_is_as_it_should_be() -> None:
    pace = Pace()
    pace.looked(0)
    assert pace.next == 1.0


def test_a_stream_that_does_not_answer_is_asked_again_soon() -> None:
    pace = Pace()
    pace.heard(1)
    pauses = []
    for _ in range(12):
        pace.failed()
        pauses.append(pace.next)
    assert pauses[0] == 0.002
    assert pauses[-1] == 1.0


def test_what_the_stream_has_refused_is_not_owed_for_ever() -> None:
    pace = Pace()
    pace.heard(100)
    pace.looked(0)
    pace.forget()
    pace.forget()
    pace.heard(1)
    pace.looked(1)
    assert pace.next == 1.0


def test_what_was_heard_a_moment_ago_is_still_owed() -> None:
    pace = Pace()
    pace.heard(2)
    pace.forget()
    pace.looked(1)
    assert pace.next == 0.002
