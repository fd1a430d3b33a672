"""The time for which a replica leads, from its first step to its last write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from feedmesh.ingest.beat import Beat
from feedmesh.ingest.epoch import Claim


__all__ = ["Term"]


class Term:
    """
    The time for which we may connect, and from the claim on write as well.

    A term usually begins with the claim. An heir that was named by a leader that goes
    connects first, and has the claim as soon as that leader has stored all it had.

    Attributes:
        stored: Set once all is stored that the leader before us had; with the claim at
            the latest.
        granted: Set once there is a claim.
        before: What the leader before us said last, if we heard it.
        over: Set when leading shall end.
        overtaken: Set with it if it ends because another leads.
        closed: To be set once all links are closed for good: another may connect.
        working: To be set once all is read that a leader must know.
        claimed: Called with the claim whenever it was looked at and found to hold.
        heir: Who follows us, if somebody stands by and is ready.
    """

    def __init__(self) -> None:
        self._claim: Claim | None = None
        self.stored = asyncio.Event()
        self.granted = asyncio.Event()
        self.before: Beat | None = None
        self.over = asyncio.Event()
        self.overtaken = asyncio.Event()
        self.closed = asyncio.Event()
        self.working = False
        self.claimed: Callable[[Claim], None] = lambda claim: None
        self.heir = ""

    @property
    def claim(self) -> Claim:
        """The claim; a new one when the stream was lost and made anew."""
        assert self._claim is not None, "nothing is claimed yet"
        return self._claim

    def grant(self, claim: Claim, before: Beat | None) -> None:
        """Begin to write under *claim*, after the leader that said *before* last."""
        self._claim = claim
        self.before = before
        self.stored.set()
        self.granted.set()

    def renew(self, claim: Claim) -> None:
        """Go on under *claim*, as the stream has forgotten ours."""
        self._claim = claim

    def end(self) -> None:
        """End it, as another leads."""
        self.overtaken.set()
        self.over.set()
