"""When silence means that nobody leads: time is given, and nobody waits."""

from __future__ import annotations

from feedmesh.ingest.beat import (
    BEAT_SECONDS,
    RETURN_SECONDS,
    RETURN_SOON_SECONDS,
    SILENCE_SECONDS,
    Silence,
)


LOOK = 0.02


def first_enough(silence: Silence, looks: list[float]) -> float | None:
    """Return the first of *looks* at which it was enough."""
    return next((now for now in looks if silence.enough(now)), None)


def every(seconds: float, until: float, start: float = 0.0) -> list[float]:
    return [start + n * seconds for n in range(1, round((until - start) / seconds) + 1)]


def test_silence_is_enough_after_its_time_and_not_before() -> None:
    found = first_enough(Silence(0.0), every(LOOK, 1.0))

    assert found is not None
    assert SILENCE_SECONDS <= found <= SILENCE_SECONDS + LOOK


def test_who_was_asleep_does_not_conclude_from_it() -> None:
    silence = Silence(0.0)
    assert first_enough(silence, every(LOOK, 0.2)) is None

    assert not silence.enough(5.0)
    # Awake again, it first has to listen.
    found = first_enough(silence, every(LOOK, 6.0, start=5.0))
    assert found is not None
    assert found >= 5.0 + BEAT_SECONDS


def test_what_is_heard_after_a_sleep_counts() -> None:
    silence = Silence(0.0)
    first_enough(silence, every(LOOK, 0.28))
    silence.enough(5.0)
    silence.heard(5.01)

    assert first_enough(silence, every(LOOK, 5.3, start=5.01)) is None


def test_who_stalls_again_and_again_still_finds_it() -> None:
    """As on a machine with too little to run on; a leader that is there was heard."""
    looks: list[float] = []
    now = 0.0
    while now < 10.0:
        looks += every(LOOK, now + 0.1, start=now)
        now += 0.6
    found = first_enough(Silence(0.0), looks)

    assert found is not None
    assert found < 5.0


def test_after_an_outage_the_leader_has_time_to_return() -> None:
    silence = Silence(0.0)
    for now in every(LOOK, 3.0, start=1.0):
        silence.deaf(now)
    found = first_enough(silence, every(LOOK, 20.0, start=3.0))

    assert found is not None
    assert found >= 3.0 + RETURN_SECONDS


def test_after_an_outage_of_a_moment_it_has_less_time() -> None:
    """All others were away for a moment, too."""
    silence = Silence(0.0)
    silence.deaf(1.0)
    found = first_enough(silence, every(LOOK, 20.0, start=1.0))

    assert found is not None
    assert 1.0 + RETURN_SOON_SECONDS <= found <= 1.0 + RETURN_SOON_SECONDS + 2 * LOOK


def test_what_is_heard_ends_an_outage() -> None:
    silence = Silence(0.0)
    for now in every(LOOK, 3.0, start=1.0):
        silence.deaf(now)
    silence.heard(3.1)

    assert first_enough(silence, every(LOOK, 4.0, start=3.1)) is not None
    silence.deaf(20.0)
    found = first_enough(silence, every(LOOK, 40.0, start=20.0))
    assert found is not None
    assert found <= 20.0 + RETURN_SOON_SECONDS + 2 * LOOK


def test_an_outage_that_one_slept_through_gives_no_more_time() -> None:
    silence = Silence(0.0)
    assert first_enough(silence, every(LOOK, 0.1)) is None
    # Asleep for ten seconds; the connection was lost meanwhile.
    silence.deaf(10.0)

    found = first_enough(silence, every(LOOK, 40.0, start=10.0))
    assert found is not None
    assert 10.0 + RETURN_SOON_SECONDS <= found <= 10.0 + RETURN_SOON_SECONDS + 2 * LOOK


def test_who_has_left_is_not_waited_for() -> None:
    silence = Silence(0.0)
    silence.left()

    assert silence.enough(0.01)
