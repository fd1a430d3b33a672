"""A spool and processes: two that want it, one that is killed, one without disk."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import spool_worker
from spool_worker import ACK, HEADER, IN, OUT, PACKED, numbers, record, verge

from feedmesh.errors import SpoolError
from feedmesh.ingest.spool import Spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "news.spool"


def work(*arguments: object) -> list[str]:
    return [sys.executable, spool_worker.__file__, *map(str, arguments)]


def output(*arguments: object) -> str:
    return subprocess.run(
        work(*arguments), check=True, capture_output=True, text=True, timeout=60
    ).stdout


@contextmanager
def flow(path: Path, first: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that fills and drains *path* for ever; it is killed at the end."""
    with subprocess.Popen(
        work("flow", path, first, 20_000), stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acks(process: subprocess.Popen[bytes]) -> Iterator[tuple[bytes, int]]:
    assert process.stdout is not None
    while len(ack := process.stdout.read(ACK.size)) == ACK.size:
        yield ACK.unpack(ack)


def test_a_disk_that_takes_no_more_costs_only_what_it_does_not_take(path: Path) -> None:
    said = json.loads(output("full", path, HEADER + 7 * PACKED + 50))

    assert said["taken"] == [*range(7)]
    assert said["failed"] == 23
    assert said["again"]
    with closing(Spool(path, 1 << 20)) as spool:
        assert numbers(spool) == [99]
        assert spool.torn == 0


def test_two_processes_cannot_have_one_file_whatever_takes_its_place(
    path: Path,
) -> None:
    inodes = set()
    with flow(path) as process:
        for count, _ in enumerate(acks(process)):
            if count % 5 == 0:
                with pytest.raises(SpoolError, match="in use by another process"):
                    Spool(path, 20_000)
                inodes.add(path.stat().st_ino)
            if count >= 3000 and len(inodes) > 1:
                break
        else:
            pytest.fail("the other process has ended")
    Spool(path, 20_000).close()


def test_who_opens_it_just_before_it_is_replaced_does_not_get_the_old_one(
    path: Path,
) -> None:
    said = output("late", path)

    assert said == "[True] True news.spool is in use by another process\n"


def test_a_crash_at_any_step_of_a_compaction_loses_nothing(tmp_path: Path) -> None:
    steps, code = map(int, output("steps", tmp_path).split())

    assert code == 0
    assert steps > 15
    spool, more = verge(tmp_path / "whole")
    with closing(spool):
        expected = numbers(spool)
    renamed = 0
    for step in range(steps):
        path = tmp_path / str(step)
        renamed += path.stat().st_size < (tmp_path / "whole").stat().st_size
        with closing(Spool(path, 6000)) as spool:
            assert numbers(spool) == expected
            assert spool.torn == spool.failed == 0
            # And it goes on.
            assert spool.append(record(next(more)))
        assert not os.path.lexists(tmp_path / f"{step}.new")
    # Both sides of the moment in which it takes its place were seen.
    assert 0 < renamed < steps


def test_a_crash_at_any_instant_loses_nothing_that_was_acknowledged(path: Path) -> None:
    chance = random.Random(5)
    put, out, rest = -1, -1, list[int]()
    for _ in range(8):
        until = put + chance.randrange(100, 1500)
        with flow(path, put + 1) as process:
            for kind, number in acks(process):
                if kind == IN:
                    put = number
                    if number >= until:
                        process.kill()
                else:
                    assert kind == OUT
                    out = number
        assert put >= until
        with closing(Spool(path, 20_000)) as spool:
            rest = numbers(spool)
            assert spool.torn == spool.failed == 0
        if rest:
            # In order, without holes; the last ones may not be acknowledged yet.
            assert rest == [*range(rest[0], rest[-1] + 1)]
            assert rest[0] <= out + 1
            assert rest[-1] >= put
            put = rest[-1]
        else:
            assert out >= put
