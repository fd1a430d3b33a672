"""A heartbeat claims no position before all up to it has been written; no I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.edge.edge_without_bus import Edge

from edge.positions import parse_price_position


PRICE_AND_END = ["price_update", "snapshot_end"]


@pytest.fixture
async def edge() -> Edge:
    edge = Edge()
    wanted = {"channel": "prices", "symbols": ["A"], "mode": "every"}
    edge.client.received(json.dumps({"op": "subscribe", **wanted}))
    told = await edge.told(4)
    assert [message["type"] for message in told][-2:] == PRICE_AND_END
    return edge


def claimed(heartbeat: dict[str, Any]) -> int:
    """Return up to which number the client is told to have everything."""
    assert heartbeat["type"] == "heartbeat"
    return parse_price_position(heartbeat["positions"]["prices"][0]).seq


async def test_what_waits_in_a_lane_goes_before_the_heartbeat_that_claims_it(
    edge: Edge,
) -> None:
    edge.update(2)
    edge.update(3)
    edge.client.heartbeat()
    edge.update(4)

    *before, heartbeat, after = await edge.told(4)
    assert [update["n"] for update in before] == [2, 3]
    assert claimed(heartbeat) == 3
    assert after["n"] == 4


async def test_it_comes_on_time_behind_what_is_being_written(edge: Edge) -> None:
    """However busy the edge is: who takes the latest has no other position."""
    edge.ask("ping")
    edge.client.heartbeat()

    assert [message["type"] for message in await edge.told(2)] == ["pong", "heartbeat"]


async def test_one_who_takes_no_bytes_is_told_of_no_position(edge: Edge) -> None:
    edge.socket.blocked = True
    edge.client.blocked()
    edge.update(2)
    edge.client.heartbeat()
    edge.socket.blocked = False
    edge.client.resumed()

    # What it missed comes first; the heartbeat while it was blocked was left out.
    assert [message["n"] for message in await edge.told(1)] == [2]
    edge.client.heartbeat()
    assert claimed((await edge.told(1))[0]) == 2
