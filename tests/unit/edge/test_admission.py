"""The bucket that rations newcomers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.door.admission import TokenBucket, retry_after


class Clock:
    """A time that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def taken(bucket: TokenBucket, attempts: int) -> int:
    return sum(bucket.take() for _ in range(attempts))


def test_a_burst_passes_at_once_and_no_more() -> None:
    bucket = TokenBucket(5, 20, Clock())

    assert taken(bucket, 100) == 20


def test_tokens_come_back_at_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(5, 20, clock)
    taken(bucket, 20)

    clock.now += 2

    assert taken(bucket, 100) == 10


def test_a_long_rest_fills_it_only_to_the_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(5, 20, clock)

    clock.now += 3600

    assert taken(bucket, 100) == 20


def test_asking_in_vain_costs_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(1, 1, clock)
    taken(bucket, 1000)

    clock.now += 1

    assert bucket.take()


@given(
    rate=st.floats(0.01, 10_000),
    burst=st.integers(1, 5_000),
    attempts=st.lists(
        st.tuples(st.floats(0, 100), st.integers(1, 50)), min_size=1, max_size=50
    ),
)
def test_no_stretch_of_time_lets_through_more_than_burst_and_rate(
    rate: float, burst: int, attempts: list[tuple[float, int]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    passed: list[tuple[float, int]] = []
    for pause, count in attempts:
        clock.now += pause
        passed.append((clock.now, taken(bucket, count)))

    for start in range(len(passed)):
        total = 0
        for at, count in passed[start:]:
            total += count
            allowed = burst + (at - passed[start][0]) * rate
            assert total <= allowed * (1 + 1e-9) + 1e-6


@given(
    rate=st.floats(0.01, 10_000),
    burst=st.integers(1, 5_000),
    spent=st.integers(0, 10_000),
)
def test_who_waits_for_a_token_gets_it(rate: float, burst: int, spent: int) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    taken(bucket, spent)

    clock.now += 1 / rate + 0.001

    assert bucket.take()


def test_the_time_to_come_back_is_a_whole_number_and_not_the_same_for_all() -> None:
    times = {int(retry_after()) for _ in range(200)}

    assert times <= set(range(1, 11))
    assert len(times) > 3
