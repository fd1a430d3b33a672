"""
Gaps over REST: when data of a feed may be missing, in the order in which it was told.

Each gap is there once, by its last record; one that ends is told again, so whoever asks
with the position of the last answer learns of what began and of what ended since.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from edge.positions import GapPosition, parse_gap_position
from edge.rest.answers import Waiters
from edge.rest.news import parse_instant
from edge.rest.problems import ProblemError, shown
from feedmesh.clock import from_iso, now_ns
from feedmesh.gaps import FeedGap, StoredGap


__all__ = ["GapPage", "Gaps", "find_gaps", "gaps_body", "parse_feeds"]

_MAX_FEEDS = 100
_FEED = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


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
        start = _position(since)
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


def gaps_body(page: GapPage, stale: bool) -> bytes:
    """Return *page* as JSON; the records' own bytes are kept."""
    token = b'"%b"' % page.position.token().encode()
    return (
        b'{"gaps":[%b],"position":%b,"next":%b,"complete":%b,"reason":%b,"stale":%b}'
    ) % (
        b",".join(stored.frame for stored in page.gaps),
        token,
        token if page.more else b"null",
        b"false" if page.lost else b"true",
        b'"%b"' % page.lost.encode() if page.lost else b"null",
        b"true" if stale else b"false",
    )


def parse_feeds(values: Sequence[str] | None) -> frozenset[str] | None:
    """
    Return the feeds that a list, perhaps comma-separated, names; None for all.

    Raises:
        ProblemError: If a name is not legal, or they are too many.
    """
    if values is None:
        return None
    names = [name.strip().lower() for value in values for name in value.split(",")]
    if len(names) > _MAX_FEEDS:
        raise _invalid("feed", f"at most {_MAX_FEEDS}, {len(names)} were given")
    for name in names:
        if not _FEED.fullmatch(name):
            raise _invalid("feed", f"{shown(name)} is not legal")
    return frozenset(names)


def _position(text: str) -> GapPosition:
    try:
        return parse_gap_position(text)
    except ValueError as error:
        raise _invalid("since", str(error)) from None


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


def _invalid(parameter: str, detail: str) -> ProblemError:
    return ProblemError("invalid_parameter", detail, parameter=parameter)
