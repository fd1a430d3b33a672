"""Demand, subscriptions and pauses: pure state, time as an argument."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from feedmesh.backoff import ConnectLimiter, backoff
from feedmesh.demand import DemandBook
from feedmesh.ingest.subscriptions import Request, SubscriptionBook


def test_demand_is_the_union_of_all_who_want() -> None:
    book = DemandBook(grace_seconds=10)
    book.announce("a", ["AAPL", "MSFT"], now=0)
    book.announce("b", ["AAPL", "NVDA"], now=0)

    assert book.wanted(0) == {"AAPL", "MSFT", "NVDA"}


def test_a_symbol_is_kept_for_the_grace_and_then_dropped() -> None:
    book = DemandBook(grace_seconds=10)
    book.announce("a", ["AAPL"], now=0)
    book.wanted(0)
    book.announce("a", [], now=1)

    assert book.wanted(9) == {"AAPL"}
    assert book.wanted(11) == frozenset()


def test_who_falls_silent_is_forgotten() -> None:
    book = DemandBook(grace_seconds=10)
    book.announce("a", ["AAPL"], now=0)

    assert book.wanted(12) == {"AAPL"}
    assert book.wanted(23) == frozenset()


def test_nobody_falls_silent_who_cannot_be_heard() -> None:
    book = DemandBook(grace_seconds=10)
    book.announce("a", ["AAPL"], now=0)
    book.hold(30)

    assert book.wanted(30) == {"AAPL"}
    assert book.wanted(53) == frozenset()


def test_a_symbol_that_comes_back_is_never_dropped() -> None:
    book = DemandBook(grace_seconds=10)
    book.announce("a", ["AAPL"], now=0)
    book.wanted(0)
    book.announce("a", [], now=1)
    book.announce("b", ["AAPL"], now=9)

    assert book.wanted(18) == {"AAPL"}


def test_what_is_desired_is_asked_for_and_confirmed() -> None:
    book = SubscriptionBook(batch=2)
    book.want({"c", "a", "b"})

    assert book.due(0) == [
        Request("subscribe", ("a", "b")),
        Request("subscribe", ("c",)),
    ]
    assert book.due(1) == []
    book.acknowledged("subscribe")
    assert book.confirmed == {"a", "b"}


def test_an_answer_that_never_comes_is_asked_for_again() -> None:
    book = SubscriptionBook(ack_seconds=10)
    book.want({"a"})
    book.due(0)

    assert book.due(9) == []
    assert book.due(10) == [Request("subscribe", ("a",))]
    assert book.unanswered == 1


def test_a_lost_connection_confirms_nothing() -> None:
    book = SubscriptionBook()
    book.want({"a"})
    book.due(0)
    book.acknowledged("subscribe")
    book.connection_lost()

    assert book.due(1) == [Request("subscribe", ("a",))]


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    book = SubscriptionBook()

    assert book.acknowledged("subscribe") is None
    assert book.refused("unsubscribe") is None


@given(
    st.lists(
        st.one_of(
            st.sets(st.sampled_from("abcdef")),
            st.sampled_from(["ack", "nack", "unack", "lost", "wait"]),
        ),
        max_size=40,
    )
)
def test_desired_and_confirmed_always_meet_in_the_end(steps: list[object]) -> None:
    """Whatever happened before, an upstream that answers brings both together."""
    book = SubscriptionBook(batch=2, refused_seconds=15)
    now = 0.0
    for step in steps:
        now += 1
        book.due(now)
        if isinstance(step, set):
            book.want(step)
        elif step == "ack":
            book.acknowledged("subscribe")
        elif step == "nack":
            book.refused("subscribe")
        elif step == "unack":
            book.acknowledged("unsubscribe")
        elif step == "lost":
            book.connection_lost()
        else:
            now += 20

    for _ in range(4):
        now += 20
        for request in book.due(now):
            book.acknowledged(request.verb)

    assert book.confirmed == book.desired
    assert book.due(now + 100) == []


def test_pauses_grow_to_the_ceiling_and_are_jittered() -> None:
    series = [list(islice(backoff(1.0, 8.0), 50)) for _ in range(20)]

    assert all(0 <= pause <= 8 for pauses in series for pause in pauses)
    assert all(pauses[0] <= 1 for pauses in series)
    assert max(max(pauses) for pauses in series) > 4
    assert len({round(pauses[-1], 6) for pauses in series}) > 10


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_never_more_connects_in_a_minute_than_allowed(pauses: list[float]) -> None:
    limiter = ConnectLimiter(limit=10, window=60)
    now, connects = 0.0, []
    for pause in pauses:
        now += pause
        now += limiter.wait(now)
        limiter.connected(now)
        connects.append(now)

    assert all(
        sum(start <= at < start + 60 - 1e-6 for at in connects) <= 10
        for start in connects
    )


def test_the_first_key_is_asked_for_before_all_others() -> None:
    book = SubscriptionBook(batch=1, first="NWS:1")
    book.want({"K3_:1", "NWS:1", "S3_:1"})

    asked = [request.keys[0] for request in book.due(0)]

    assert asked == ["NWS:1", "K3_:1", "S3_:1"]


def test_an_answer_is_of_what_it_names() -> None:
    book = SubscriptionBook(batch=1, first="NWS:1")
    book.want({"NWS:1", "S3_:1", "S3_:2"})
    book.due(0)
    # The answer to the first was lost.
    book.acknowledged("subscribe", "S3_:")
    book.refused("subscribe", "S3_:")

    assert book.confirmed == {"S3_:1"}
    assert book.acknowledged("subscribe", "K3_:") is None
    assert book.acknowledged("subscribe") == Request("subscribe", ("NWS:1",))


def test_what_is_wanted_flows_once_all_is_answered_or_data_comes() -> None:
    book = SubscriptionBook(batch=1)
    book.want({"a", "b"})
    book.due(0)
    assert book.flows(data=True)
    book.acknowledged("subscribe")
    assert not book.flows(data=False)
    book.refused("subscribe")
    assert book.flows(data=False)


def test_without_the_first_key_nothing_flows_that_matters() -> None:
    book = SubscriptionBook(batch=1, first="NWS:1")
    book.want({"NWS:1", "S3_:1"})
    book.due(0)
    book.acknowledged("subscribe", "S3_:")
    assert not book.flows(data=False)
    # As news would, from an upstream that never answers.
    assert book.flows(data=True)
    book.refused("subscribe", "NWS:")
    assert not book.flows(data=True)
    book.due(300)
    book.acknowledged("subscribe", "NWS:")
    assert book.flows(data=False)
