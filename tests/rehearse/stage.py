"""
What is rehearsed: the pods of the rendered manifests, and the objects they refer to.

Beside what the manifests say there is only what k8s/README.md asks to be made before,
and the simulator where the upstreams would be.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from pathlib import Path
from runpy import run_path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from manifests import K8S, Cluster, manifests
from rehearse.clients import HOST
from rehearse.engine import Engine, Running
from rehearse.pods import Objects, Pod, pods_of
from secured_nats import Authority

from feedmesh import credentials


NEWS_A_MINUTE = "300"


class Issuer:
    """Makes clients' tokens, and the keys that verify them, as k8s/README.md says."""

    def __init__(self) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()
        self._program = run_path(str(K8S / "tokens.py"))

    def keys(self) -> str:
        """Return the set of keys that an edge is given."""
        found: str = self._program["key_set"](self._key)
        return found

    def token(self) -> str:
        """Return a token for an hour."""
        made: str = self._program["token"](self._key, "client", 1 / 24)
        return made


class Stage:
    """
    Everything that is rehearsed.

    Attributes:
        trusted: Who signed the certificates.
        certificate: That of the way in, and its key.
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
        self.trusted = self._authority.file
        self.certificate = self._authority.issue("ingress", HOST)
        self._objects = self._made_before()
        self.figures: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.ready_after: list[float] = []

    def _made_before(self) -> Objects:
        """Return what k8s/README.md asks to be made before."""
        names = [f"nats-{number}.nats" for number in range(3)]
        objects: dict[tuple[str, str], dict[str, str]] = {
            ("Secret", "nats-tls"): {
                "ca.crt": self._authority.file.read_text(),
                **_pair(*self._authority.issue("nats", *names)),
            },
            ("Secret", "feedmesh-edge-tls"): _pair(*self.certificate),
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

    async def look(self) -> bool:
        """Ask the doctor, as an operator does; return whether nothing is wrong."""
        (doctor,) = self.pods("CronJob", "doctor")
        looking = await self._engine.start(doctor)
        well = await self._engine.finished(looking, 0, 60) == 0
        if not well:
            print(await self._engine.logs(looking))
        return well

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


def _pair(certificate: Path, key: Path) -> dict[str, str]:
    return {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
