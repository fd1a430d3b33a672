"""
The servers of NATS, as their monitoring ports tell.

Of a stream that has copies, its leader is believed; each server says which that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from prober.metrics import ProberMetrics


__all__ = ["NatsServers", "StreamState", "streams_of"]

_SECONDS = 2.0


class StreamState(NamedTuple):
    """What the leader of a stream says of it; *behind* counts copies not up to date."""

    name: str
    messages: int
    bytes: int
    limit: int
    last: int
    behind: int


def streams_of(jsz: dict[str, Any], server: str) -> Iterator[StreamState]:
    """Yield the streams in the answer *jsz* of which *server* is the leader."""
    for account in jsz.get("account_details") or ():
        for detail in account.get("stream_detail") or ():
            cluster = detail.get("cluster") or {}
            if cluster.get("leader", server) != server:
                continue
            state = detail["state"]
            replicas = cluster.get("replicas") or ()
            yield StreamState(
                name=detail["name"],
                messages=state["messages"],
                bytes=state["bytes"],
                limit=max(0, (detail.get("config") or {}).get("max_bytes", 0)),
                last=state["last_seq"],
                behind=sum(1 for r in replicas if not r.get("current")),
            )


class NatsServers:
    """Asks the servers at *urls* and shows what they say."""

    def __init__(
        self, urls: tuple[str, ...], http: httpx.AsyncClient, metrics: ProberMetrics
    ) -> None:
        self._urls = urls
        self._http = http
        self._metrics = metrics

    async def look(self) -> None:
        """Ask each server once."""
        for url in self._urls:
            node = urlsplit(url).netloc
            try:
                healthy = await self._look_at(url, node)
            except (httpx.HTTPError, ValueError, KeyError, TypeError):
                healthy = False
            self._metrics.nats_up.labels(node).set(1 if healthy else 0)

    async def _look_at(self, url: str, node: str) -> bool:
        metrics = self._metrics
        varz = await self._get(f"{url}/varz")
        metrics.nats_connections.labels(node).set(varz["connections"])
        metrics.nats_slow.labels(node).set(varz["slow_consumers"])
        # Of the certificate in use: the file may be newer, and not yet read.
        if ends := varz.get("tls_cert_not_after"):
            when = datetime.fromisoformat(ends).timestamp()
            metrics.certificate.labels(node).set(when)
        jsz = await self._get(f"{url}/jsz?streams=true&config=true")
        metrics.nats_store.labels(node).set(jsz["storage"])
        metrics.nats_store_limit.labels(node).set(jsz["config"]["max_storage"])
        for stream in streams_of(jsz, varz["server_name"]):
            metrics.stream_messages.labels(stream.name).set(stream.messages)
            metrics.stream_bytes.labels(stream.name).set(stream.bytes)
            metrics.stream_limit.labels(stream.name).set(stream.limit)
            metrics.stream_last.labels(stream.name).set(stream.last)
            metrics.stream_behind.labels(stream.name).set(stream.behind)
        health = await self._http.get(f"{url}/healthz", timeout=_SECONDS)
        return health.status_code == 200

    async def _get(self, url: str) -> dict[str, Any]:
        answer = await self._http.get(url, timeout=_SECONDS)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
