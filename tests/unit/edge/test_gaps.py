"""Gaps at the edge: what the board keeps, and what REST says of it."""

from __future__ import annotations

import pytest

from edge.gap_board import GapBoard
from edge.positions import GapPosition, parse_gap_position
from edge.rest.answers import Waiters
from edge.rest.gaps import GapPage, find_gaps, parse_feeds
from edge.rest.problems import ProblemError
from feedmesh.clock import from_iso
from feedmesh.gaps import FeedGap, StoredGap, encode_gap


STREAM = "0123456789ab"
NOW = from_iso("2026-07-15T12:00:00Z")


def at(minute: int) -> str:
    return f"2026-07-15T09:{minute:02}:00.000000Z"


def record(sequence: int, name: str, until: str | None, feed: str = "ls") -> StoredGap:
    gap = FeedGap(
        id=name,
        feed=feed,
        link="news",
        since=at(int(name[1:])),
        until=until,
        reason="dropped",
    )
    return StoredGap(sequence, gap, encode_gap(gap))


class Board:
    """Records as a board would have them."""

    def __init__(self, *records: StoredGap, forgotten_to: int = 0) -> None:
        self._records = list(records)
        self.position = GapPosition(STREAM, records[-1].sequence if records else 0)
        self.forgotten_to = forgotten_to

    def records(self) -> list[StoredGap]:
        return self._records


async def find(
    board: Board, since: str | None = None, feed: str | None = None, limit: int = 10
) -> GapPage:
    feeds = parse_feeds([feed] if feed else None)
    waiters = Waiters(seconds=0.01)
    return await find_gaps(board, since, feeds, limit, waiters, lambda: NOW)


def names(page: GapPage) -> list[str]:
    return [stored.gap.id for stored in page.gaps]


def test_the_last_record_of_a_gap_holds() -> None:
    board = GapBoard()
    board.take(record(1, "g1", None))
    board.take(record(2, "g2", None))
    board.take(record(3, "g1", at(5)))

    assert [stored.gap.id for stored in board.records()] == ["g2", "g1"]
    assert board.open_frames() == [record(2, "g2", None).frame]


def test_every_record_is_told_once() -> None:
    board = GapBoard()
    told: list[bytes] = []
    board.on_change(told.append)
    board.take(record(1, "g1", None))
    board.forget(told.append)
    board.take(record(2, "g1", at(5)))

    assert told == [record(1, "g1", None).frame]


def test_of_too_many_the_oldest_that_has_ended_is_forgotten() -> None:
    board = GapBoard(limit=2)
    for stored in (
        record(1, "g1", None),
        record(2, "g2", at(3)),
        record(3, "g3", at(4)),
    ):
        board.take(stored)

    assert [stored.gap.id for stored in board.records()] == ["g1", "g3"]
    assert board.forgotten_to == 2


def test_open_gaps_alone_are_bounded_too() -> None:
    board = GapBoard(limit=10)
    for number in range(1, 30):
        board.take(record(number, f"g{number}", None))

    assert len(board.records()) == len(board.open_frames()) == 10


async def test_pages_follow_each_other_without_a_hole() -> None:
    board = Board(*(record(n, f"g{n}", at(n + 1)) for n in range(1, 8)))
    start: str | None = GapPosition(STREAM, 0).token()
    seen = []
    while start is not None:
        page = await find(board, start, limit=3)
        seen += names(page)
        start = page.position.token() if page.more else None

    assert seen == [f"g{n}" for n in range(1, 8)]


async def test_without_since_the_newest_come() -> None:
    board = Board(*(record(n, f"g{n}", at(n + 1)) for n in range(1, 8)))

    page = await find(board, limit=2)

    assert names(page) == ["g6", "g7"]
    assert (page.position, page.more) == (board.position, False)


async def test_an_instant_finds_what_lasted_then_or_later() -> None:
    board = Board(record(1, "g1", at(3)), record(2, "g2", None), record(3, "g5", at(8)))

    assert names(await find(board, at(2))) == ["g1", "g2", "g5"]
    assert names(await find(board, at(4))) == ["g2", "g5"]
    assert names(await find(board, at(30))) == ["g2"]


async def test_a_feed_is_chosen() -> None:
    board = Board(record(1, "g1", None, "fmp"), record(2, "g2", None, "ls"))

    assert names(await find(board, feed="FMP")) == ["g1"]
    assert names(await find(board, feed="fmp,ls")) == ["g1", "g2"]
    assert names(await find(board, feed="other")) == []


@pytest.mark.parametrize(
    ("since", "lost"),
    [
        (GapPosition(STREAM, 4).token(), None),
        (GapPosition(STREAM, 3).token(), "expired"),
        (GapPosition("ffffffffffff", 9).token(), "stream_recreated"),
        (at(6), None),
        (at(1), "expired"),
    ],
)
async def test_what_was_forgotten_is_said(since: str, lost: str | None) -> None:
    board = Board(record(5, "g5", at(9)), record(6, "g6", at(9)), forgotten_to=4)

    assert (await find(board, since)).lost == lost


@pytest.mark.parametrize(
    "since",
    [
        "",
        "GAPS.x",
        GapPosition(STREAM, 4).token()[:-1],
        "NEWS.0123456789ab.4.0000",
        "2026-07-15T12:00:10Z",
        "yesterday",
    ],
)
async def test_a_since_that_makes_no_sense_is_refused(since: str) -> None:
    with pytest.raises(ProblemError):
        await find(Board(), since)


@pytest.mark.parametrize("feed", ["", "a b", "x" * 40, ",", "../etc"])
def test_a_feed_that_cannot_be_one_is_refused(feed: str) -> None:
    with pytest.raises(ProblemError):
        parse_feeds([feed])


def test_a_position_survives_the_way() -> None:
    position = GapPosition(STREAM, 17)

    assert parse_gap_position(position.token()) == position
