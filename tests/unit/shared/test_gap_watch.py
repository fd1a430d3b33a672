"""When gaps begin and end; time is given."""

from __future__ import annotations

import pytest

from feedmesh.clock import from_iso
from feedmesh.gaps import FeedGap
from feedmesh.ingest.gap_watch import GapWatch
from feedmesh.status import LinkState, LinkStatus


SECOND = 1_000_000_000
T0 = 1_780_000_000 * SECOND
LINK = "news"


def link(
    state: LinkState,
    *,
    since: int = 0,
    last: int | None = None,
    reason: str | None = None,
) -> LinkStatus:
    """Return a link; *since* and *last* in seconds after T0."""
    return LinkStatus(
        state=state,
        since_ns=T0 + since * SECOND,
        last_frame_ns=None if last is None else T0 + last * SECOND,
        reconnects=0,
        reason=reason,
        desired=1,
        confirmed=1,
    )


def live(since: int, last: int | None) -> LinkStatus:
    """Return one that brings what is wanted, if it has brought anything since."""
    found = link(LinkState.LIVE, since=since, last=last)
    flows = last is not None and last >= since
    return found._replace(flows_ns=found.last_frame_ns if flows else None)


def after(seconds: float) -> int:
    return T0 + int(seconds * SECOND)


def span(gap: FeedGap) -> tuple[float, float | None]:
    """Return when the gap begins and ends, in seconds after T0."""

    def seconds(text: str) -> float:
        return (from_iso(text) - T0) / SECOND

    return seconds(gap.since), None if gap.until is None else seconds(gap.until)


@pytest.fixture
def watch() -> GapWatch:
    watch = GapWatch("ls")
    assert watch.look(LINK, live(0, 1), after(1)) == []
    return watch


def test_a_gap_is_open_while_it_lasts_and_then_ends(watch: GapWatch) -> None:
    down = link(LinkState.DOWN, since=11, last=10, reason="dropped")
    (opened,) = watch.look(LINK, down, after(11))
    again = watch.look(LINK, down, after(12))
    connecting = watch.look(LINK, live(20, 10), after(20))
    (ended,) = watch.look(LINK, live(20, 21), after(21))

    assert span(opened) == (9.0, None)
    assert opened.reason == "dropped"
    assert again == connecting == []
    assert span(ended) == (9.0, 21.0)
    assert ended.id == opened.id
    assert watch.look(LINK, live(20, 22), after(22)) == []


def test_a_link_that_was_never_live_lacks_nothing() -> None:
    watch = GapWatch("ls")

    assert watch.look(LINK, link(LinkState.CONNECTING), after(1)) == []
    assert watch.look(LINK, link(LinkState.DOWN, reason="x"), after(2)) == []
    assert watch.complete(after(3)) == {}


def test_a_gap_ends_when_nothing_is_wanted_any_more(watch: GapWatch) -> None:
    watch.look(LINK, link(LinkState.DOWN, last=10, reason="dropped"), after(11))
    (ended,) = watch.look(LINK, link(LinkState.IDLE), after(15))

    assert span(ended) == (9.0, 15.0)
    assert watch.complete(after(20)) == {}


def test_a_second_loss_is_a_second_gap(watch: GapWatch) -> None:
    down = link(LinkState.DOWN, last=10, reason="dropped")
    (first,) = watch.look(LINK, down, after(11))
    watch.look(LINK, live(12, 13), after(13))
    (second,) = watch.look(LINK, link(LinkState.DOWN, last=14), after(15))

    assert second.id != first.id
    assert span(second) == (13.0, None)


def test_an_heir_goes_on_from_where_the_last_leader_was_complete() -> None:
    watch = GapWatch("ls")
    (opened,) = watch.begin({LINK: after(5)}, "takeover")
    (ended,) = watch.look(LINK, live(6, 7), after(7))

    assert (opened.reason, span(opened)) == ("takeover", (5.0, None))
    assert (ended.id, span(ended)) == (opened.id, (5.0, 7.0))


def test_an_heir_ends_the_gap_that_the_last_leader_began(watch: GapWatch) -> None:
    (opened,) = watch.look(LINK, link(LinkState.DOWN, last=10, reason="x"), after(11))
    heir = GapWatch("ls")
    new = heir.begin(watch.complete(after(12)), "takeover", [opened])
    (ended,) = heir.look(LINK, live(30, 31), after(31))

    assert new == []
    assert (ended.id, ended.reason, span(ended)) == (opened.id, "x", (9.0, 31.0))


def test_a_gap_that_began_before_the_open_one_is_told_as_well() -> None:
    heir = GapWatch("ls")
    later = FeedGap(
        id="later",
        feed="ls",
        link=LINK,
        since="2026-06-01T00:00:00Z",
        until=None,
        reason="x",
    )
    before = from_iso(later.since) - SECOND
    (new,) = heir.begin({LINK: before}, "takeover", [later])
    ended = heir.look(LINK, live(30, 31), after(31))

    assert new.reason == "takeover"
    assert {gap.id for gap in ended} == {"later", new.id}


def test_open_gaps_of_links_that_are_no_more_are_ended() -> None:
    watch = GapWatch("fmp")
    watch.begin({"stocks": after(1), "stream": after(1)}, "restart")
    (ended,) = watch.only(["stream"], after(5))

    assert (ended.link, span(ended)) == ("stocks", (1.0, 5.0))
    assert set(watch.complete(after(6))) == {"stream"}


def test_what_finds_no_room_is_a_gap(watch: GapWatch) -> None:
    (opened,) = watch.overflowed(LINK, after(10), "spool_full")
    again = watch.overflowed(LINK, after(11), "spool_full")
    complete = watch.complete(after(12))
    (ended,) = watch.has_room(LINK, after(20))

    assert again == []
    assert span(opened) == (9.0, None)
    assert complete == {LINK: after(9)}
    assert (ended.id, span(ended)) == (opened.id, (9.0, 20.0))
    assert watch.has_room(LINK, after(21)) == []
    assert watch.complete(after(22)) == {LINK: after(21)}


def test_no_gap_ends_before_it_begins(watch: GapWatch) -> None:
    """Clocks may go back."""
    watch.look(LINK, link(LinkState.DOWN, last=10, reason="dropped"), after(11))
    (ended,) = watch.look(LINK, live(2, 3), after(3))

    assert span(ended) == (9.0, 9.0)


def test_a_gap_ends_with_the_first_that_was_heard_not_when_it_was_looked_at() -> None:
    watch = GapWatch("feed")
    watch.begin({LINK: after(0)}, "handover")
    status = live(2, 5)._replace(flows_ns=after(3))

    (gap,) = watch.look(LINK, status, after(6))

    assert span(gap) == (0, 3)
