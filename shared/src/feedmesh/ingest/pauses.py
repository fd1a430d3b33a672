"""How long a link waits before it connects again; only data makes the waiting short."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from feedmesh.backoff import backoff
from feedmesh.errors import FeedError


__all__ = ["LinkPauses", "Pauses", "usual_pauses"]

Pauses = Callable[[bool], Iterator[float]]
"""Makes a series of pauses; slow ones where somebody must act first."""


def usual_pauses(slow: bool) -> Iterator[float]:
    """Return up to 30 s after a loss, up to 5 minutes after a refusal."""
    return backoff(15.0, 300.0) if slow else backoff(0.5, 30.0)


class LinkPauses:
    """
    The pauses of one link.

    Args:
        make: Makes a series; anew whenever the link was good, or is refused at last.
    """

    def __init__(self, make: Pauses) -> None:
        self._make = make
        self._pauses = make(False)
        self._slow = False
        self._spent = False  # whether one was taken since the link was last good

    def good(self) -> None:
        """Note that the link does what it shall; asked for every frame."""
        if self._spent:
            self._pauses = self._make(False)
            self._slow = False
            self._spent = False

    def after(self, error: FeedError) -> float:
        """Return for how many seconds to wait, as the link ended by *error*."""
        if error.slow != self._slow:
            self._slow = error.slow
            self._pauses = self._make(error.slow)
        self._spent = True
        return max(next(self._pauses), error.retry_after or 0.0)
