"""
Do clients that never read slow down those that do?

900 clients read prices; in every other round, 100 more are there that have stopped
reading and whose sockets are full. What counts is the ratio of the readers' latencies,
from publishing to the client, with and without them: the median over the rounds.

From the folder `tests`: ``python -m soak.never_readers``.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import monotonic_ns
from typing import NamedTuple

from crowd import CrowdProcess, run_crowd
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import open_bus, run_nats


__all__ = ["Round", "never_readers", "wrong"]

_SYMBOLS = [f"S{number}" for number in range(10)]
_UPDATE_SECONDS = 0.05
# More than what user space and both kernels' ends hold for one socket.
_FILL = 3000


class Round(NamedTuple):
    """
    The readers' latencies in one round, in milliseconds.

    Attributes:
        p99_without: 99 % of them, with readers alone.
        p99_with: The same beside clients that do not read.
        p50_without: Half of them, with readers alone.
        p50_with: The same beside clients that do not read.
    """

    p99_without: float
    p99_with: float
    p50_without: float
    p50_with: float


class Publisher:
    """Publishes numbered updates with the time in them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._numbers = {symbol: itertools.count(1) for symbol in _SYMBOLS}

    async def run(self) -> None:
        for symbol in itertools.cycle(_SYMBOLS):
            await self._writer.unconfirmed_price(
                symbol,
                last_size=str(next(self._numbers[symbol])),
                ask_size=str(monotonic_ns()),
            )
            await asyncio.sleep(_UPDATE_SECONDS)

    async def fill(self) -> None:
        """Publish what fills the sockets of those who do not read."""
        for number in range(_FILL):
            await self._writer.unconfirmed_price("FILL", last_size=str(number))
            if number % 20 == 0:
                await asyncio.sleep(0.001)


async def never_readers(
    edge: EdgeProcess,
    writer: Writer,
    readers: int,
    silent: int,
    rounds: int,
    seconds: float,
) -> AsyncGenerator[Round, None]:
    """
    Yield what *readers* clients saw, with and without *silent* ones, for each round.

    Raises:
        AssertionError: If a reader missed an update, or the others' sockets are not
            full.
    """
    publisher = Publisher(writer)
    publishing = asyncio.create_task(publisher.run())
    try:
        async with run_crowd(edge.port, "--symbols", ",".join(_SYMBOLS)) as crowd:
            await crowd.ask(f"open {readers}")
            await crowd.settle()
            for _ in range(rounds):
                p50_without, p99_without = await _latency(crowd, seconds)
                async with _silent(edge, publisher, silent):
                    p50_with, p99_with = await _latency(crowd, seconds)
                status = await crowd.ask()
                assert not wrong(status), status
                yield Round(p99_without, p99_with, p50_without, p50_with)
    finally:
        publishing.cancel()


def wrong(status: dict[str, float]) -> list[str]:
    """Return what must not be in the status of a crowd that reads."""
    return [name for name in ("prices wrong", "gap prices", "cut") if name in status]


@asynccontextmanager
async def _silent(
    edge: EdgeProcess, publisher: Publisher, count: int
) -> AsyncIterator[None]:
    symbols = ",".join([*_SYMBOLS, "FILL"])
    async with run_crowd(edge.port, "--symbols", symbols, "--silent", "1") as crowd:
        await crowd.ask(f"open {count}")
        await crowd.settle()
        before = await edge.service.metric("feedmesh_edge_frames_total")
        await publisher.fill()
        await asyncio.sleep(1.5)
        written = await edge.service.metric("feedmesh_edge_frames_total") - before
        assert written < _FILL * count, "their sockets are not full"
        yield


async def _latency(crowd: CrowdProcess, seconds: float) -> tuple[float, float]:
    await asyncio.sleep(0.3)
    await crowd.ask("start")
    await asyncio.sleep(seconds)
    status = await crowd.ask()
    assert status["updates"]
    return status["p50_ms"], status["p99_ms"]


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=900)
    parser.add_argument("--silent", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            run_nats(Path(folder) / "nats") as nats,
            open_bus(nats) as bus,
            run_edge(nats, EDGE_STUCK="1h") as edge,
        ):
            async for each in never_readers(edge, Writer(bus), **vars(options)):
                seen.append(each)
                print(
                    f"p99 {each.p99_without:.1f} ms without,"
                    f" {each.p99_with:.1f} ms with;"
                    f" p50 {each.p50_without:.1f} ms, {each.p50_with:.1f} ms",
                    flush=True,
                )
    without, beside = (median(each[index] for each in seen) for index in (0, 1))
    ratios = sorted(each.p99_with / each.p99_without for each in seen)
    print(
        f"medians: p99 {without:.1f} ms without, {beside:.1f} ms with:"
        f" ratio {beside / without:.2f}; of the rounds' ratios {median(ratios):.2f}"
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f}); the target is at most 1.10"
    )


if __name__ == "__main__":
    asyncio.run(_main())
