"""Prometheus and Alertmanager with our rules, and what they tell the operators."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from mesh import free_block
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feedmesh.ops import serve
from feedmesh.service import bind


RULES = Path(__file__).parents[2] / "k8s/monitoring"
_HOST = "127.0.0.1"


class Told(NamedTuple):
    """One alert in a notification, and when that came, in seconds."""

    at: float
    name: str
    firing: bool
    labels: dict[str, str]


class Watch:
    """
    What the operators are told, and what Prometheus knows.

    Attributes:
        told: Every notification, oldest first.
    """

    def __init__(self, prometheus: str, alertmanager: str) -> None:
        self.prometheus = prometheus
        self.alertmanager = alertmanager
        self.told: list[Told] = []

    async def notified(self, request: Request) -> Response:
        """Take a notification of Alertmanager."""
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            told = Told(
                time.monotonic(),
                labels["alertname"],
                alert["status"] == "firing",
                labels,
            )
            self.told.append(told)
        return Response()

    def firing(self) -> set[str]:
        """Return the alerts of which the operators were last told that they hold."""
        last: dict[tuple[tuple[str, str], ...], Told] = {}
        for told in self.told:
            last[tuple(sorted(told.labels.items()))] = told
        return {told.name for told in last.values() if told.firing}

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers; fail if it does not understand."""
        async with httpx.AsyncClient(base_url=self.prometheus) as http:
            answer = await http.get("/api/v1/query", params={"query": expression})
        body = answer.json()
        assert body["status"] == "success", (expression, body)
        found: list[dict[str, Any]] = body["data"]["result"]
        return found


def _write_configs(
    folder: Path, ports: Mapping[str, int], targets: Mapping[str, list[str]]
) -> None:
    prometheus = yaml.safe_load((RULES / "prometheus.yaml").read_text())
    prometheus["rule_files"] = [str(RULES / name) for name in prometheus["rule_files"]]
    prometheus["alerting"]["alertmanagers"] = [
        {"static_configs": [{"targets": [f"{_HOST}:{ports['alertmanager']}"]}]}
    ]
    prometheus["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": addresses}]}
        for job, addresses in targets.items()
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(prometheus))
    alertmanager = yaml.safe_load((RULES / "alertmanager.yaml").read_text())
    url = f"http://{_HOST}:{ports['receiver']}/"
    alertmanager["receivers"][0]["webhook_configs"] = [
        {"url": url, "send_resolved": True}
    ]
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(alertmanager))


@asynccontextmanager
async def run_alerts(
    folder: Path, targets: Mapping[str, list[str]]
) -> AsyncIterator[Watch]:
    """Run both while the context is open; *targets* are addresses by service."""
    folder.mkdir(parents=True)
    base = free_block(3)
    ports = {"prometheus": base, "alertmanager": base + 1, "receiver": base + 2}
    _write_configs(folder, ports, targets)
    watch = Watch(
        f"http://{_HOST}:{ports['prometheus']}",
        f"http://{_HOST}:{ports['alertmanager']}",
    )
    app = Starlette(routes=[Route("/", watch.notified, methods=["POST"])])
    async with AsyncExitStack() as stack:
        listener = bind(_HOST, ports["receiver"], "receiver")
        await stack.enter_async_context(serve(app, listener, lifespan="off"))
        alertmanager = await _start(
            folder / "alertmanager.log",
            "prometheus-alertmanager",
            f"--config.file={folder / 'alertmanager.yaml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={_HOST}:{ports['alertmanager']}",
            "--cluster.listen-address=",
        )
        stack.push_async_callback(_end, alertmanager)
        prometheus = await _start(
            folder / "prometheus.log",
            "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address={_HOST}:{ports['prometheus']}",
        )
        stack.push_async_callback(_end, prometheus)
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            for url in (watch.alertmanager, watch.prometheus):
                while not await _ready(http, url):
                    await asyncio.sleep(0.2)
        yield watch


async def _start(log: Path, *command: str) -> Process:
    with log.open("wb") as out:
        return await create_subprocess_exec(*command, stdout=DEVNULL, stderr=out)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def _ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/-/ready")).is_success
    except httpx.HTTPError:
        return False
