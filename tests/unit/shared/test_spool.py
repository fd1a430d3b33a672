"""A spool and its bounds: what waits counts, and what was delivered is given back."""

from __future__ import annotations

import random
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from spool_worker import HEADER, PACKED, number_of, numbers, record, verge

from feedmesh.ingest.spool import Spool


TEN = range(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "news.spool"


@pytest.mark.parametrize(
    ("max_bytes", "max_items", "room"),
    [
        (HEADER + 5 * PACKED, 100, 5),
        (HEADER + 5 * PACKED - 1, 100, 4),
        (1 << 20, 7, 7),
        (1, 100, 0),
    ],
)
def test_it_refuses_what_is_too_much(
    path: Path, max_bytes: int, max_items: int, room: int
) -> None:
    with closing(Spool(path, max_bytes, max_items=max_items)) as spool:
        taken = [number for number in TEN if spool.append(record(number))]

        assert taken == numbers(spool) == [*range(room)]
        assert spool.size == HEADER + room * PACKED
        spool.drop(spool.first(2))
        if room:
            # There is room again for just as many.
            assert [spool.append(record(n)) for n in range(3)] == [True, True, False]
        assert spool.failed == 0


def test_it_refuses_what_could_not_be_found_again(path: Path) -> None:
    with closing(Spool(path, 1 << 30)) as spool:
        assert not spool.append(b"")
        assert not spool.append(bytes(1 << 24))
        assert spool.append(bytes((1 << 24) - 1))
    with closing(Spool(path, 1 << 30)) as spool:
        assert len(spool) == 1


@pytest.mark.parametrize("waiting", [1, 10, 25, 49])
def test_one_that_is_never_empty_takes_more_than_it_is_large(
    path: Path, waiting: int
) -> None:
    max_bytes = HEADER + 50 * PACKED
    delivered: list[int] = []
    copied, largest, inode = 0, 0, 0
    with closing(Spool(path, max_bytes)) as spool:
        for number in range(2000):
            assert spool.append(record(number))
            now = path.stat()
            largest = max(largest, now.st_size)
            if now.st_ino != inode:
                copied, inode = copied + now.st_size, now.st_ino
            if len(spool) > waiting:
                records = spool.first(1)
                delivered += map(number_of, records)
                spool.drop(records)
        delivered += numbers(spool)

    assert delivered == [*range(2000)]
    assert largest <= 2 * max_bytes
    assert 0 < copied <= 2000 * PACKED


def test_it_does_what_a_queue_does(path: Path) -> None:
    chance = random.Random(4)
    expected: deque[bytes] = deque()
    spool = Spool(path, 10_000)
    for number in range(3000):
        match chance.choices(["put", "take", "again"], [60, 40, 1])[0]:
            case "put":
                new = record(number, chance.randrange(300))
                if spool.append(new):
                    expected.append(new)
                else:
                    assert spool.size + len(new) + 8 > 10_000
            case "take":
                records = spool.first(chance.randrange(1, 5))
                spool.drop(records)
                assert records == [expected.popleft() for _ in records]
            case "again":
                spool.close()
                spool = Spool(path, 10_000)
        assert len(spool) == len(expected)
    assert spool.first(1000) == [*expected]
    assert spool.failed == spool.torn == 0
    spool.close()


def test_where_no_second_file_can_be_it_refuses_and_goes_on_later(path: Path) -> None:
    in_the_way = path.with_name("news.spool.new")
    spool, more = verge(path)
    with closing(spool):
        before = numbers(spool)
        in_the_way.mkdir()
        assert not spool.append(record(next(more)))
        assert spool.failed == 1
        # To copy costs, so it is not tried with each record.
        assert not spool.append(record(next(more)))
        assert spool.failed == 1
        assert numbers(spool) == before

        in_the_way.rmdir()
        spool.drop(spool.first(10))
        last = next(more)
        assert spool.append(record(last))
        assert numbers(spool) == [*before[10:], last]
