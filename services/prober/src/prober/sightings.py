"""What the canaries of one feed and kind say about the way they came; no I/O."""

from __future__ import annotations

from typing import Literal, NamedTuple

from feedmesh.canary import Mark


__all__ = ["Sighting", "Sightings"]


class Sighting(NamedTuple):
    """
    What one canary meant.

    Attributes:
        result: ``seen`` in its turn, ``late`` out of order, or ``repeated``.
        lost: How many before it did not come; they may still come late.
    """

    result: Literal["seen", "late", "repeated"]
    lost: int = 0


class Sightings:
    """Follows the numbers of one feed's canaries of one kind."""

    def __init__(self) -> None:
        self._last: Mark | None = None

    def forget(self) -> None:
        """Expect any number next: what passed meanwhile could not be seen."""
        self._last = None

    def take(self, mark: Mark) -> Sighting:
        """Return what it means that *mark* comes now."""
        last = self._last
        if last is None or mark.run > last.run:
            self._last = mark
            return Sighting("seen")
        if (mark.run, mark.number) == (last.run, last.number):
            return Sighting("repeated")
        if mark.run < last.run or mark.number < last.number:
            return Sighting("late")
        self._last = mark
        return Sighting("seen", mark.number - last.number - 1)
