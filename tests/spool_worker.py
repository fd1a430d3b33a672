"""
A process that uses a spool until it is killed, or until its disk is full.

``flow PATH FIRST MAX_BYTES`` fills and drains it for ever, and says each number that it
has handed in or out; ``steps FOLDER`` kills a process at each line of a compaction, and
says how many there were; ``full PATH LIMIT`` has a disk that takes files up to *LIMIT*
bytes; ``late PATH`` opens a file, and wants to lock it once another has its name.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from feedmesh.errors import SpoolError
from feedmesh.ingest.spool import Spool


__all__ = [
    "ACK",
    "HEADER",
    "IN",
    "OUT",
    "PACKED",
    "number_of",
    "numbers",
    "record",
    "verge",
]

ACK = struct.Struct("<cI")
IN, OUT = b"i", b"o"

_WATCHED = {"replace", "_compact", "_sync_folder"}


def record(number: int, size: int = 100) -> bytes:
    """Return the record *number*: text, as most news are, behind some zeros."""
    return number.to_bytes(8, "big") + b"n" * size


def number_of(stored: bytes) -> int:
    """Return which one *stored* is."""
    return int.from_bytes(stored[:8], "big")


def numbers(spool: Spool) -> list[int]:
    """Return which ones wait in *spool*."""
    return [number_of(stored) for stored in spool.first(1_000_000)]


# Of the file: its header, and a record of the usual size.
HEADER = 16
PACKED = len(record(0)) + 8


def verge(path: Path) -> tuple[Spool, Iterator[int]]:
    """Return a spool that is made shorter by the next record, and numbers for more."""
    spool = Spool(path, 6000)
    more = count()
    while len(spool) < 40:
        spool.append(record(next(more)))
    spool.drop(spool.first(30))
    while path.stat().st_size + PACKED <= 6000:
        spool.append(record(next(more)))
    return spool, more


def _flow(path: Path, first: int, max_bytes: int) -> None:
    chance = random.Random(first)
    spool = Spool(path, max_bytes)
    for number in count(first):
        while not spool.append(record(number, chance.randrange(200))):
            _deliver(spool, 20)
        os.write(1, ACK.pack(IN, number))
        if chance.random() < 0.2:
            _deliver(spool, chance.randrange(9))


def _deliver(spool: Spool, limit: int) -> None:
    records = spool.first(limit)
    if records:
        os.write(1, ACK.pack(OUT, number_of(records[-1])))
        spool.drop(records)


def _steps(folder: Path) -> None:
    for step in count():
        if not (child := os.fork()):
            _until(step, folder / str(step))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(step, os.waitstatus_to_exitcode(status))
            return


def _until(step: int, path: Path) -> None:
    """Compact the spool at *path*, and die at line *step* of that."""
    left = step
    spool, more = verge(path)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_name not in _WATCHED:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    taken = spool.append(record(next(more)))
    os._exit(0 if taken else 1)


def _full(path: Path, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    spool = Spool(path, 1 << 20)
    taken = [number for number in range(30) if spool.append(record(number))]
    failed = spool.failed
    spool.drop(spool.first(len(spool) - 1))
    spool.drop(spool.first(1))
    again = spool.append(record(99))
    print(json.dumps({"taken": taken, "failed": failed, "again": again}))


def _late(path: Path) -> None:
    owner, more = verge(path)
    compacted: list[bool] = []

    def compact(event: str, _: Any) -> None:
        if event == "fcntl.flock" and not compacted:
            compacted.append(True)
            compacted[0] = owner.append(record(next(more)))

    before = path.stat().st_ino
    sys.addaudithook(compact)
    try:
        Spool(path, 6000)
    except SpoolError as error:
        print(compacted, path.stat().st_ino != before, error)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["flow", where, number, size]:
            _flow(Path(where), int(number), int(size))
        case ["steps", where]:
            _steps(Path(where))
        case ["full", where, size]:
            _full(Path(where), int(size))
        case ["late", where]:
            _late(Path(where))
