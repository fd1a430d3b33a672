"""A trace goes from the ingest to the client; without an endpoint there is none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from mesh import run_mesh
from nats_process import open_bus, run_nats
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feedmesh.canary import NEWS_TYPE
from feedmesh.ops import serve
from feedmesh.service import bind
from feedmesh.tracing import traceparent_of


class Span(NamedTuple):
    """What a receiver was told."""

    service: str
    name: str
    subject: str
    trace: bytes
    span: bytes
    parent: bytes
    start: float
    end: float


class Receiver:
    """A tiny OTLP receiver."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self._grown = asyncio.Event()

    async def take(self, request: Request) -> Response:
        told = ExportTraceServiceRequest.FromString(await request.body())
        for resource in told.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for one in scope.spans:
                    attributes = {a.key: a.value.string_value for a in one.attributes}
                    self.spans.append(
                        Span(
                            names["service.name"],
                            one.name,
                            attributes["messaging.destination.name"],
                            one.trace_id,
                            one.span_id,
                            one.parent_span_id,
                            one.start_time_unix_nano / 1e9,
                            one.end_time_unix_nano / 1e9,
                        )
                    )
        self._grown.set()
        return Response()

    async def chains(self, subject: str, *names: str) -> list[list[Span]]:
        """Return the chains of spans called *names*, once there is one on *subject*."""
        async with asyncio.timeout(30):
            while True:
                found = [c for c in self._chains(names) if c[0].subject == subject]
                if found:
                    return found
                self._grown.clear()
                await self._grown.wait()

    def _chains(self, names: tuple[str, ...]) -> list[list[Span]]:
        chains = [[s] for s in self.spans if s.name == names[0]]
        for name in names[1:]:
            chains = [
                [*chain, span]
                for chain in chains
                for span in self.spans
                if span.name == name and span.parent == chain[-1].span
            ]
        return chains


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    listener = bind("127.0.0.1", 0, "port")
    made = Receiver(listener.getsockname()[1])
    app = Starlette(routes=[Route("/v1/traces", made.take, methods=["POST"])])
    async with serve(app, listener, lifespan="off"):
        yield made


async def test_a_trace_goes_from_the_ingest_to_the_client(
    tmp_path: Path, receiver: Receiver
) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "LS_CANARY": "1s",
    }
    rates = ("--rate", "20", "--news-rate", "0")
    async with run_mesh(tmp_path, *rates, env=env) as mesh:
        client = mesh.prices("BTCUSD")
        await client.until(lambda message: message["type"] == "price_update")
        request = {"op": "subscribe", "channel": "news", "types": [NEWS_TYPE]}
        reader = mesh.listen("/api/v3/stream", request)
        await reader.until(lambda message: message["type"] == "news")
        names = ("ingest", "bus", "write")
        prices = await receiver.chains("prices.crypto.BTCUSD", *names)
        news = await receiver.chains("news.canary", *names)

    for chain in (*prices, *news):
        assert len({span.trace for span in chain}) == 1
        assert chain[0].service.startswith("ingest-")
        assert {span.service[:5] for span in chain[1:]} == {"edge-"}
        for span in chain:
            assert -0.01 < span.end - span.start < 10
        for one, next_one in pairwise(chain):
            # One begins where the other ends.
            assert abs(next_one.start - one.end) < 2, chain
    sent = Counter(span.trace for chain in news for span in chain if span == chain[0])
    assert set(sent.values()) == {1}, "an item was read twice"


async def test_without_an_endpoint_nothing_is_touched(tmp_path: Path) -> None:
    async with run_nats(tmp_path) as nats, open_bus(nats) as bus:
        assert bus.tracer is None
        assert (
            not {"publish", "request", "subscribe", "open_lane"} & vars(bus.nc).keys()
        )


def test_headers_without_a_trace_have_none() -> None:
    own = b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"
    traced = b"NATS/1.0\r\ntraceparent: 00-aa-bb-01\r\nNats-Msg-Id: 1\r\n\r\n"

    assert traceparent_of(own) is None
    assert traceparent_of(traced) == "00-aa-bb-01"
