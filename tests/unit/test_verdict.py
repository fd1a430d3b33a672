"""What a run with news is found to have lost, doubled, or put out of order."""

from __future__ import annotations

from verdict import Sent, judge


def of(stored: str, *, sent: str = "0123456789") -> tuple[int, int, int]:
    verdict = judge([Sent(key, 0, 1) for key in sent], list(stored), [])
    return verdict.lost, verdict.duplicated, verdict.reordered


def test_each_item_once_and_in_order() -> None:
    assert of("0123456789") == (0, 0, 0)


def test_what_is_missing_or_doubled_is_found() -> None:
    assert of("012345678") == (1, 0, 0)
    assert of("01223456789") == (0, 1, 0)


def test_each_item_behind_a_later_one_is_out_of_order() -> None:
    assert of("0178923456") == (0, 0, 5)
    assert of("9012345678") == (0, 0, 9)
