"""Which items the stream has: the last of many, in memory that does not grow."""

from __future__ import annotations

import tracemalloc

from ingest_ls.stored_ids import StoredIds


def ids(first: int, end: int) -> list[str]:
    return [f"20260715{number:016}" for number in range(first, end)]


def test_an_id_is_known_once_it_was_added() -> None:
    stored = StoredIds(capacity=1000)
    for item_id in ids(0, 1000):
        assert item_id not in stored
        stored.add(item_id)
        stored.add(item_id)

    assert all(item_id in stored for item_id in ids(0, 1000))
    assert not any(item_id in stored for item_id in ids(1000, 2000))


def test_the_last_ids_are_known_and_no_more_than_twice_as_many() -> None:
    stored = StoredIds(capacity=100)
    for item_id in ids(0, 1050):
        stored.add(item_id)

    known = [item_id in stored for item_id in ids(0, 1050)]
    assert known == [False] * 900 + [True] * 150
    # What is added again is young again.
    stored.add(*ids(900, 901))
    for item_id in ids(1050, 1100):
        stored.add(item_id)
    assert ids(900, 901)[0] in stored
    assert ids(901, 902)[0] not in stored


def test_memory_does_not_grow_with_what_is_known() -> None:
    tracemalloc.start()
    try:
        stored = StoredIds(capacity=1000)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3000):
            stored.add(str(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 1024
