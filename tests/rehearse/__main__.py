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
import dataclasses
import itertools
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
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from manifests import Cluster, manifests
from rehearse.clients import HOST, Follower, caught_up, missed, way_in
from rehearse.engine import Engine, Running, docker
from rehearse.pods import Objects, Pod, pods_of
from secured_nats import Authority

from feedmesh import credentials


COLD_START_SECONDS = 30.0
NEWS_A_MINUTE = "300"
SYMBOLS = ("AAPL", "BTCUSD", "EURUSD")


class Issuer:
    """Makes clients' tokens, and the keys that verify them."""

    def __init__(self) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()

    def keys(self) -> str:
        """Return the set of keys that an edge is given."""
        jwk = OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [jwk | {"kid": "rehearsal"}]})

    def token(self) -> str:
        """Return a token for an hour."""
        claims = {"sub": "client", "aud": "feedmesh", "exp": time.time() + 3600}
        return jwt.encode(claims, self._key, "EdDSA", headers={"kid": "rehearsal"})


class Stage:
    """
    Everything that is rehearsed.

    Attributes:
        figures: What was found, in order.
        wrong: What did not hold.
        ready_after: How long updated pods took until they were ready, in seconds.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._prod = Cluster(manifests("overlays/prod"))
        self._dev = Cluster(manifests("overlays/dev"))
        self._numbers = itertools.count()
        self._authority = Authority(folder)
        self._issuer = Issuer()
        self._objects = self._made_before()
        self.certificate = self._authority.issue("ingress", HOST)
        self.figures: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.ready_after: list[float] = []

    def _made_before(self) -> Objects:
        """Return what k8s/README.md asks to be made before."""
        names = [f"nats-{number}.nats" for number in range(3)]
        certificate, key = self._authority.issue("nats", *names)
        objects: dict[tuple[str, str], dict[str, str]] = {
            ("Secret", "nats-tls"): {
                "ca.crt": self._authority.file.read_text(),
                "tls.crt": certificate.read_text(),
                "tls.key": key.read_text(),
            },
            ("Secret", "feedmesh-fmp"): {"api-key": "simulator"},
            ("Secret", "feedmesh-ls"): {
                "app-key": "simulator",
                "app-secret": "simulator",
            },
            ("Secret", "feedmesh-auth"): {"jwks.json": self._issuer.keys()},
            ("Secret", "feedmesh-prober"): {"token": self._issuer.token()},
        }
        for item in credentials.manifests()["items"]:
            data = item.get("stringData") or item["data"]
            objects[item["kind"], item["metadata"]["name"]] = data
        return objects

    def pods(self, kind: str, app: str, cluster: Cluster | None = None) -> list[Pod]:
        """Return the pods of a workload, fresh ones each time."""
        cluster = cluster or self._prod
        found = pods_of(cluster, self._objects, cluster.get(kind, app), self._numbers)
        return [self._to_simulator(pod) for pod in found]

    def _to_simulator(self, pod: Pod) -> Pod:
        if not pod.app.startswith("ingest-"):
            return pod
        dev = self._dev.environment(self._dev.get("Deployment", pod.app))
        upstreams = {
            key: value
            for key, value in dev.items()
            if key.endswith("_URL") and key != "NATS_URL"
        }
        return dataclasses.replace(pod, env={**pod.env, **upstreams})

    def edges(self) -> list[tuple[str, int]]:
        """Return where ready edges take clients, as the Service knows them."""
        return [
            (running.address, running.pod.ports["clients"])
            for running in self._engine.of("edge")
            if running.ready
        ]

    def token(self) -> str:
        return self._issuer.token()

    async def apply(self) -> list[Running]:
        """Start everything at once, as `kubectl apply` does; the Job's end is seen."""
        start = self._engine.start
        (simulator,) = self.pods("Deployment", "simulator", self._dev)
        # More news than a small cluster for trying things out has.
        rate = (*simulator.command[:-1], NEWS_A_MINUTE)
        simulator = dataclasses.replace(simulator, command=rate)
        (job,) = self.pods("Job", "streams")
        wanted = [
            *self.pods("StatefulSet", "nats"),
            *self.pods("Deployment", "ingest-fmp"),
            *self.pods("Deployment", "ingest-ls"),
            *self.pods("Deployment", "edge"),
            *self.pods("Deployment", "prober"),
        ]
        began = time.monotonic()
        making, _, *running = await asyncio.gather(
            *(start(pod) for pod in (job, simulator, *wanted))
        )
        started = time.monotonic() - began
        limit = self._prod.get("Job", "streams")["spec"]["backoffLimit"]
        again = await self._engine.finished(making, limit, 120)
        self.hold(
            "the Job that makes the streams succeeds",
            again is not None,
            streams_again=again,
            containers_started_s=round(started, 1),
            streams_made_s=round(time.monotonic() - began, 1),
        )
        return running

    async def roll(self, app: str) -> list[float]:
        """Replace the pods of *app* in a rolling update; return the time each took."""
        spec = self._prod.get("Deployment", app)["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        took = []
        old = self._engine.of(app)
        for running, pod in zip(old, self.pods("Deployment", app), strict=True):
            fresh = await self._engine.start(pod)
            await self._engine.until_ready(fresh)
            self.ready_after.append(round(fresh.ready_after, 1))
            await asyncio.sleep(spec["minReadySeconds"])
            took.append(await self._engine.delete(running.pod.name))
        return took

    def rotate_keys(self) -> None:
        """Replace the keys of tokens, in the files that edges have mounted."""
        self._issuer = Issuer()
        self._objects = {
            **self._objects,
            ("Secret", "feedmesh-auth"): {"jwks.json": self._issuer.keys()},
        }
        for running in self._engine.of("edge"):
            for mount in running.pod.mounts:
                if mount.files and "jwks.json" in mount.files:
                    fresh = {"jwks.json": self._issuer.keys()}
                    self._engine.write(
                        running.pod, dataclasses.replace(mount, files=fresh)
                    )

    def hold(self, what: str, holds: bool, **figures: Any) -> None:
        """Note and print what was found."""
        self.figures |= figures
        said = "  ".join(f"{name}={value}" for name, value in figures.items())
        print(f"{'ok  ' if holds else 'FAIL'} {what}  {said}", flush=True)
        if not holds:
            self.wrong.append(what)


async def rehearse(clients: int) -> int:
    """Play it all; return the exit code."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Containers read in it as another user.
        folder.chmod(0o755)
        engine = await stack.enter_async_context(Engine(folder, {}))
        stage = Stage(engine, folder)
        port = await stack.enter_async_context(way_in(*stage.certificate, stage.edges))
        trust = ssl.create_default_context(cafile=str(stage._authority.file))
        followers = await _cold_start(stage, engine, stack, port, trust)
        followers += [
            _follow(stack, Follower(port, trust, stage.token))
            for _ in range(clients - len(followers))
        ]
        await _until(lambda: all(f.subscribed.is_set() for f in followers), 60)
        await _rolling_update(stage, engine, followers)
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
) -> list[Follower]:
    began = time.monotonic()
    first = _follow(stack, Follower(port, trust, stage.token, *SYMBOLS))
    applying = asyncio.create_task(stage.apply())
    await _until(lambda: first.prices > 0, 120)
    took = time.monotonic() - began
    stage.hold(
        "the first price comes through TLS",
        took <= COLD_START_SECONDS,
        cold_start_s=round(took, 1),
    )
    await _until(lambda: bool(first.news), 120)
    stage.hold("news come through TLS", True)
    pods = await applying
    await engine.until_ready(*pods, seconds=90)
    slowest = max(running.ready_after for running in engine.of("edge"))
    stage.hold("all become ready", True, edge_ready_s=round(slowest, 1))
    return [first]


async def _rolling_update(
    stage: Stage, engine: Engine, followers: list[Follower]
) -> None:
    took = await stage.roll("edge")
    together = await caught_up(followers)
    codes = Counter(code for follower in followers for code in follower.codes)
    holes = [hole for follower in followers for hole in follower.holes]
    stage.hold(
        "a rolling update of the edge sends clients away, and loses nothing",
        together and missed(followers) == 0 and not holes and set(codes) == {4200},
        clients=len(followers),
        codes={str(code): count for code, count in codes.items()},
        ready_s=stage.ready_after,
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
    stale = _follow(stack, Follower(port, trust, lambda: old, *SYMBOLS))
    await _until(lambda: 4001 in stale.codes, 30)
    stage.hold(
        "keys of tokens are replaced without a restart",
        stale.prices == 0,
        rotation_s=round(took, 1),
    )


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
    arguments = parser.parse_args()
    try:
        asyncio.run(docker("version"))
    except (AssertionError, FileNotFoundError):
        sys.exit("a Docker engine is needed; and the images: make images")
    # Ended early, it leaves no containers behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(asyncio.run(rehearse(arguments.clients)))


if __name__ == "__main__":
    main()
