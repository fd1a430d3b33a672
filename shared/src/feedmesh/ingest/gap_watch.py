"""
When gaps begin and end, from what links say of themselves; no I/O, time is given.

A gap begins with the last instant of which all was stored, and ends when what is wanted
flows again; so whatever is missing was sent between the two. What was sent shortly
before a link ended may have lain in a buffer, unread: a gap begins so much earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from feedmesh.clock import from_iso, iso
from feedmesh.gaps import FeedGap
from feedmesh.status import LinkState, LinkStatus


__all__ = ["UNREAD_NS", "GapWatch"]

UNREAD_NS = 1_000_000_000
"""How much earlier a gap begins than what was read last."""


@dataclass
class _Link:
    live: bool = False
    # Several only if they were found open in the stream.
    open: list[FeedGap] = field(default_factory=list)


class GapWatch:
    """
    The gaps of one feed. What its methods return is new and to be told, in order.

    Args:
        feed: Its name.
    """

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._links: dict[str, _Link] = {}
        self._overflows: dict[str, FeedGap] = {}
        self._left: dict[str, int] | None = None

    def begin(
        self,
        complete: Mapping[str, int],
        reason: str,
        found_open: Iterable[FeedGap] = (),
    ) -> list[FeedGap]:
        """
        Go on after another leader.

        Args:
            complete: By link until when, in ns, all was stored.
            reason: Of the gaps that begin there.
            found_open: Records of gaps that nobody has ended.
        """
        for gap in found_open:
            self._link(gap.link).open.append(gap)
        return [
            self._opened(name, since_ns, reason)
            for name, since_ns in complete.items()
            if not self._covers(name, since_ns)
        ]

    def only(self, names: Iterable[str], at_ns: int) -> list[FeedGap]:
        """End the gaps of links that are not among *names*: there are none such now."""
        gone = [name for name in self._links if name not in set(names)]
        return [
            gap for name in gone for gap in self._ended(self._links.pop(name), at_ns)
        ]

    def look(self, name: str, status: LinkStatus, at_ns: int) -> list[FeedGap]:
        """Take what the link says of itself at *at_ns*."""
        link = self._link(name)
        last = status.last_frame_ns
        if status.state is LinkState.IDLE:
            # Nothing is wanted from it, so nothing is missed.
            link.live = False
            return self._ended(link, at_ns)
        if status.state is not LinkState.LIVE:
            was_live, link.live = link.live, False
            if was_live and not link.open:
                since_ns = (last or status.since_ns) - UNREAD_NS
                return [self._opened(name, since_ns, status.reason or "lost")]
        elif status.flows_ns is not None:
            link.live = True
            return self._ended(link, status.flows_ns)
        return []

    def overflowed(self, name: str, at_ns: int, reason: str) -> list[FeedGap]:
        """Note that what the link brings finds no room, from *at_ns* on."""
        if name in self._overflows:
            return []
        gap = self._overflows[name] = self._gap(name, at_ns - UNREAD_NS, reason)
        return [gap]

    def has_room(self, name: str, at_ns: int) -> list[FeedGap]:
        """Note that what the link brings from *at_ns* on is kept again."""
        gap = self._overflows.pop(name, None)
        return [] if gap is None else [_until(gap, at_ns)]

    def leave(self, at_ns: int) -> None:
        """Note that links are closed on purpose: of that the next leader will tell."""
        self._left = self.complete(at_ns)

    def complete(self, at_ns: int) -> dict[str, int]:
        """Return by link until when, in ns, all was received and kept, at *at_ns*."""
        if self._left is not None:
            return dict(self._left)
        found = {}
        for name, link in self._links.items():
            gaps = [*link.open, *self._overflow(name)]
            if gaps:
                found[name] = min(from_iso(gap.since) for gap in gaps)
            elif link.live:
                found[name] = at_ns - UNREAD_NS
        return found

    def _link(self, name: str) -> _Link:
        return self._links.setdefault(name, _Link())

    def _overflow(self, name: str) -> Iterable[FeedGap]:
        return (gap for gap in (self._overflows.get(name),) if gap is not None)

    def _covers(self, name: str, since_ns: int) -> bool:
        # To the microsecond: records do not say more.
        return any(
            from_iso(gap.since) // 1000 <= since_ns // 1000
            for gap in self._link(name).open
        )

    def _opened(self, name: str, since_ns: int, reason: str) -> FeedGap:
        gap = self._gap(name, since_ns, reason)
        self._link(name).open.append(gap)
        return gap

    def _gap(self, name: str, since_ns: int, reason: str) -> FeedGap:
        return FeedGap(
            id=f"{self._feed}.{name}.{since_ns // 1000}",
            feed=self._feed,
            link=name,
            since=iso(since_ns),
            until=None,
            reason=reason,
        )

    def _ended(self, link: _Link, at_ns: int) -> list[FeedGap]:
        ended = [_until(gap, at_ns) for gap in link.open]
        link.open.clear()
        return ended


def _until(gap: FeedGap, at_ns: int) -> FeedGap:
    # A clock may have gone back meanwhile; no gap ends before it begins.
    return msgspec.structs.replace(gap, until=iso(max(at_ns, from_iso(gap.since))))
