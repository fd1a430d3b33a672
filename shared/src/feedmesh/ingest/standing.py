"""What a replica knows of the one that leads, while it stands by; no messages of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from feedmesh.ingest.beat import Beat, Silence
from feedmesh.ingest.epoch import Claim


__all__ = ["Standing"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02


class Standing:
    """
    Knows whether somebody leads, and whether it is our turn.

    Args:
        feed: Which one.
        name: Ours.
        connected: Whether NATS can be heard.
        shared: Told what the leader gives to those who stand by.

    Attributes:
        highest: The highest epoch that is known; 0 before any is.
        last: What the leader said last, since :meth:`forget`.
        heard_one: Whether a leader was heard since then.
        named: Whether a leader that goes has named us its heir.
        asked: Set when a leader asks who will follow.
    """

    def __init__(
        self,
        feed: str,
        name: str,
        connected: Callable[[], bool],
        shared: Callable[[str], None],
    ) -> None:
        self._feed = feed
        self._name = name
        self._connected = connected
        self._shared = shared
        self._silence = Silence(self._now())
        self._stir = asyncio.Event()
        self.highest = 0
        self.last: Beat | None = None
        self.heard_one = False
        self.named = False
        self.asked = asyncio.Event()

    def begin(self) -> None:
        """Wait for our turn from now on."""
        self._silence = Silence(self._now())
        self.named = False
        self.asked.clear()

    def forget(self) -> None:
        """Forget what the leader before us has said: we lead."""
        self.last = None
        self.heard_one = False

    @property
    def left(self) -> bool:
        """Whether the leader has stored all it had, and has gone."""
        return self._silence.on_purpose

    def claim(self) -> Claim | None:
        """Return the claim of the leader that was heard last."""
        last = self.last
        known = last is not None and last.token and last.epoch == self.highest
        return Claim(self._feed, last.epoch, last.token) if last and known else None

    def heard(self, beat: Beat) -> None:
        """Take what a leader has said."""
        if beat.epoch < self.highest or beat.state in ("warming", "ready"):
            return
        self.last = beat
        self.highest = beat.epoch
        if not self.heard_one:
            self.heard_one = True
            logger.info("standing by", extra={"feed": self._feed, "leader": beat.epoch})
        if beat.shared:
            self._shared(beat.shared)
        if beat.state == "leading":
            self._silence.heard(self._now())
            if beat.asks:
                self.asked.set()
            self.named = beat.heir == self._name
        elif beat.state == "leaving" and beat.heir in ("", self._name):
            self._silence.left()
        self._stir.set()

    def lost(self) -> None:
        """Note that NATS went away, perhaps for less than the time between looks."""
        self._silence.deaf(self._now())

    def silent(self) -> bool:
        """Return whether nobody leads; to be asked every few milliseconds."""
        if not self._connected():
            self.lost()
        return self._silence.enough(self._now())

    async def look(self) -> None:
        """
        Look for silence, for ever, while something else is waited for.

        Who does not look seems to have been asleep, and that counts for nothing.
        """
        while True:
            self.silent()
            await asyncio.sleep(_LOOK_SECONDS)

    async def until(
        self, due: Callable[[], bool], standing: asyncio.Future[None] | None = None
    ) -> None:
        """Wait until *due* says so; raise what *standing* does if it ends before."""
        while not due():
            if standing is not None and standing.done():
                await standing
            # Silence is what does not happen: it can only be looked for.
            left = self._silence.left_to_wait(self._now())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_SECONDS, left + 0.001)):
                    await self._stir.wait()
            self._stir.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
