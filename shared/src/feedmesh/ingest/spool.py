"""
What waits for NATS, on disk: in order, bounded, and there after a crash.

One file. A header says where the first record begins that is still waited for; each
record has its length and a checksum in front. Records are only ever appended; what
was delivered is marked in the header; once nothing is left, the file is cut to its
header. So a crash leaves a valid spool at any instant: a record that was written in
part is the last one, its checksum is wrong, and it is cut off.

Records are handed to the kernel at once, so they survive the end of the process, and
forced to the disk once a second at most (:meth:`Spool.sync`), so that a power cut costs
what came in its last second. Delivering twice what the header had not noted yet does
no harm: messages have ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import struct
import zlib
from pathlib import Path

from feedmesh.errors import SpoolError


__all__ = ["Spool"]

logger = logging.getLogger(__name__)

_MAGIC = b"FMSPOOL1"
_HEADER = struct.Struct("<8sQ")
_RECORD = struct.Struct("<II")
_MAX_RECORD = 16 * 1024 * 1024
_SYNC_SECONDS = 1.0


class Spool:
    """
    A first-in, first-out store of records.

    Args:
        path: Its file; made if it is not there. One process at a time.
        max_bytes: How large the file may grow.
        max_items: How many records may wait.

    Attributes:
        recovered: Records that an earlier process has left here.
        torn: Records that were cut off since they were written in part.
        failed: Records that the disk did not take, for whatever reason.

    Raises:
        SpoolError: If the file cannot be had.
    """

    def __init__(
        self, path: Path, max_bytes: int, *, max_items: int = 1_000_000
    ) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self.torn = 0
        self.failed = 0
        self._file = _open(path)
        try:
            self._first, self._end, self._count = self._recover()
        except OSError as error:
            os.close(self._file)
            raise SpoolError(f"{path.name}: {error.strerror}") from None
        self._unsynced = False
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
        """How large the file is."""
        return self._end

    def append(self, record: bytes) -> bool:
        """Add *record* at the end; False if there is no room for it."""
        size = _RECORD.size + len(record)
        if self._end + size > self._max_bytes or self._count >= self._max_items:
            return False
        data = _RECORD.pack(len(record), zlib.crc32(record)) + record
        try:
            written = os.pwrite(self._file, data, self._end)
            if written != len(data):
                raise OSError("the record was written in part")
        except OSError as error:
            self.failed += 1
            if self.failed == 1:
                logger.error("the spool cannot be written: %s", error.strerror or error)
            # What was written in part must not stand in front of the next record.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            return False
        self._end += size
        self._count += 1
        self._unsynced = True
        return True

    def first(self, limit: int) -> list[bytes]:
        """
        Return the oldest records, up to *limit*; they stay until they are dropped.

        Raises:
            SpoolError: If the file cannot be read.
        """
        records: list[bytes] = []
        at = self._first
        try:
            while at < self._end and len(records) < limit:
                record = self._read(at)
                if record is None:
                    raise SpoolError("a record of the spool is damaged")
                records.append(record)
                at += _RECORD.size + len(record)
        except OSError as error:
            raise SpoolError(f"the spool cannot be read: {error.strerror}") from None
        return records

    def drop(self, records: list[bytes]) -> None:
        """Note that the oldest records, which are *records*, were delivered."""
        self._first += sum(_RECORD.size + len(record) for record in records)
        self._count -= len(records)
        if self._count == 0:
            self._first = self._end = _HEADER.size
        # Unmarked they would only be delivered again.
        with contextlib.suppress(OSError):
            if self._count == 0:
                os.ftruncate(self._file, _HEADER.size)
            self._mark(self._first)
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

    def _recover(self) -> tuple[int, int, int]:
        """Return where the first record begins, where the last ends, and how many."""
        size = os.fstat(self._file).st_size
        header = os.pread(self._file, _HEADER.size, 0)
        first = _HEADER.size
        if len(header) == _HEADER.size and header.startswith(_MAGIC):
            first = max(first, _HEADER.unpack(header)[1])
        else:
            self.torn += 1 if size else 0
            os.ftruncate(self._file, 0)
            self._mark(first)
        end, count = self._scan(first)
        if count == 0:
            # All was delivered, or a power cut has kept a header of before.
            first = _HEADER.size
            end, count = self._scan(first)
            self._mark(first)
        if end < size:
            self.torn += 1
        os.ftruncate(self._file, end)
        return first, end, count

    def _scan(self, at: int) -> tuple[int, int]:
        """Return where the whole records from *at* on end, and how many they are."""
        count = 0
        while (record := self._read(at)) is not None:
            at += _RECORD.size + len(record)
            count += 1
        return at, count

    def _mark(self, first: int) -> None:
        os.pwrite(self._file, _HEADER.pack(_MAGIC, first), 0)

    def _read(self, at: int) -> bytes | None:
        """Return the record at *at*; None if there is no whole one."""
        head = os.pread(self._file, _RECORD.size, at)
        if len(head) < _RECORD.size:
            return None
        length, checksum = _RECORD.unpack(head)
        if length > _MAX_RECORD:
            return None
        record = os.pread(self._file, length, at + _RECORD.size)
        if len(record) < length or zlib.crc32(record) != checksum:
            return None
        return record


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(f"{path.name}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise SpoolError(f"{path.name} is in use by another process") from None
    return file
