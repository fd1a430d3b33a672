"""
Who comes back with a position gets exactly what it missed, or is told that it cannot.

Each row says what happens while a client is away, what the edge must answer then, and
what the client must get. Whatever it is told, from its first connection to its last,
is held against everything that was ever published; see `resume_oracle`.
"""

from __future__ import annotations

import asyncio
import copy
from binascii import crc_hqx
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
import pytest_asyncio
from resume_world import HISTORY, REPLAY, Came, Follower, World, run_world, value_of

from edge.positions import PricePosition, parse_price_position
from feedmesh.streams import NEWS


pytestmark = pytest.mark.asyncio(loop_scope="module")

Values = list[str] | list[int]
NEVER = "NEWS.000000000000.5"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with run_world(tmp_path_factory.mktemp("world")) as world:
        yield world


class Row(NamedTuple):
    """
    One case.

    Attributes:
        happens: Lets it happen; returns what the client was given at last, and what
            it must have been given if all was recovered.
        reason: Why not all can be recovered; None if it must be.
    """

    happens: Callable[[World], Awaitable[tuple[Came, Values | None]]]
    reason: str | None = None


def token(text: str) -> str:
    """Return *text* as a token with the right check."""
    return f"{text}.{crc_hqx(text.encode(), 0):04x}"


# -- news ------------------------------------------------------------------------------


async def nothing_was_ever_stored(world: World) -> tuple[Came, Values]:
    await world.recreate()
    client = Follower(channel="news")
    async with client.on(world.one) as visit:
        await visit.take("snapshot_end")
    return await world.back(client), []


async def some_were_missed(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3)
    return await world.back(client), due


async def none_was_missed(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    return await world.back(client), []


async def none_was_missed_and_none_is_in_memory(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    await world.js.purge_stream(NEWS)
    async with world.fresh() as edge:
        return await world.back(client, edge), []


async def as_many_were_missed_as_allowed(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(REPLAY)
    async with world.fresh() as edge:
        return await world.back(client, edge), due


async def one_more_was_missed_than_allowed(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.news(REPLAY + 1)
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def purged_up_to_what_came_later(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.news(5)
    await world.js.purge_stream(NEWS, seq=(await world.state()).last - 1)
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def purged_but_in_memory(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(5)
    due += await world.seen()
    await world.js.purge_stream(NEWS)
    return await world.back(client), due


async def too_old_for_the_stream(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.news(2)
    newest = (await world.state()).last
    await world.keep_only(past=newest, max_age=0.5, duplicate_window=0.5)
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def too_many_for_the_stream(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.news(5)
    missed = (await world.state()).last - 4
    await world.keep_only(past=missed, max_msgs=3)
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def some_were_deleted(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.news(5)
    await world.js.delete_msg(NEWS, (await world.state()).last - 2)
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def deleted_before_the_position(world: World) -> tuple[Came, Values]:
    await world.news(5)
    await world.js.delete_msg(NEWS, (await world.state()).last - 2)
    client = await world.follower(channel="news")
    due = await world.news(2)
    async with world.fresh() as edge:
        return await world.back(client, edge), due


async def the_stream_was_made_anew(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    await world.recreate()
    return await world.back(client), None


async def anew_and_longer_than_before(world: World) -> tuple[Came, None]:
    await world.recreate()
    client = await world.follower(channel="news")
    await world.recreate()
    await world.news(50)
    return await world.back(client, world.two), None


async def it_is_not_yet_stored(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    state = await world.state()
    client.position = token(f"NEWS.{world.mark}.{state.last + 100}")
    return await world.back(client), None


async def the_position_is_empty(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    client.position = ""
    return await world.back(client), None


async def there_are_no_positions(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    client.position = []
    return await world.back(client), None


async def the_position_is_damaged(world: World) -> tuple[Came, None]:
    """Whichever letter it is."""
    client = await world.follower(channel="news")
    good = client.position
    for at, letter in enumerate(good):
        client.position = good[:at] + chr(ord(letter) ^ 1) + good[at + 1 :]
        came = await world.back(client)
        assert came.reason == "bad_position", client.position
    client.position = good[:-1]
    return await world.back(client), None


async def the_position_is_forged(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    client.position = token(NEVER)
    return await world.back(client), None


async def the_position_is_one_of_prices(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    client.position = token("test.1.1")
    return await world.back(client), None


async def to_another_edge(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3)
    return await world.back(client, world.two), due


async def to_a_new_edge(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3)
    async with world.fresh() as edge:
        return await world.back(client, edge), due


async def nats_was_killed(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3)
    await world.restart_nats()
    return await world.back(client), due


async def twice_at_the_same_time(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3) + await world.seen()
    twin = copy.deepcopy(client)
    came, other = await asyncio.gather(
        world.back(client, hear=False), world.back(twin, world.two, hear=False)
    )
    assert other.values == came.values
    assert other.recovered
    return came, due


async def twice_on_one_connection(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = await world.news(3) + await world.seen()
    since = client.position
    async with client.on(world.one) as visit:
        first = Came(client, await visit.take("snapshot_end"))
        client.ask_again(since)
        again = {"channel": "news", "since": since}
        await visit.send(op="resume", subscriptions=[again])
        second = Came(client, await visit.take("snapshot_end"))
        await visit.until((await world.news())[0])
    assert first.values == due
    return second, due


async def with_a_narrower_filter(world: World) -> tuple[Came, Values]:
    client = await world.follower(channel="news")
    due = []
    for _ in range(3):
        await world.news(news_type="article")
        due += await world.news(news_type="disclosure")
    client.wanted["types"] = ["disclosure"]
    return await world.back(client), due


async def with_a_wider_filter(world: World) -> tuple[Came, Values]:
    """What the old filter left out before the position is not missed."""
    client = await world.follower(channel="news", types=["disclosure"])
    due = []
    for _ in range(3):
        due += await world.news(news_type="article")
        due += await world.news(news_type="disclosure")
    del client.wanted["types"]
    async with world.fresh() as edge:
        return await world.back(client, edge), due


async def while_2000_a_second_are_stored(world: World) -> tuple[Came, None]:
    client = await world.follower(channel="news")
    async with world.busy_edges() as (one, two):
        async with world.busy():
            for edge in (one, two):
                came = await world.back(client, edge)
                assert came.recovered, came.reason
                await asyncio.sleep(0.1)
        return await world.back(client, two), None


NEWS_ROWS = {
    "empty stream": Row(nothing_was_ever_stored),
    "from a position": Row(some_were_missed),
    "same position": Row(none_was_missed),
    "same position, purged": Row(none_was_missed_and_none_is_in_memory),
    "limit reached": Row(as_many_were_missed_as_allowed),
    "limit passed": Row(one_more_was_missed_than_allowed, "too_far_behind"),
    "already gone": Row(purged_up_to_what_came_later, "expired"),
    "already gone, in memory": Row(purged_but_in_memory),
    "expired by age": Row(too_old_for_the_stream, "expired"),
    "expired by number": Row(too_many_for_the_stream, "expired"),
    "deleted in between": Row(some_were_deleted, "removed"),
    "deleted before": Row(deleted_before_the_position),
    "stream recreated": Row(the_stream_was_made_anew, "stream_recreated"),
    "stream recreated, longer": Row(anew_and_longer_than_before, "stream_recreated"),
    "not yet existing": Row(it_is_not_yet_stored, "unknown_position"),
    "empty position": Row(the_position_is_empty, "bad_position"),
    "no position": Row(there_are_no_positions, "bad_position"),
    "damaged position": Row(the_position_is_damaged, "bad_position"),
    "forged position": Row(the_position_is_forged, "stream_recreated"),
    "position of prices": Row(the_position_is_one_of_prices, "bad_position"),
    "on another edge": Row(to_another_edge),
    "on a new edge": Row(to_a_new_edge),
    "after NATS was killed": Row(nats_was_killed),
    "twice at once": Row(twice_at_the_same_time),
    "twice in a row": Row(twice_on_one_connection),
    "narrower filter": Row(with_a_narrower_filter),
    "wider filter": Row(with_a_wider_filter),
    "during 2,000/s": Row(while_2000_a_second_are_stored),
}


# -- prices ----------------------------------------------------------------------------


def every(*symbols: str) -> dict[str, object]:
    return {"channel": "prices", "symbols": list(symbols), "mode": "every"}


def latest(*symbols: str) -> dict[str, object]:
    return {"channel": "prices", "symbols": list(symbols)}


def moved(client: Follower, epochs: int = 0, numbers: int = 0) -> None:
    """Have *client* come with another position than it was given."""
    at = parse_price_position(client.position[0])
    other = PricePosition(at.source, at.epoch + epochs, at.seq + numbers)
    client.position = [other.token()]


async def updates_were_missed(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL", "MSFT"))
    due = await world.prices("AAPL", "MSFT", "AAPL", "AAPL")
    await world.prices("TSLA")
    return await world.back(client), due


async def no_update_was_missed(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL", "MSFT"))
    await world.prices("TSLA")
    return await world.back(client), []


async def as_many_updates_as_the_tape_has(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    due = await world.prices(*["AAPL"] * HISTORY)
    return await world.back(client), due


async def more_updates_than_the_tape_has(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    await world.prices(*["AAPL"] * HISTORY, "TSLA")
    return await world.back(client), None


async def only_the_newest_is_wanted(world: World) -> tuple[Came, Values]:
    client = await world.follower(**latest("AAPL", "MSFT"))
    await world.prices(*["AAPL"] * HISTORY * 2)
    due = await world.prices("MSFT", "AAPL")
    return await world.back(client), due


async def updates_from_the_future(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    moved(client, numbers=1000)
    return await world.back(client), None


async def the_newest_from_the_future(world: World) -> tuple[Came, None]:
    client = await world.follower(**latest("AAPL"))
    moved(client, numbers=1000)
    return await world.back(client), None


async def from_a_writer_to_come(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    moved(client, epochs=1)
    return await world.back(client), None


async def from_the_writer_before(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    world.take_over()
    await world.settled()
    return await world.back(client), None


async def the_newest_from_the_writer_before(world: World) -> tuple[Came, Values]:
    client = await world.follower(**latest("AAPL"))
    world.take_over()
    await world.settled()
    due = await world.prices("AAPL")
    return await world.back(client), due


async def updates_on_another_edge(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    due = await world.prices("AAPL", "AAPL")
    return await world.back(client, world.two), due


async def no_update_on_a_new_edge(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    async with world.fresh() as edge:
        return await world.back(client, edge), []


async def updates_on_a_new_edge(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    await world.prices("AAPL")
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def the_newest_on_a_new_edge(world: World) -> tuple[Came, Values]:
    client = await world.follower(**latest("AAPL"))
    await world.prices("AAPL")
    due = await world.prices("AAPL")
    async with world.fresh() as edge:
        return await world.back(client, edge), due


async def all_prices_are_gone(world: World) -> tuple[Came, None]:
    """The stream is in memory; a new edge knows nothing of these symbols."""
    client = await world.follower(**latest("AAPL"))
    await world.prices("AAPL")
    await world.restart_nats()
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def all_updates_are_gone(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    await world.prices("AAPL")
    await world.restart_nats()
    async with world.fresh() as edge:
        return await world.back(client, edge), None


async def the_edges_outlived_nats(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    due = await world.prices("AAPL", "AAPL")
    await world.restart_nats()
    return await world.back(client), due


async def of_symbols_that_have_no_price(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    client.wanted["symbols"] = ["NONE"]
    return await world.back(client, hear=False), []


async def with_more_symbols(world: World) -> tuple[Came, Values]:
    client = await world.follower(**every("AAPL"))
    due = await world.prices("AAPL", "MSFT")
    client.wanted["symbols"] = ["AAPL", "MSFT"]
    return await world.back(client), due


async def with_positions_of_another_feed(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    client.position = [token("other.1.5")]
    return await world.back(client), None


async def with_no_positions(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    client.position = []
    return await world.back(client), None


async def with_a_position_of_news(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    client.position = [token(NEVER)]
    return await world.back(client), None


async def with_a_damaged_position(world: World) -> tuple[Came, None]:
    client = await world.follower(**every("AAPL"))
    client.position = [client.position[0].replace("test", "tesu")]
    return await world.back(client), None


async def cut_in_the_middle_of_a_snapshot(world: World) -> tuple[Came, None]:
    """Wherever it is cut: what did not come before comes later."""
    await world.settled()
    symbols = [f"CUT{n}" for n in range(12)]
    await world.prices(*symbols, *symbols[::3], *symbols[::-2])
    for count in range(1, len(symbols)):
        client = Follower(**every(*symbols))
        async with client.on(world.one) as visit:
            for _ in range(count + 1):
                await visit.next()
        await world.prices(symbols[count])
        came = await world.back(client)
        assert came.recovered, came.reason
        assert world.truth.untrue(client.told) == []
    return came, None


async def while_2000_prices_a_second_come(world: World) -> tuple[Came, None]:
    symbols = ["AAPL", "MSFT", "BTCUSD"]
    async with world.busy_edges() as (one, two):
        client = Follower(**every(*symbols))
        async with client.on(one) as visit:
            await visit.take("snapshot_end")
        async with world.busy(*symbols, "TSLA"):
            for edge in (one, two, one):
                came = await world.back(client, edge)
                assert came.recovered, came.reason
                await asyncio.sleep(0.1)
        return await world.back(client, two), None


PRICE_ROWS = {
    "older": Row(updates_were_missed),
    "same": Row(no_update_was_missed),
    "all of the tape": Row(as_many_updates_as_the_tape_has),
    "older than the tape": Row(more_updates_than_the_tape_has, "too_far_behind"),
    "latest": Row(only_the_newest_is_wanted),
    "future": Row(updates_from_the_future, "edge_is_behind"),
    "latest, future": Row(the_newest_from_the_future, "edge_is_behind"),
    "next writer": Row(from_a_writer_to_come, "edge_is_behind"),
    "writer before": Row(from_the_writer_before, "too_far_behind"),
    "latest, writer before": Row(the_newest_from_the_writer_before),
    "on another edge": Row(updates_on_another_edge),
    "same, on a new edge": Row(no_update_on_a_new_edge),
    "older, on a new edge": Row(updates_on_a_new_edge, "too_far_behind"),
    "latest, on a new edge": Row(the_newest_on_a_new_edge),
    "latest, stream lost": Row(all_prices_are_gone, "edge_is_behind"),
    "stream lost": Row(all_updates_are_gone, "edge_is_behind"),
    "after NATS was killed": Row(the_edges_outlived_nats),
    "symbols without a price": Row(of_symbols_that_have_no_price),
    "more symbols": Row(with_more_symbols),
    "other feed": Row(with_positions_of_another_feed, "no_position"),
    "no positions": Row(with_no_positions, "no_position"),
    "position of news": Row(with_a_position_of_news, "bad_position"),
    "damaged": Row(with_a_damaged_position, "bad_position"),
    "cut snapshot": Row(cut_in_the_middle_of_a_snapshot),
    "during 2,000/s": Row(while_2000_prices_a_second_come),
}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{kind}: {name}")
        for kind, rows in (("news", NEWS_ROWS), ("prices", PRICE_ROWS))
        for name, row in rows.items()
    ],
)
async def test_resume(world: World, row: Row) -> None:
    came, due = await row.happens(world)

    assert (came.recovered, came.reason) == (row.reason is None, row.reason)
    if due is not None:
        assert came.values == due
    assert world.truth.untrue(came.follower.told) == []


# -- the control -----------------------------------------------------------------------


async def test_the_judge_finds_what_is_withheld_doubled_or_untrue(world: World) -> None:
    """The control: it is not for want of looking that nothing is untrue."""
    for wanted, publish in (
        ({"channel": "news"}, world.news),
        (every("AAPL"), lambda count: world.prices(*["AAPL"] * count)),
    ):
        client = await world.follower(**wanted)
        await publish(4)
        came = await world.back(client)
        told = client.told
        assert came.recovered
        assert world.truth.untrue(told) == []
        missed = next(i for i, m in enumerate(told) if value_of(m) == came.values[2])

        withheld = told[:missed] + told[missed + 1 :]
        doubled = [*told[:missed], told[missed], *told[missed:]]
        assert world.truth.untrue(withheld)
        assert world.truth.untrue(doubled)

    lied_to = await world.follower(channel="news")
    await world.recreate()
    await world.news(2)
    assert (await world.back(lied_to)).reason == "stream_recreated"
    assert world.truth.untrue(lied_to.told) == []
    for message in lied_to.told:
        if message["type"] == "ack" and "recovered" in message:
            message["recovered"] = True
    assert world.truth.untrue(lied_to.told)
