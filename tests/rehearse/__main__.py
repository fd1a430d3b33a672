"""
The rehearsal: `make rehearse`.

What k8s/overlays/prod renders to is run as containers on this machine: the same images,
commands, settings, files, identities, TLS, limits, probes and manners of stopping. Two
things are put in its place: the addresses of the upstreams lead to the simulator, and a
small TLS server stands for the Ingress. What only a cluster does (scheduling, volumes,
network policies, autoscaling) is not rehearsed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rehearse.clients import Follower, caught_up, missed, way_in
from rehearse.engine import Engine, docker
from rehearse.stage import Stage


COLD_START_SECONDS = 30.0
READY_SECONDS = 3.0
SYMBOLS = ("AAPL", "BTCUSD", "EURUSD")


async def rehearse(clients: int, patience: float) -> int:
    """Play it all, *patience* times slower than is wanted; return the exit code."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Containers read in it as another user.
        folder.chmod(0o755)
        engine = await stack.enter_async_context(Engine(folder))
        stage = Stage(engine, folder)
        port = await stack.enter_async_context(way_in(*stage.certificate, stage.edges))
        trust = ssl.create_default_context(cafile=str(stage.trusted))
        followers = await _cold_start(stage, engine, stack, port, trust, patience)
        followers += [
            _follow(stack, Follower(port, trust, stage.token))
            for _ in range(clients - len(followers))
        ]
        await _until(lambda: all(f.subscribed.is_set() for f in followers), 120)
        stage.hold("the doctor finds nothing wrong", await stage.look())
        await _rolling_update(stage, followers)
        stage.hold(
            "an image is ready soon after its start",
            max(stage.ready_after) <= READY_SECONDS * patience,
            ready_s=stage.ready_after,
        )
        await _node_deleted(stage, engine, followers)
        await _secret_rotated(stage, stack, port, trust)
        stage.hold("no news item is missed by anybody", missed(followers) == 0)
        stage.hold(
            "nobody had to be killed, nothing was started again",
            not engine.killed and not engine.restarts,
            killed=engine.killed,
            restarts=engine.restarts,
        )
        print(json.dumps(stage.figures))
    return 1 if stage.wrong else 0


async def _cold_start(
    stage: Stage,
    engine: Engine,
    stack: AsyncExitStack,
    port: int,
    trust: ssl.SSLContext,
    patience: float,
) -> list[Follower]:
    began = time.monotonic()
    first = _follow(stack, Follower(port, trust, stage.token, *SYMBOLS))
    applying = asyncio.create_task(stage.apply())
    await _until(lambda: first.prices > 0, 120)
    took = time.monotonic() - began
    stage.hold(
        "the first price comes through TLS",
        took <= COLD_START_SECONDS * patience,
        cold_start_s=round(took, 1),
    )
    await _until(lambda: bool(first.news), 120)
    stage.hold("news come through TLS", True)
    pods = await applying
    await engine.until_ready(*pods, seconds=90)
    # From nothing, they wait for NATS and its streams, too.
    slowest = max(running.ready_after for running in pods)
    stage.hold("all become ready", True, all_ready_s=round(slowest, 1))
    return [first]


async def _rolling_update(stage: Stage, followers: list[Follower]) -> None:
    took = await stage.roll("edge")
    together = await caught_up(followers)
    codes = Counter(code for follower in followers for code in follower.codes)
    holes = [hole for follower in followers for hole in follower.holes]
    stage.hold(
        "a rolling update of the edge sends clients away, and loses nothing",
        together and missed(followers) == 0 and not holes and set(codes) == {4200},
        clients=len(followers),
        codes={str(code): count for code, count in codes.items()},
        stopping_s=[round(seconds, 1) for seconds in took],
        holes=len(holes),
        missed=missed(followers),
    )


async def _node_deleted(
    stage: Stage, engine: Engine, followers: list[Follower]
) -> None:
    before = len(followers[0].news)
    (pod,) = [pod for pod in stage.pods("StatefulSet", "nats") if pod.name == "nats-1"]
    took = await engine.delete("nats-1")
    # Its volume is still there, as with a StatefulSet.
    fresh = await engine.start(pod)
    await engine.until_ready(fresh)
    await _until(lambda: len(followers[0].news) > before, 60)
    stage.hold(
        "a NATS server is deleted and comes back, and news go on",
        await caught_up(followers) and missed(followers) == 0,
        node_stopping_s=round(took, 1),
        node_ready_s=round(fresh.ready_after, 1),
    )


async def _secret_rotated(
    stage: Stage, stack: AsyncExitStack, port: int, trust: ssl.SSLContext
) -> None:
    old = stage.token()
    stage.rotate_keys()
    began = time.monotonic()
    fresh = _follow(stack, Follower(port, trust, stage.token, *SYMBOLS))
    await _until(lambda: fresh.prices > 0, 90)
    took = time.monotonic() - began
    # Each edge reads its keys by itself; connections go to them in turn.
    async with asyncio.timeout(90):
        while not await _refused(old, 2 * len(stage.edges()), port, trust):
            await asyncio.sleep(0.5)
    stage.hold(
        "keys of tokens are replaced without a restart",
        True,
        rotation_s=round(took, 1),
        old_refused_s=round(time.monotonic() - began, 1),
    )


async def _refused(token: str, count: int, port: int, trust: ssl.SSLContext) -> bool:
    """Return whether *count* clients that come with *token* are all sent away."""
    async with AsyncExitStack() as stack:
        stale = [
            _follow(stack, Follower(port, trust, lambda: token, *SYMBOLS))
            for _ in range(count)
        ]
        await _until(lambda: all(f.prices or 4001 in f.codes for f in stale), 60)
        return not any(follower.prices for follower in stale)


def _follow(stack: AsyncExitStack, follower: Follower) -> Follower:
    task = asyncio.create_task(follower.run())
    stack.callback(task.cancel)
    return follower


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)


def main() -> None:
    """Read the arguments and play."""
    parser = argparse.ArgumentParser(prog="rehearse", description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument(
        "--patience", type=float, default=1.0, help="how much slower it may be"
    )
    arguments = parser.parse_args()
    try:
        asyncio.run(docker("version"))
    except (AssertionError, FileNotFoundError):
        sys.exit("a Docker engine is needed; and the images: make images")
    # Ended early, it leaves no containers behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(asyncio.run(rehearse(arguments.clients, arguments.patience)))


if __name__ == "__main__":
    main()
