"""
What waits on disk, in two spools: that of this term, and what earlier terms have left.

While another replica led, it stored newer items than those that we had left, so nothing
fresh may wait behind them. Whoever leads takes them, be they its own, when nothing else
of it waits on disk (`left_overs`).
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack
from pathlib import Path

from feedmesh.ingest.spool import Spool


__all__ = ["Spools"]

_TOGETHER = 200


class Spools:
    """
    Two spools in one folder, with a bound for both.

    Args:
        folder: Where they are, or are made. One process at a time.
        max_bytes: How many bytes may wait in both together.

    Attributes:
        own: Takes what comes; another one after :meth:`set_aside`.
        left: What is left over; likewise.

    Raises:
        SpoolError: If a file cannot be had, or is something else than a spool.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        with ExitStack() as stack:
            self.own = Spool(folder / "news.spool", max_bytes)
            stack.callback(self.own.close)
            self.left = Spool(folder / "left.spool", max_bytes)
            stack.pop_all()
        self._share()

    def __len__(self) -> int:
        return len(self.own) + len(self.left)

    @property
    def size(self) -> int:
        """How many bytes of the files wait."""
        return self.own.size + self.left.size

    @property
    def torn(self) -> int:
        """Ends of the files that were cut off since they were written in part."""
        return self.own.torn + self.left.torn

    @property
    def failed(self) -> int:
        """Records that the disk did not take or did not keep, for whatever reason."""
        return self.own.failed + self.left.failed

    async def set_aside(self) -> None:
        """Have all that waits be left over; what finds no room there stays."""
        if not self.left:
            self.own, self.left = self.left, self.own
        while records := self.own.first(_TOGETHER):
            moved = list(itertools.takewhile(self.left.append, records))
            # A power cut must not find it in neither file.
            self.left.sync()
            self.own.drop(moved)
            if len(moved) < len(records):
                break
            await asyncio.sleep(0)
        self._share()

    async def run(self) -> None:
        """Force what is new to the disk every second, for ever."""
        async with asyncio.TaskGroup() as group:
            for spool in (self.own, self.left):
                group.create_task(spool.run(), name="sync")

    def close(self) -> None:
        """Sync, and let the next process have the files."""
        self.own.close()
        self.left.close()

    def _share(self) -> None:
        # What is left over only becomes less until it is next set aside.
        self.left.max_bytes = self._max_bytes
        self.own.max_bytes = max(0, self._max_bytes - self.left.size)
