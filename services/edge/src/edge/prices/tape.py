"""
The last updates of every feed as they came live, to prove what a client missed; no I/O.

A writer numbers its price messages 1, 2, 3 …, across all symbols. As long as each
number follows the last one, this edge has missed nothing, and whoever comes back with a
position on the tape can be given exactly what came after it. Where the numbers jump,
something was lost on the way: the tape starts anew, and says so.

Values that only the stream brought are not on the tape. Once a sweep has read from the
stream what was before the tape, the feed is *settled*: the cache has everything up to
the end of the tape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice, takewhile

from edge.positions import PricePosition
from edge.prices.updates import Update
from feedmesh.messages import Version


__all__ = ["PriceTape"]


class _Reel:
    """What came live of one feed, without a hole."""

    __slots__ = ("began", "end", "settled", "updates")

    def __init__(self, after: Version, length: int) -> None:
        self.updates: deque[Update] = deque(maxlen=length)
        self.began = self.end = after
        self.settled = False

    @property
    def after(self) -> Version:
        """Everything newer than this, up to the end, is in `updates`."""
        return self.end[0], self.end[1] - len(self.updates)


class PriceTape:
    """
    Updates in the order of their numbers, by feed.

    Args:
        length: How many updates are kept of each feed.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._reels: dict[str, _Reel] = {}
        self._swept = False

    def live(self, update: Update) -> bool:
        """
        Note an update that came live; return False if one before it is missing.

        What came before this edge listened is not missing; what is not new is ignored.
        """
        version = update.version
        reel = self._reels.get(update.source)
        if reel is None:
            reel = self._start(update)
            complete = version[1] == 1 or not self._swept
        elif version == (reel.end[0], reel.end[1] + 1):
            complete = True
        elif version <= reel.end:
            return True
        else:
            reel = self._start(update)
            complete = False
        reel.updates.append(update)
        reel.end = version
        return complete

    def live_all(self, updates: Sequence[Update]) -> int:
        """
        Note the first of *updates*, as long as each follows the one before.

        Returns:
            How many those are; :meth:`live` takes the next one, whatever it is.
        """
        source = updates[0].source if updates else ""
        reel = self._reels.get(source)
        if reel is None:
            return 0
        epoch, last = reel.end
        count = 0
        for update in updates:
            if update.version != (epoch, last + 1) or update.source != source:
                break
            last += 1
            count += 1
        reel.updates.extend(updates[:count])
        reel.end = epoch, last
        return count

    def passed(self, updates: Sequence[Update]) -> int:
        """Return how many of the first of *updates* are no newer than the end."""
        reel = self._reels.get(updates[0].source) if updates else None
        if reel is None:
            return 0
        source, end = updates[0].source, reel.end

        def known(update: Update) -> bool:
            version = update.version
            return update.source == source and version[0] == end[0] and version <= end

        return sum(1 for _ in takewhile(known, updates))

    def settle(self, swept: Iterable[tuple[str, Version]]) -> list[str]:
        """
        Note that the cache has all that the stream held up to a version, by feed.

        Returns:
            The feeds of which live updates are missing: the stream had newer ones.
        """
        self._swept = True
        missing = []
        for source, version in swept:
            reel = self._reels.get(source)
            if reel is None or version > reel.end:
                if reel is not None:
                    missing.append(source)
                self._reels[source] = reel = _Reel(version, self._length)
            # The stream keeps the order of the writer.
            reel.settled = reel.settled or version >= reel.began
        return missing

    def epoch(self, source: str) -> int:
        """Return the epoch of *source* that the tape is in; 0 if there is no tape."""
        reel = self._reels.get(source)
        return 0 if reel is None else reel.end[0]

    def settled(self, source: str) -> Version | None:
        """Return up to where the cache surely has everything of *source*."""
        reel = self._reels.get(source)
        return reel.end if reel is not None and reel.settled else None

    def position(self, source: str, version: Version) -> PricePosition:
        """Return the position of a client that got *version* past the tape."""
        reel = self._reels.get(source)
        if reel is None:
            return PricePosition(source, version[0], 0)
        return PricePosition(source, *min(version, reel.end))

    def positions(self) -> list[str]:
        """Return a token for each settled feed."""
        return [
            PricePosition(source, *reel.end).token()
            for source, reel in sorted(self._reels.items())
            if reel.settled
        ]

    def since(
        self, position: PricePosition, symbols: Collection[str]
    ) -> list[Update] | None:
        """Return what came of *symbols* after *position*; None if that is not known."""
        reel = self._reels.get(position.source)
        version = (position.epoch, position.seq)
        if reel is None or not reel.after <= version <= reel.end:
            return None
        if version[0] != reel.end[0]:
            return None
        first = position.seq - reel.after[1]
        return [
            update
            for update in islice(reel.updates, first, None)
            if update.symbol in symbols
        ]

    def _start(self, update: Update) -> _Reel:
        epoch, seq = update.version
        reel = self._reels[update.source] = _Reel((epoch, seq - 1), self._length)
        return reel
