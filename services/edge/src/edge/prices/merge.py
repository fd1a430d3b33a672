"""
What comes live and what the stream holds, merged; no I/O.

The cache takes the newest value of each symbol, whichever way it comes. The tape takes
what comes live and tells whether anything is missing. Both together know, once the
stream has been swept, that nothing is.

A writer that another one has replaced may go on for a moment. What comes live of a
lower epoch than the highest heard is dropped, though its symbol may have nothing newer.
What the stream holds of a lower epoch may be the newest that there was; only what lies
behind a higher one was written too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge.prices.cache import PriceCache
from edge.prices.tape import PriceTape
from edge.prices.updates import Update
from feedmesh.messages import Version


__all__ = ["Merged", "PriceMerge"]


class Merged(NamedTuple):
    """
    What a live update meant.

    Attributes:
        new: It is the newest value of its symbol.
        lost: Live updates of its feed before it are missing.
    """

    new: bool
    lost: bool


class PriceMerge:
    """Puts updates into *cache* and *tape*."""

    def __init__(self, cache: PriceCache, tape: PriceTape) -> None:
        self._cache = cache
        self._tape = tape
        # The newest version of each feed that the stream has given.
        self._swept: dict[str, Version] = {}
        self._settled = False

    def live(self, update: Update) -> Merged:
        """Take *update* as it comes over the wire."""
        if self._is_over(update):
            return Merged(new=False, lost=False)
        complete = self._tape.live(update)
        return Merged(self._cache.apply(update), not complete)

    def live_all(self, updates: Sequence[Update]) -> tuple[list[Update], int]:
        """
        Take the first of *updates* as they come over the wire, up to what is odd.

        Nearly always that is all of them, or all have come before, over another
        connection; together they cost a third of what they cost one by one.

        Returns:
            The new values among them, and how many were taken; :meth:`live` takes the
            next one, whatever it is.
        """
        if not updates or self._is_over(updates[0]):
            return [], 0
        # The tape only goes on in one epoch.
        count = self._tape.live_all(updates) or self._tape.passed(updates)
        return self._cache.apply_all(updates[:count]), count

    def stored(self, update: Update) -> bool:
        """Take *update* as the stream has it, in order; return whether it is new."""
        swept = self._swept.get(update.source)
        if swept is not None and update.version[0] < swept[0]:
            return False
        if swept is None or update.version > swept:
            self._swept[update.source] = update.version
        if self._settled:
            # Live updates before it may still be under way: a client that has it has
            # not therefore got everything up to it.
            update.position = self._tape.position(update.source, update.version)
        return self._cache.apply(update)

    def swept(self) -> list[str]:
        """
        Note that the stream has been read to its end, as it was when that began.

        All that came live until then must have been taken.

        Returns:
            The feeds of which live updates are missing.
        """
        self._settled = True
        return self._tape.settle(self._swept.items())

    def recreated(self) -> None:
        """Note that the stream is another one, to be read from its start."""
        self._swept.clear()

    def _is_over(self, update: Update) -> bool:
        """Whether a writer with a higher epoch than that of *update* was heard."""
        epoch, source = update.version[0], update.source
        return epoch < self._tape.epoch(source) or epoch < self._swept_epoch(source)

    def _swept_epoch(self, source: str) -> int:
        swept = self._swept.get(source)
        return 0 if swept is None else swept[0]
