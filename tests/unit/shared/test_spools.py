"""Two spools: what earlier terms have left is set aside, and loses nothing by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from spool_worker import HEADER, PACKED, numbers, record

from feedmesh.errors import SpoolError
from feedmesh.ingest.spool import Spool
from feedmesh.ingest.spools import Spools


ROOM = 2 * HEADER + 10 * PACKED


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Spools]:
    with closing(Spools(tmp_path, ROOM)) as spools:
        yield spools


def fill(spool: Spool, *which: int) -> list[bool]:
    return [spool.append(record(number)) for number in which]


async def test_what_waits_is_left_over_once_it_is_set_aside(spools: Spools) -> None:
    fill(spools.own, 1, 2)
    await spools.set_aside()

    assert (numbers(spools.own), numbers(spools.left)) == ([], [1, 2])


async def test_what_was_left_first_stays_in_front(spools: Spools) -> None:
    for which in ((1, 2), (3,), (), (4, 5)):
        fill(spools.own, *which)
        await spools.set_aside()

    assert (numbers(spools.own), numbers(spools.left)) == ([], [1, 2, 3, 4, 5])


async def test_what_is_just_handed_over_is_not_moved(spools: Spools) -> None:
    fill(spools.own, 1, 2)
    await spools.set_aside()
    handed_over = (left := spools.left).first(1)
    fill(spools.own, 3, 4)
    await spools.set_aside()
    left.drop(handed_over)

    assert numbers(spools.left) == [2, 3, 4]


async def test_both_together_take_no_more_than_they_may(spools: Spools) -> None:
    fill(spools.own, *range(6))
    await spools.set_aside()

    assert sum(fill(spools.own, *range(6, 12))) == 4
    spools.left.drop(spools.left.first(6))
    await spools.set_aside()
    assert sum(fill(spools.own, *range(12, 20))) == 6
    assert spools.size == ROOM


async def test_what_finds_no_room_stays_in_order(spools: Spools) -> None:
    fill(spools.own, *range(6))
    await spools.set_aside()
    fill(spools.own, 6, 7, 8, 9)
    spools.left.max_bytes = HEADER + 8 * PACKED
    await spools.set_aside()

    assert numbers(spools.left) == [*range(8)]
    assert numbers(spools.own) == [8, 9]


async def test_all_is_there_after_a_start(tmp_path: Path) -> None:
    for number in range(3):
        with closing(Spools(tmp_path, ROOM)) as spools:
            fill(spools.own, number)
            await spools.set_aside()
            fill(spools.own, 10 + number)

    with closing(Spools(tmp_path, ROOM)) as spools:
        found = numbers(spools.own) + numbers(spools.left)
        assert len(spools) == 6
        assert sorted(found) == [0, 1, 2, 10, 11, 12]


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    with closing(Spools(tmp_path, ROOM)), pytest.raises(SpoolError, match="in use"):
        Spools(tmp_path, ROOM)
    Spools(tmp_path, ROOM).close()
