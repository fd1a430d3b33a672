"""
What waits for NATS, on disk: in order, bounded, and there after a crash.

One file (`spool_file`). Records are only ever appended; what was delivered is marked in
the header; once nothing is left, the file is cut to its header. So a crash leaves a
valid spool at any instant: a record that was written in part is the last one, its
checksum is wrong, and it is cut off.

A spool that is filled while it is drained may never be empty. So once the file is as
large as what may wait, and half of it is delivered, the rest is copied to a new file
that takes the place of the old one: each byte once, on average. The file takes twice
the bound at worst, and for the moment of the copy both take three times.

Records are handed to the kernel at once, so they survive the end of the process, and
forced to the disk once a second at most (:meth:`Spool.sync`), so that a power cut costs
what came in its last second. Delivering twice what the header had not noted yet does
no harm: messages have ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from pathlib import Path

from feedmesh.errors import SpoolError
from feedmesh.ingest.spool_file import (
    HEADER_BYTES,
    MAX_RECORD,
    mark,
    marked,
    open_alone,
    pack_record,
    packed_size,
    read_record,
    replace,
    survey,
)


__all__ = ["Spool"]

logger = logging.getLogger(__name__)

_SYNC_SECONDS = 1.0


class Spool:
    """
    A first-in, first-out store of records.

    Args:
        path: Its file; made if it is not there. One process at a time.
        max_bytes: How many bytes may wait.
        max_items: How many records may wait.

    Attributes:
        max_bytes: As given; may be changed.
        recovered: Records that an earlier process has left here.
        torn: Ends of the file that were cut off since they were written in part.
        failed: Records that the disk did not take or did not keep, for whatever reason.

    Raises:
        SpoolError: If the file cannot be had, or is something else than a spool.
    """

    def __init__(
        self, path: Path, max_bytes: int, *, max_items: int = 1_000_000
    ) -> None:
        self._path = path
        self.max_bytes = max_bytes
        self._max_items = max_items
        self.torn = 0
        self.failed = 0
        self._refusing = False
        self._first = self._end = HEADER_BYTES
        self._count = 0
        # Where damage begins, and where the next record does.
        self._holes: dict[int, int] = {}
        self._compact_from = 0
        self._unsynced = False
        self._file = open_alone(path)
        try:
            self._recover()
        except OSError as error:
            os.close(self._file)
            raise SpoolError(f"{path.name}: {error.strerror}") from None
        self.recovered = self._count
        if self._count or self.torn:
            logger.warning(
                "news were left in the spool",
                extra={"items": self._count, "torn": self.torn},
            )

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """How many bytes of the file wait; its header is always one of them."""
        return HEADER_BYTES + self._end - self._first

    def append(self, record: bytes) -> bool:
        """Add *record*, which is not empty, at the end; False if there is no room."""
        size = packed_size(record)
        if not (0 < len(record) <= MAX_RECORD and self._has_room(size)):
            return False
        try:
            if os.pwrite(self._file, pack_record(record), self._end) != size:
                raise OSError(errno.ENOSPC, "the record was written in part")
        except OSError as error:
            self.failed += 1
            if not self._refusing:
                logger.error("the spool cannot be written: %s", error.strerror)
            self._refusing = True
            # What was written in part must not stand in front of the next record.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            return False
        self._refusing = False
        self._end += size
        self._count += 1
        self._unsynced = True
        return True

    def first(self, limit: int) -> list[bytes]:
        """
        Return the oldest records, up to *limit*; they stay until they are dropped.

        Damaged ones are passed over, and counted no longer: there may be none.

        Raises:
            SpoolError: If the file cannot be read.
        """
        records: list[bytes] = []
        at = self._first
        try:
            while len(records) < limit and (at := self._past(at)) < self._end:
                record = read_record(self._file, at)
                if record is None:
                    self._pass_over(at, len(records))
                    continue
                records.append(record)
                at += packed_size(record)
        except OSError as error:
            raise SpoolError(f"the spool cannot be read: {error.strerror}") from None
        return records

    def drop(self, records: list[bytes]) -> None:
        """Note that the oldest records, which are *records*, were delivered."""
        for record in records:
            self._first = self._past(self._first) + packed_size(record)
        self._count -= len(records)
        # Unmarked they would only be delivered again.
        with contextlib.suppress(OSError):
            self._note()
        self._unsynced = True

    async def run(self) -> None:
        """Force what is new to the disk every second, for ever."""
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            if self._unsynced:
                await asyncio.to_thread(self.sync)

    def sync(self) -> None:
        """Force what was written to the disk; takes milliseconds."""
        self._unsynced = False
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self.failed += 1
            logger.error("the spool cannot be synced: %s", error.strerror)

    def close(self) -> None:
        """Sync, and let the next process have the file."""
        self.sync()
        os.close(self._file)

    def _has_room(self, size: int) -> bool:
        if self.size + size > self.max_bytes or self._count >= self._max_items:
            return False
        delivered = self._first - HEADER_BYTES
        if self._end + size <= self.max_bytes or delivered < self.size:
            return True
        return delivered >= self._compact_from and self._compact()

    def _compact(self) -> bool:
        """Give back what was delivered; False if the disk has no room for that."""
        at = self._first
        spans = []
        for damage, behind in (*sorted(self._holes.items()), (self._end, self._end)):
            if damage >= self._first:
                spans.append((at, damage))
                at = behind
        try:
            self._end = replace(self._file, self._path, spans)
        except OSError as error:
            self.failed += 1
            logger.error("the spool cannot be made shorter: %s", error.strerror)
            # To copy in vain costs as much, so not with every record.
            self._compact_from = self._first + self.max_bytes // 8
            return False
        self._start_over()
        return True

    def _recover(self) -> None:
        """Find out where the first record begins, where the last ends, and how many."""
        size = os.fstat(self._file).st_size
        first = marked(self._file) or 0
        if HEADER_BYTES < first < size and read_record(self._file, first) is not None:
            self._first = first
        # Else all was delivered, or a power cut has kept a header of before.
        if self._look(self._first, 0, size):
            self.torn += 1
        self._note()

    def _pass_over(self, at: int, before: int) -> None:
        """Go on behind the damage *at*, in front of which *before* records wait."""
        if self._look(at, before, self._end):
            self.failed += 1
        if self._count == 0:
            self._note()

    def _look(self, at: int, before: int, size: int) -> bool:
        """Count what waits from *at* on; return whether damage was cut off the end."""
        found = survey(self._file, at, size)
        self._end = found.end
        self._count = before + found.records
        self._holes |= found.holes
        self.failed += len(found.holes)
        lost = sum(behind - damage for damage, behind in found.holes.items())
        if lost:
            logger.error("bytes of the spool are damaged", extra={"bytes": lost})
        if cut := max(0, size - found.end):
            logger.error("bytes were cut off the spool", extra={"bytes": cut})
        os.ftruncate(self._file, self._end)
        return cut > 0

    def _past(self, at: int) -> int:
        """Return where the record begins that is the first at or behind *at*."""
        while at in self._holes:
            at = self._holes[at]
        return at

    def _note(self) -> None:
        """Mark in the file where the first record begins; cut it if there is none."""
        if self._count == 0:
            self._end = HEADER_BYTES
            self._start_over()
            os.ftruncate(self._file, HEADER_BYTES)
        mark(self._file, self._past(self._first))

    def _start_over(self) -> None:
        self._first = HEADER_BYTES
        self._holes.clear()
        self._compact_from = 0
