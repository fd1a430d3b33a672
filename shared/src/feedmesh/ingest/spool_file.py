"""
The file of a spool: what its bytes mean, where whole records lie, and whose it is.

A header says where the first record begins that is still waited for; each record has
its length and a checksum in front. A record that was damaged does not take those
behind it along: the next whole one is looked for, byte by byte, by its checksum.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from feedmesh.errors import SpoolError


__all__ = [
    "HEADER_BYTES",
    "MAX_RECORD",
    "Survey",
    "mark",
    "marked",
    "open_alone",
    "pack_record",
    "packed_size",
    "read_record",
    "replace",
    "survey",
]

_MAGIC = b"FMSPOOL1"
_HEADER = struct.Struct("<8sQ")
_RECORD = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
# The highest byte of a length is zero: few places look like the beginning of a record.
MAX_RECORD = (1 << 24) - 1
_PART = 1 << 20
_PLAUSIBLE_LENGTH = re.compile(rb"(?!\0\0\0)(?=...\0)", re.DOTALL)
# About ten seconds; without damage nothing is looked for. To look at a place costs as
# much as to check so many bytes.
_SEARCH_BYTES = 8 << 30
_SEARCH_STEP = 64


class Survey(NamedTuple):
    """Where whole records end, how many they are, and where damage begins and ends."""

    end: int
    records: int
    holes: dict[int, int]


def pack_record(record: bytes) -> bytes:
    """Return *record*, of 1 to `MAX_RECORD` bytes, as it lies in the file."""
    return _RECORD.pack(len(record), zlib.crc32(record)) + record


def packed_size(record: bytes) -> int:
    """Return how many bytes of the file *record* takes."""
    return _RECORD.size + len(record)


def read_record(file: int, at: int) -> bytes | None:
    """Return the record at *at*; None if there is no whole one."""
    head = os.pread(file, _RECORD.size, at)
    if len(head) < _RECORD.size:
        return None
    length, checksum = _RECORD.unpack(head)
    # Zeros, which a power cut may leave, would make up whole records.
    if not 0 < length <= MAX_RECORD:
        return None
    record = os.pread(file, length, at + _RECORD.size)
    if len(record) < length or zlib.crc32(record) != checksum:
        return None
    return record


def survey(file: int, at: int, end: int) -> Survey:
    """Find the whole records from *at* to *end*."""
    count = 0
    holes: dict[int, int] = {}
    while at < end:
        record = read_record(file, at)
        if record is not None:
            at += packed_size(record)
            count += 1
            continue
        found = _search(file, at + 1, end)
        if found is None:
            break
        holes[at] = found
        at = found
    return Survey(at, count, holes)


def _search(file: int, at: int, end: int) -> int | None:
    """Return where the next whole record begins; None if none is found."""
    budget = _SEARCH_BYTES
    while at + _RECORD.size <= end:
        window = os.pread(file, min(_PART, end - at), at)
        if len(window) < _RECORD.size:
            break
        budget -= _SEARCH_STEP * len(window)
        for place in _PLAUSIBLE_LENGTH.finditer(window):
            start = at + place.start()
            length = int.from_bytes(window[place.start() : place.start() + 4], "little")
            if length <= end - start - _RECORD.size:
                budget -= length
                if read_record(file, start) is not None:
                    return start
            if budget < 0:
                return None
        at += len(window) - _RECORD.size + 1
    return None


def mark(file: int, first: int) -> None:
    """Note that the first record that is still waited for begins at *first*."""
    os.pwrite(file, _HEADER.pack(_MAGIC, first), 0)


def marked(file: int) -> int | None:
    """
    Return what was noted; None in a file without a header.

    Raises:
        OSError: If the file begins as another kind of file does, and holds no record.
    """
    header = os.pread(file, HEADER_BYTES, 0)
    if len(header) == HEADER_BYTES and header.startswith(_MAGIC):
        return int(_HEADER.unpack(header)[1])
    size = os.fstat(file).st_size
    another = len(header) == HEADER_BYTES and any(header)
    if another and not survey(file, HEADER_BYTES, size).records:
        raise OSError(errno.EINVAL, "it is something else than a spool")
    return None


def open_alone(path: Path) -> int:
    """
    Open *path*, made if it is not there, for this process alone.

    Raises:
        SpoolError: If it cannot be had.
    """
    while True:
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
        # Who has let go of it may have put another in its place.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                break
        os.close(file)
    # A crash has left it before it had its name.
    with contextlib.suppress(OSError):
        _beside(path).unlink()
    _sync_folder(path.parent)
    return file


def replace(file: int, path: Path, spans: Iterable[tuple[int, int]]) -> int:
    """
    Have *file* be a new file at *path*, with *spans* of the old; return where it ends.

    A crash leaves the one or the other, whole, under that name, and the lock is held
    all the time.

    Raises:
        OSError: If the disk does not take it; then all is as before.
    """
    beside = _beside(path)
    try:
        with open(beside, "w+b", opener=partial(os.open, mode=0o600)) as new:
            fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.write(_HEADER.pack(_MAGIC, HEADER_BYTES))
            for at, until in spans:
                while at < until:
                    part = os.pread(file, min(_PART, until - at), at)
                    if not part:
                        raise OSError(errno.EIO, "the file has lost its end")
                    new.write(part)
                    at += len(part)
            new.flush()
            os.fdatasync(new.fileno())
            os.replace(beside, path)
            os.dup2(new.fileno(), file, inheritable=False)
            end = new.tell()
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    _sync_folder(path.parent)
    return end


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _sync_folder(folder: Path) -> None:
    """Force the names in *folder* to the disk, if the file system can."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        os.fsync(file)
    os.close(file)
