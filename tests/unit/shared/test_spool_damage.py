"""A spool whose file is damaged: it loses what was hit, says so, and goes on."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from spool_worker import HEADER, PACKED, number_of, numbers, record

from feedmesh.errors import SpoolError
from feedmesh.ingest.spool import Spool


TEN = range(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "news.spool"


def fill(path: Path, *, delivered: int = 0) -> None:
    """Leave ten records in a spool, and deliver the first ones of them."""
    with closing(Spool(path, 1 << 20)) as spool:
        assert all(spool.append(record(number)) for number in TEN)
        spool.drop(spool.first(delivered))


def overwrite(at: int, data: bytes) -> Callable[[bytearray], None]:
    def change(file: bytearray) -> None:
        file[at : at + len(data)] = data

    return change


def in_record(number: int, at: int, data: bytes) -> Callable[[bytearray], None]:
    return overwrite(HEADER + number * PACKED + at, data)


def cut(count: int) -> Callable[[bytearray], None]:
    def change(file: bytearray) -> None:
        del file[len(file) - count :]

    return change


def header(first: int) -> Callable[[bytearray], None]:
    return overwrite(0, struct.pack("<8sQ", b"FMSPOOL1", first))


def without(*gone: int) -> list[int]:
    return [number for number in TEN if number not in gone]


# What happens to the file; the records that are left, `torn` and `failed`.
DAMAGE = {
    "none": (cut(0), without(), 0, 0),
    "torn last record": (cut(3), without(9), 1, 0),
    "torn length": (cut(PACKED - 5), without(9), 1, 0),
    "zeros in the last record": (in_record(9, 50, bytes(58)), without(9), 1, 0),
    "only zeros came": (overwrite(HEADER + 10 * PACKED, bytes(5000)), without(), 1, 0),
    "one byte in the middle": (in_record(4, 60, b"?"), without(4), 0, 1),
    "a length too long": (in_record(4, 0, b"\xff\xff\xff\x7f"), without(4), 0, 1),
    "a length too short": (in_record(4, 0, b"\x07\0\0\0"), without(4), 0, 1),
    "a length of nothing": (in_record(4, 0, bytes(8)), without(4), 0, 1),
    "two places": (
        lambda file: [in_record(n, 9, b"??")(file) for n in (2, 7)],
        without(2, 7),
        0,
        2,
    ),
    "zeros over three records": (
        in_record(3, 20, bytes(2 * PACKED)),
        without(3, 4, 5),
        0,
        1,
    ),
    "the first record": (in_record(0, 3, b"??"), without(0), 0, 1),
    "a header of zeros": (overwrite(0, bytes(HEADER)), without(), 0, 0),
    "a header of another kind": (overwrite(0, b"SQLite f"), without(), 0, 0),
    "a header of the future": (header(1 << 40), without(), 0, 0),
    "a header of no time": (header((1 << 64) - 1), without(), 0, 0),
    "a header between records": (header(HEADER + 50), without(), 0, 0),
    "all but the header": (overwrite(HEADER, b"?" * 10 * PACKED), [], 1, 0),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_what_it_hit_and_nothing_else(
    path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, left, torn, failed = DAMAGE[name]
    fill(path)
    file = bytearray(path.read_bytes())
    change(file)
    path.write_bytes(file)

    with closing(Spool(path, 1 << 20)) as spool:
        assert numbers(spool) == left
        assert (len(spool), spool.recovered) == (len(left), len(left))
        assert (spool.torn, spool.failed) == (torn, failed)
        spool.drop(spool.first(4))
        assert spool.append(record(10))
        assert numbers(spool) == [*left[4:], 10]

    with closing(Spool(path, 1 << 20)) as spool:
        assert numbers(spool) == [*left[4:], 10]
        assert spool.torn == 0
        while len(spool):
            spool.drop(spool.first(3))
    assert path.stat().st_size == HEADER
    loud = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert bool(loud) == bool(torn or failed)


def test_an_older_header_delivers_again_in_order(path: Path) -> None:
    fill(path, delivered=4)
    file = bytearray(path.read_bytes())
    header(HEADER)(file)
    path.write_bytes(file)

    with closing(Spool(path, 1 << 20)) as spool:
        assert numbers(spool) == [*TEN]


def test_what_was_delivered_does_not_come_back(path: Path) -> None:
    fill(path, delivered=4)

    with closing(Spool(path, 1 << 20)) as spool:
        assert numbers(spool) == [4, 5, 6, 7, 8, 9]


def test_a_file_that_is_no_spool_is_left_alone(path: Path) -> None:
    path.write_bytes(b"somebody's own text, which no spool begins with")

    for _ in range(2):
        with pytest.raises(SpoolError, match="something else than a spool"):
            Spool(path, 1 << 20)
    assert path.read_bytes().startswith(b"somebody's own text")


@pytest.mark.parametrize("hit", [[0], [4], [9], [0, 1], [3, 7], [8, 9], [*TEN]])
def test_damage_under_a_running_spool_is_passed_over(
    path: Path, hit: list[int]
) -> None:
    with closing(Spool(path, 1 << 20)) as spool:
        for number in TEN:
            spool.append(record(number))
        with path.open("r+b") as file:
            for number in hit:
                file.seek(HEADER + number * PACKED + 30)
                file.write(b"?")
        delivered = []
        while len(spool):
            records = spool.first(3)
            delivered += [number_of(stored) for stored in records]
            if records:
                spool.drop(records)

        assert delivered == without(*hit)
        assert spool.failed > 0
        assert spool.append(record(10))
        assert numbers(spool) == [10]


def test_damage_does_not_survive_a_compaction(path: Path) -> None:
    with closing(Spool(path, 6000)) as spool:
        for number in range(50):
            spool.append(record(number))
        with path.open("r+b") as file:
            for number in (10, 45):
                file.seek(HEADER + number * PACKED + 30)
                file.write(b"?")
        left = [number for number in range(50) if number not in (10, 45)]
        assert numbers(spool) == left
        spool.drop(spool.first(40))
        for number in range(50, 60):
            assert spool.append(record(number))

        assert numbers(spool) == [*left[40:], *range(50, 60)]
    with closing(Spool(path, 6000)) as spool:
        assert spool.failed == 0
