"""
Gaps over REST: when data of a feed may be missing, in the order in which it was told.

Each gap is there once, by its last record; one that ends is told again, so whoever asks
with the position of the last answer learns of what began and of what ended since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from fastapi import Request, Response

from edge.positions import GapPosition, parse_gap_position
from edge.rest.answers import Waiters, page_answer
from edge.rest.parameters import (
    parse_instant,
    parse_names,
    parse_parameter,
    parse_word,
)
from feedmesh.clock import from_iso, now_ns
from feedmesh.gaps import FeedGap, StoredGap


__all__ = ["GapPage", "Gaps", "find_gaps", "gaps_answer", "parse_feeds"]


class Gaps(Protocol):
    """What is asked of the gaps; see :class:`edge.gap_board.GapBoard`."""

    @property
    def position(self) -> GapPosition:
        """Where the records end now."""

    @property
    def forgotten_to(self) -> int:
        """Number of the last record that may be missing."""

    def records(self) -> list[StoredGap]:
        """Return the last record of each gap, in order."""


class GapPage(NamedTuple):
    """
    Some gaps, in order.

    Attributes:
        gaps: Their records.
        position: Up to where the records were read for it.
        more: Whether they go on.
        lost: Why some that were asked for may be missing, in a word; or None.
    """

    gaps: list[StoredGap]
    position: GapPosition
    more: bool
    lost: str | None


async def find_gaps(
    board: Gaps,
    since: str | None,
    feeds: frozenset[str] | None,
    limit: int,
    waiters: Waiters,
    clock: Callable[[], int] = now_ns,
) -> GapPage:
    """
    Return the newest gaps, or those since *since*, at most *limit*.

    Args:
        board: The gaps.
        since: A position, or an instant: then those that lasted at that time or later.
        feeds: Only of these.
        limit: How many at most.
        waiters: Those who wait until this edge has read what another has.
        clock: The time now, in ns.

    Raises:
        ProblemError: If *since* is neither, or in the future.
    """
    start = instant = None
    if since is not None and since.startswith("GAPS."):
        start = parse_parameter(since, "since", parse_gap_position)
        if start.stream == board.position.stream:
            await waiters.may_be(partial(_has_read, board, start))
    elif since is not None:
        instant = parse_instant(since, clock)
    end, known = board.position, board.records()
    found = [stored for stored in known if feeds is None or stored.gap.feed in feeds]
    lost = None
    if start is not None:
        lost = _lost(start, board)
        if start.stream == end.stream:
            found = [stored for stored in found if stored.sequence > start.sequence]
    elif instant is not None:
        if board.forgotten_to and not _reaches(known, instant):
            lost = "expired"
        found = [stored for stored in found if _lasted_at(stored.gap, instant)]
    else:
        return GapPage(found[-limit:], end, False, None)
    page = found[:limit]
    if len(page) == len(found):
        return GapPage(page, end, False, lost)
    return GapPage(page, GapPosition(end.stream, page[-1].sequence), True, lost)


def gaps_answer(request: Request, page: GapPage, age: float | None) -> Response:
    """Return *page* as JSON, or 304; *age* as :func:`answers.answer` has it."""
    rows = [stored.frame for stored in page.gaps]
    token = page.position.token()
    return page_answer(request, b"gaps", rows, token, page.more, page.lost, age)


def parse_feeds(values: Sequence[str] | None) -> frozenset[str] | None:
    """
    Return the feeds that a list, perhaps comma-separated, names; None for all.

    Raises:
        ProblemError: If a name is not legal, or they are too many.
    """
    return parse_names(values, "feed", parse_word)


def _has_read(board: Gaps, start: GapPosition) -> bool:
    end = board.position
    return end.stream != start.stream or end.sequence >= start.sequence


def _lost(start: GapPosition, board: Gaps) -> str | None:
    if start.stream != board.position.stream:
        return "stream_recreated"
    return "expired" if start.sequence < board.forgotten_to else None


def _reaches(known: list[StoredGap], instant: int) -> bool:
    """Return whether what is still known begins before *instant*."""
    return bool(known) and from_iso(known[0].gap.since) <= instant


def _lasted_at(gap: FeedGap, instant: int) -> bool:
    return gap.until is None or from_iso(gap.until) > instant
