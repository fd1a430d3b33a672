"""What a client of protocol v3 is told, and that it is true; no I/O."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.edge.edge_without_bus import Edge
from unit.edge.news_history import InventedStream

from edge.positions import NewsPosition, PricePosition, parse_news_position
from edge.stream.subscriptions import Subscriptions


Json = dict[str, Any]

FIRST = NewsPosition(InventedStream().mark, 1).token()


@pytest.fixture
async def edge() -> Edge:
    edge = Edge()
    await edge.told_until("hello")
    return edge


@pytest.fixture
async def behind(edge: Edge) -> Edge:
    """An edge that has forgotten what came after the first item."""
    await edge.items(*map(str, range(4100)))
    return edge


def since(number: int) -> list[str]:
    return [PricePosition("test", 1, number).token()]


def kinds(messages: list[Json]) -> list[str]:
    return [message["type"] for message in messages]


@pytest.mark.parametrize("snapshot", [None, True, False])
async def test_the_newest_values_follow_a_recovery_whatever_is_said_of_snapshots(
    edge: Edge, snapshot: bool | None
) -> None:
    edge.update(2)
    wanted: Json = {"channel": "prices", "symbols": ["A"], "since": since(1)}
    edge.ask("resume", subscriptions=[{**wanted, "snapshot": snapshot}])
    ack, newest, end = await edge.told_until("snapshot_end")

    assert ack["recovered"] is True
    assert newest["n"] == 2
    assert end["positions"]["prices"] == since(2)


async def test_no_snapshot_means_none_where_nothing_is_recovered(edge: Edge) -> None:
    wanted: Json = {"channel": "prices", "symbols": ["A"], "snapshot": False}
    edge.ask("subscribe", **wanted)
    edge.ask("subscribe", **wanted, since="x")
    told = await edge.told(4)

    assert kinds(told) == ["ack", "snapshot_end"] * 2
    assert told[2]["recovered"] is False


async def test_positions_of_prices_wait_for_all_prices_of_a_request(edge: Edge) -> None:
    """They are of a feed: the first end must not claim what the second brings."""
    stream = asyncio.Event()

    async def wait_for_the_stream() -> None:
        await stream.wait()

    for number in range(2, 5):
        edge.update(number, "B")
    # So that the news in the middle have to wait.
    for _ in range(100):
        edge.parts.chores.start(wait_for_the_stream)
    every = {"channel": "prices", "symbols": ["B"], "mode": "every", "since": since(1)}
    news = {"channel": "news", "since": NewsPosition("none", 1).token()}
    edge.ask(
        "resume",
        subscriptions=[{"channel": "prices", "symbols": ["A"]}, news, every],
    )
    first = await edge.told_until("snapshot_end")
    edge.client.heartbeat()
    (heartbeat,) = await edge.told_until("heartbeat")
    stream.set()
    await edge.told_until("snapshot_end")
    *missed, last = (await edge.told_until("snapshot_end"))[1:]

    assert first[-1]["positions"] == {}
    assert heartbeat["positions"] == {}
    assert [update["n"] for update in missed] == [2, 3, 4]
    assert last["positions"]["prices"] == since(4)
    edge.client.heartbeat()
    assert (await edge.told(1))[0]["positions"]["prices"] == since(4)


async def test_a_replay_that_another_one_replaces_ends_as_well(behind: Edge) -> None:
    """Who waits for the end of the first would wait for ever."""
    for number in (1, 2):
        behind.ask("subscribe", id=number, channel="news", since=FIRST)
    ends = [(await behind.told_until("snapshot_end"))[-1] for _ in "12"]

    assert [end["id"] for end in ends] == [1, 2]
    assert ends[-1]["positions"]["news"] == behind.news.position.token()


async def test_a_snapshot_in_a_replay_claims_nothing_that_is_due(behind: Edge) -> None:
    """Cut anywhere, the last position that it was told must not pass an older item."""
    behind.ask("resume", subscriptions=[{"channel": "news", "since": FIRST}])
    behind.ask("subscribe", channel="news", snapshot=True)
    due = 1
    while due < behind.news.position.sequence:
        for message in await behind.told(1):
            if message["type"] == "news":
                number = parse_news_position(message["position"]).sequence
                assert number <= due + 1
                due = max(due, number)


async def test_only_prices_end_by_symbol(edge: Edge) -> None:
    """Else who ends the news of one stock would end all, and not be told."""
    edge.ask("subscribe", channel="news")
    edge.ask("unsubscribe", id=1, channel="news", symbols=["005930"])
    error = (await edge.told_until("error"))[-1]
    edge.ask("list")
    (listed,) = await edge.told(1)

    assert (error["id"], error["code"]) == (1, "bad_request")
    assert listed["subscriptions"] == [{"channel": "news"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"symbols": ["A"]},
        {"types": ["x"]},
        {"since": "x"},
        {"max_rate_hz": 1},
        {"mode": "every"},
    ],
    ids=str,
)
async def test_a_part_of_the_status_is_refused(edge: Edge, fields: Json) -> None:
    edge.ask("subscribe", channel="status", **fields)

    assert (await edge.told(1))[0]["code"] == "bad_request"


async def test_a_fault_of_ours_costs_neither_the_connection_nor_the_next_request(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a fault")

    with monkeypatch.context() as broken:
        broken.setattr(Subscriptions, "listed", fail)
        for number in range(30):
            edge.ask("list", id=number)
    edge.ask("list", id="last")
    *errors, listed = await edge.told_until("list")

    assert {error["code"] for error in errors} == {"internal_error"}
    assert [error["id"] for error in errors] == list(range(30))
    assert all(e["temporary"] and e["retry_after_ms"] > 0 for e in errors)
    assert listed["id"] == "last"
    assert edge.socket.closed is None


async def test_a_fault_of_ours_in_a_recovery_does_not_hold_up_what_comes_after(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Subscriptions, "recovery", fail)
    edge.ask("resume", id=1, subscriptions=[{"channel": "news", "since": FIRST}])
    edge.ask("list", id=2)
    error, listed = await edge.told_until("list")

    assert (error["code"], error["id"]) == ("internal_error", 1)
    assert listed["id"] == 2
