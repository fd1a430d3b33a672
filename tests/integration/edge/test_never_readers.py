"""Clients that never read do not harm those that do; see `soak.never_readers`."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from edge_harness import Writer, run_edge
from nats_process import NatsProcess
from soak.never_readers import never_readers

from feedmesh.bus import Bus


async def test_a_hundred_that_never_read_do_not_slow_down_the_rest(
    nats_server: NatsProcess, bus: Bus, writer: Writer
) -> None:
    """
    Only gross harm fails here, where others use the machine, too; or any loss.

    One round without it is enough. The exact ratio is what the soak measures.
    """
    rounds = []
    async with (
        run_edge(nats_server, EDGE_STUCK="1h") as edge,
        aclosing(
            never_readers(edge, writer, readers=900, silent=100, rounds=4, seconds=1.5)
        ) as measured,
    ):
        async for each in measured:
            rounds.append(each)
            if each.p99_with < max(2 * each.p99_without, 20):
                return
    pytest.fail(f"harmed in every round: {rounds}")
