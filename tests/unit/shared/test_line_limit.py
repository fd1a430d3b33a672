"""At most 60 lines in any minute, and whatever is held back is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedmesh.line_limit import LineLimit


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "e", "f"]),
        st.floats(0, 30, allow_nan=False),
    ),
    max_size=300,
)


@given(STEPS)
def test_no_minute_has_more_lines_than_allowed(steps: list[tuple[str, float]]) -> None:
    limit, now, written, said, held = LineLimit(10, 4), 0.0, [], 0, 0
    for event, pause in steps:
        now += pause / 10
        passed = limit.take(event, now)
        if passed is None:
            held += 1
            continue
        said += sum(passed.values())
        written += [now] * (2 if passed else 1)

    for index, at in enumerate(written):
        assert sum(1 for other in written[index:] if other < at + 60) <= 10
    assert said <= held


def test_one_noisy_event_leaves_room_for_others() -> None:
    limit = LineLimit(60, 20)
    noisy = [limit.take("noise", at / 100) for at in range(1000)]

    assert sum(passed is not None for passed in noisy) == 20
    assert limit.take("what it is about", 10.0) == {"noise": 980}


def test_what_was_held_back_is_said_once() -> None:
    limit = LineLimit(3, 3)
    for _ in range(5):
        limit.take("a", 0.0)

    assert limit.take("a", 61.0) == {"a": 2}
    assert limit.take("a", 61.0) == {}
