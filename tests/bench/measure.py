"""What is measured of one server: its maximum, given loads, latency alone, memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from bench.mesh import Mesh
from bench.rig import memory_bytes
from bench.search import RateSearch
from bench.servers import Contender
from bench.session import Crowd, Session, Step, open_session


__all__ = [
    "Maximum",
    "idle_latency",
    "measure_loads",
    "measure_maximum",
    "memory_per_connection",
]

_IDLE_RATE = 10.0
_WARM_CONNECTIONS = 500
_REST_SECONDS = 1.5


@dataclass(frozen=True)
class Maximum:
    """
    What a server can do at most.

    Attributes:
        best: At the highest rate that was sustained; None if none was.
        peak: Most deliveries a second that were seen, whatever the delay.
    """

    best: Step | None
    peak: Step


async def measure_maximum(
    mesh: Mesh,
    contender: Contender,
    crowd: Crowd,
    search: RateSearch,
    seconds: float,
) -> Maximum:
    """
    Find the highest rate that *contender* sustains.

    Args:
        mesh: The bus and the programs.
        contender: Which server.
        crowd: Its clients.
        search: Says which rates to try, in deliveries a second.
        seconds: How long to measure each rate.

    Raises:
        NotHereError: If the server cannot be run.
    """
    steps: list[Step] = []
    while not search.done:
        async with open_session(mesh, contender, crowd) as session:
            await _search(session, search, seconds, steps)
    held = [step for step in steps if step.held]
    return Maximum(
        best=max(held, key=lambda step: step.delivered, default=None),
        peak=max(steps, key=lambda step: step.delivered),
    )


async def _search(
    session: Session, search: RateSearch, seconds: float, steps: list[Step]
) -> None:
    """Try rates until the search is done or the session is of no further use."""
    while not search.done:
        for _ in range(2):
            # Whatever else runs here may spoil a try, so a rate fails only twice.
            steps.append(await session.step(search.rate, seconds))
            if steps[-1].held:
                break
            if not await session.quiet():
                search.tell(False)
                return
        search.tell(steps[-1].held)


async def measure_loads(
    mesh: Mesh,
    contender: Contender,
    crowd: Crowd,
    loads: Sequence[float],
    seconds: float,
) -> list[Step]:
    """
    Return what is seen at each of *loads*, deliveries a second.

    Raises:
        NotHereError: If the server cannot be run.
    """
    async with open_session(mesh, contender, crowd) as session:
        return [await session.step(load, seconds) for load in loads]


async def idle_latency(mesh: Mesh, contender: Contender, seconds: float) -> Step:
    """
    Return what one client sees of ten updates a second.

    Raises:
        NotHereError: If the server cannot be run.
    """
    async with open_session(mesh, contender, Crowd(1, 1, symbols=20)) as session:
        return await session.step(_IDLE_RATE, seconds)


async def memory_per_connection(
    mesh: Mesh, contender: Contender, connections: int
) -> float:
    """
    Return by how many bytes the server grows for each of *connections* idle ones.

    Raises:
        NotHereError: If the server cannot be run.
    """
    crowd = Crowd(_WARM_CONNECTIONS + connections, 0)
    async with open_session(mesh, contender, crowd, clients=0) as session:
        await session.open(_WARM_CONNECTIONS)
        await asyncio.sleep(_REST_SECONDS)
        before = memory_bytes(session.server.pid)
        await session.open(crowd.clients)
        await asyncio.sleep(_REST_SECONDS)
        return (memory_bytes(session.server.pid) - before) / connections
