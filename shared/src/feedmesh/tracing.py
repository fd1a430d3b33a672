"""
Traces of single messages on their way, sampled, when somebody wants them.

Off unless an OTLP endpoint is set, and then nothing is changed at all: a tracer wraps
the few methods of the NATS client through which messages pass, so that without one the
hot path is the same code. Of the messages of an ingest, one in so many carries a W3C
``traceparent`` header; the edge adds what it knows. A trace has three spans: ``ingest``
(from the receipt of the frame until it was handed to NATS), ``bus`` (until the edge had
the price from the wire, or the news item from the stream) and ``write`` (until the next
pass of writes to clients was done).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from feedmesh import subjects
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import SettingsError
from feedmesh.fast_lane import Lane, LaneClient, LaneMessage
from feedmesh.messages import decode_head


if TYPE_CHECKING:
    # Without tracing it need not even be installed.
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

__all__ = ["Tracer", "traceparent_of"]

_TRACED = ("prices.", "news.")
_HEADER = "traceparent"
_FIELD = b"\r\ntraceparent: "
_MAX_WAITING = 1000
_CLOSE_SECONDS = 3.0
# Older items of the stream are read at a start, and by who was away.
_OLD_NS = 60 * 10**9

# How an answer of the stream names an item; a copy for a symbol has a longer subject.
_stored_news = re.compile(rb"\r\nNats-Subject: *(news\.[^.\r]+)\r").search


def traceparent_of(raw: bytes) -> str | None:
    """Return the traceparent among raw NATS headers, if there is one."""
    start = raw.find(_FIELD)
    if start < 0:
        return None
    start += len(_FIELD)
    return raw[start : raw.find(b"\r\n", start)].decode("ascii", "replace")


class Tracer:
    """
    Traces what goes through a NATS client.

    Args:
        service: Name of the process in the traces.
        endpoint: Base URL of an OTLP receiver that speaks HTTP.
        ratio: Share of messages that are traced, above 0.

    Raises:
        SettingsError: If the libraries for it are not installed.
    """

    def __init__(self, service: str, endpoint: str, ratio: float) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
            from opentelemetry.trace.propagation.tracecontext import (
                TraceContextTextMapPropagator,
            )
        except ImportError as error:
            raise SettingsError(
                "OTEL_EXPORTER_OTLP_ENDPOINT needs opentelemetry-sdk and"
                " opentelemetry-exporter-otlp-proto-http"
            ) from error
        self._trace = trace
        # What is sampled is decided here, once for each message and not by its trace.
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), sampler=ALWAYS_ON
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("feedmesh")
        self._propagator = TraceContextTextMapPropagator()
        self._every = max(1, round(1 / ratio))
        self._count = 0
        self._read: deque[Span] = deque(maxlen=_MAX_WAITING)
        self._writing: deque[Span] = deque(maxlen=_MAX_WAITING)
        # Of news: a page of the stream may be read again.
        self._seen: deque[str] = deque(maxlen=_MAX_WAITING)

    async def close(self) -> None:
        """Send what is left."""
        closing = asyncio.to_thread(self._provider.shutdown)
        await asyncio.wait([asyncio.ensure_future(closing)], timeout=_CLOSE_SECONDS)

    def wrap(self, nc: LaneClient) -> None:
        """Trace what *nc* sends, and what it hears."""
        open_lane = nc.open_lane
        instance: dict[str, Any] = vars(nc)
        instance["publish"] = self._sending(nc.publish)
        instance["request"] = self._sending(nc.request)

        async def opened(subject: str, lane: Lane) -> Any:
            prices = subject == subjects.ALL_PRICES
            traced = self._taking(lane) if prices else self._reading(lane)
            return await open_lane(subject, traced)

        instance["open_lane"] = opened

    def handed_on(self) -> None:
        """Note that the news read so far are being written to clients."""
        self._writing.extend(self._read)
        self._read.clear()

    def written(self) -> None:
        """Note that what was to be written to clients has been."""
        while self._writing:
            self._writing.popleft().end()

    def _sending(
        self, send: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def sent(
            subject: str, payload: bytes = b"", *rest: Any, **named: Any
        ) -> Any:
            if not subject.startswith(_TRACED) or not self._due():
                return await send(subject, payload, *rest, **named)
            headers = self._began(subject, payload)
            named["headers"] = {**(named.get("headers") or {}), **headers}
            return await send(subject, payload, *rest, **named)

        return sent

    def _due(self) -> bool:
        self._count += 1
        if self._count < self._every:
            return False
        self._count = 0
        return True

    def _began(self, subject: str, payload: bytes) -> dict[str, str]:
        times = _times(payload)
        if times is None:
            return {}
        span = self._span("ingest", subject, None, times[0])
        headers: dict[str, str] = {}
        context = self._trace.set_span_in_context(span)
        self._propagator.inject(headers, context)
        span.end()
        return headers

    def _taking(self, lane: Lane) -> Lane:
        def taken(messages: Sequence[LaneMessage]) -> None:
            for subject, payload, raw in messages:
                parent = traceparent_of(raw) if raw else None
                if parent is not None:
                    span = self._arrived(subject.decode(), payload, parent)
                    self._writing.extend(span)
            lane(messages)

        return taken

    def _reading(self, lane: Lane) -> Lane:
        def read(messages: Sequence[LaneMessage]) -> None:
            for _, payload, raw in messages:
                subject, parent = _stored_news(raw), traceparent_of(raw)
                if subject and parent is not None and parent not in self._seen:
                    self._seen.append(parent)
                    span = self._arrived(subject[1].decode(), payload, parent)
                    self._read.extend(span)
            lane(messages)

        return read

    def _arrived(self, subject: str, payload: bytes, parent: str) -> list[Span]:
        """Return the span of writing a message that is here; none if it is old."""
        times = _times(payload)
        if times is None or now_ns() - times[1] > _OLD_NS:
            return []
        carrier: Mapping[str, str] = {_HEADER: parent}
        context = self._propagator.extract(carrier)
        span = self._span("bus", subject, context, times[1])
        span.end()
        after = self._trace.set_span_in_context(span)
        return [self._span("write", subject, after, time.time_ns())]

    def _span(
        self, name: str, subject: str, context: Context | None, start_ns: int
    ) -> Span:
        return self._tracer.start_span(
            name,
            context=context,
            start_time=start_ns,
            attributes={
                "messaging.system": "nats",
                "messaging.destination.name": subject,
            },
        )


def _times(payload: bytes) -> tuple[int, int] | None:
    """Return when the message was received and published; None if it is none."""
    try:
        head, _ = decode_head(payload)
        return from_iso(head.received_at), from_iso(head.published_at)
    except ValueError:
        return None
