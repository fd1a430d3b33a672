"""
The connection to NATS: found sooner or later, kept for ever, quiet in its logs.

nats-py by itself gives up after 60 attempts, waits without jitter, and calls back on
every failed attempt. Here the pauses are ours, an outage is one line when it begins
and one when it ends, and everything else is a number in :class:`BusState`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nats.aio.client import Server
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, FlushTimeoutError, SlowConsumerError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError

from feedmesh.answers import Answers
from feedmesh.backoff import backoff
from feedmesh.errors import BusError
from feedmesh.fast_lane import Lane, LaneClient
from feedmesh.settings import ServiceSettings
from feedmesh.tracing import Tracer


__all__ = [
    "Bus",
    "BusState",
    "OpenBus",
    "connect_bus",
    "count_servers",
    "second_bus",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CONNECT_SECONDS = 5.0
_CEILING_SECONDS = 2.0
# Where one server of three was lost, each millisecond is one without prices.
_FIRST_SECONDS = 0.005
_LOOK_SECONDS = 0.01
_REFUSED_SUBJECT = "permissions violation"


class BusState:
    """
    What is known about the connection.

    Attributes:
        reconnects: How often the connection came back.
        slow_consumer: How often messages were dropped because we read too slowly.
        refused: Subjects that the server's permissions refused, the last few.
    """

    def __init__(self) -> None:
        self.reconnects = 0
        self.slow_consumer = 0
        self.refused: dict[str, str] = {}


class _Client(LaneClient):
    """
    A client that keeps silent towards a server without TLS, if it was given trust.

    nats-py asks the server whether TLS is wanted, and that answer comes unprotected:
    whoever sits in between could say no, and would be shown who we are.
    """

    @property
    def last_server(self) -> str | None:
        """The address of the server that it has, or had, or tried last."""
        return self._current_server.uri.netloc if self._current_server else None

    @property
    def greeting(self) -> Mapping[str, Any]:
        """What the server that it has, or had, has said of itself."""
        return self._server_info

    async def _process_info(
        self, info: dict[str, Any], initial_connection: bool = False
    ) -> None:
        if (
            initial_connection
            and "tls" in self.options
            and not info.get("tls_required")
        ):
            raise NatsError("nats: the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def _process_err(self, err_msg: str) -> None:
        """
        Take an error of the server: one that is not of a subject ends the connection.

        nats-py would be closed by it for ever, though a limit that was lowered by
        mistake may be as it was a moment later.
        """
        if _REFUSED_SUBJECT in err_msg.lower():
            await super()._process_err(err_msg)
            return
        logger.warning("NATS ends the connection", extra={"reason": err_msg})
        await self._process_op_err(NatsError(f"nats: {err_msg}"))

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """
        Write what waits; a socket that is closed takes nothing, as if lost on the way.

        nats-py writes inside of whoever publishes, once its own task for that has
        ended, and lets the error of the socket out there. A cancellation it forgets.
        """
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        flushed = None
        try:
            flushed = await super()._flush_pending(force_flush)
        except (OSError, RuntimeError) as error:
            # The latter is uvloop's, of a socket that is closed already.
            logger.debug("NATS client: %s", error)
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
        return flushed

    async def _attempt_reconnect(self) -> None:
        # nats-py waits until the socket has taken what is unsent, which a server that
        # is stuck never reads.
        self.cut()
        await super()._attempt_reconnect()

    def cut(self) -> None:
        """End the connection at once; what is unsent is dropped."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def drop_unwritten(self) -> None:
        """
        Forget what is yet to be written.

        When a connection breaks, nats-py writes it to the next server before anybody is
        told of that: it would overtake what is sent again, and be taken for a loss.
        """
        self._pending.clear()
        self._pending_data_size = 0

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """
        Ask as nats-py does, but never outlive a cancellation.

        Before Python 3.12, ``asyncio.wait_for`` forgets one that comes together with
        the answer, and a job that should have ended goes on for ever.
        """
        try:
            async with asyncio.timeout(timeout):
                # Without a timeout of its own, nats-py does not use wait_for.
                return await super().request(
                    subject,
                    payload,
                    None,  # type: ignore[arg-type]
                    old_style,
                    headers,
                )
        except TimeoutError:
            raise NatsTimeoutError from None

    async def flush(self, timeout: float = 10.0) -> None:
        """
        Wait for the answer to a ping, which may come when nobody waits any more.

        nats-py cancels what waits for it, and stops reading when the answer comes; and
        its ping overtakes what was published and subscribed just before.
        """
        if self.is_closed:
            raise ConnectionClosedError
        pong = asyncio.get_running_loop().create_future()
        try:
            if self._pending and self.is_connected and self._transport:
                self._transport.writelines(self._pending[:])
                self.drop_unwritten()
            await self._send_ping(pong)
        except (OSError, RuntimeError) as error:
            # The latter is uvloop's, of a socket that is closed already.
            raise NatsError(f"nats: {error}") from error
        await asyncio.wait([pong], timeout=timeout)
        if not pong.done():
            raise FlushTimeoutError


class Bus:
    """
    One connection to NATS and what to do when it comes back.

    Attributes:
        nc: The client of nats-py.
        state: Counters, for metrics and readiness.
        tracer: Traces messages, if that is switched on.
        apart: Another connection, whose server this one avoids; it does the same.
    """

    def __init__(self) -> None:
        self.nc = _Client()
        self.state = BusState()
        self.tracer: Tracer | None = None
        self.apart: Bus | None = None
        self._listeners: list[Callable[[], None]] = []
        self._losses: list[Callable[[], None]] = []
        self._answers = Answers()
        self._pauses = backoff(_FIRST_SECONDS, _CEILING_SECONDS)

    @property
    def connected(self) -> bool:
        """Whether messages reach the server now."""
        return self.nc.is_connected

    @property
    def server(self) -> str | None:
        """The address of the server that it has, or had, or tried last."""
        return self.nc.last_server

    @property
    def greeting(self) -> Mapping[str, Any]:
        """What that server has said of itself; empty before there was one."""
        return self.nc.greeting

    def check(self) -> str | None:
        """Return what is wrong, for readiness."""
        if not self.connected:
            return "NATS is not connected"
        if self.state.refused:
            return f"NATS refuses {', '.join(sorted(self.state.refused))}"
        return None

    def on_doubt(self, listener: Callable[[], None]) -> None:
        """
        Call *listener* whenever messages may have been missed.

        That is: the connection came back, or this process read too slowly.
        """
        self._listeners.append(listener)

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever the connection breaks."""
        self._losses.append(listener)

    async def request(
        self, subject: str, payload: bytes = b"", timeout: float = 5.0
    ) -> bytes:
        """
        Return the answer to *payload*, which is asked once there is a connection.

        Raises:
            BusError: If none came in *timeout* seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                # nats-py would ask after an outage what nobody waits for any more.
                while self.nc.is_reconnecting or self.nc.is_connecting:
                    await asyncio.sleep(_LOOK_SECONDS)
                reply = await self.nc.request(subject, payload, timeout=timeout)
        except (NatsError, TimeoutError) as error:
            raise BusError(f"{subject}: {_text(error)}") from error
        return bytes(reply.data)

    async def collect(
        self,
        subject: str,
        payload: bytes,
        take: Lane,
        whole: asyncio.Future[T],
        timeout: float = 5.0,
    ) -> T:
        """
        Return what *whole* becomes, while answers to *payload* are handed to *take*.

        Raises:
            BusError: If it is not whole in *timeout* seconds, or the connection breaks.
        """
        if not self.connected:
            raise BusError("NATS is not connected")
        try:
            async with asyncio.timeout(timeout):
                return await self._answers.collect(
                    self.nc, subject, payload, take, whole
                )
        except (NatsError, TimeoutError) as error:
            raise BusError(f"{subject}: {_text(error)}") from error

    async def publish(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """
        Hand *payload* to the server; nobody confirms it.

        Raises:
            BusError: If there is no connection; nothing is kept for later.
        """
        if not self.connected:
            raise BusError("NATS is not connected")
        try:
            await self.nc.publish(subject, payload, reply=reply)
        except NatsError as error:
            raise BusError(f"{subject}: {_text(error)}") from error

    async def flush(self, timeout: float = 5.0) -> None:
        """
        Wait for the answer to a ping.

        What came before it has been read then, and the server has what was published
        and subscribed before.

        Raises:
            BusError: If none came in *timeout* seconds.
        """
        try:
            await self.nc.flush(timeout)
        except NatsError as error:
            raise BusError(f"flush: {_text(error)}") from error

    def leave(self) -> None:
        """Go to another server, as if this one had ended the connection."""
        self.nc.cut()

    def _doubt(self) -> None:
        for listener in self._listeners:
            listener()

    async def _on_disconnect(self) -> None:
        self.nc.drop_unwritten()
        self._answers.lost()
        if not self.nc.is_closed:
            logger.warning("NATS is away; reconnecting")
            for listener in self._losses:
                listener()

    async def _on_reconnect(self) -> None:
        self.state.reconnects += 1
        self.state.refused.clear()
        self._pauses = backoff(_FIRST_SECONDS, _CEILING_SECONDS)
        logger.info("NATS is back")
        self._doubt()

    async def _on_error(self, error: Exception) -> None:
        text = str(error)
        if isinstance(error, SlowConsumerError):
            self.state.slow_consumer += 1
            logger.warning(
                "messages were dropped: this process reads too slowly",
                extra={"subject": error.subject},
            )
            self._doubt()
        elif _REFUSED_SUBJECT in text.lower():
            # A refused publish looks like a timeout to its caller; this is the only
            # place where the truth arrives.
            subject = text.rsplit('"', 2)[-2] if text.count('"') >= 2 else "a subject"
            if len(self.state.refused) < 16 and subject not in self.state.refused:
                self.state.refused[subject] = text
                logger.error("NATS refuses a subject", extra={"subject": subject})
        else:
            # Each failed attempt of an outage ends up here.
            logger.debug("NATS client: %s", text)

    def _next_server(
        self, pool: list[Server], _: dict[str, Any]
    ) -> tuple[Server, float]:
        avoided = [self.server, self.apart.server if self.apart else None]

        def unwanted(each: Server) -> tuple[int, bool, bool]:
            lost, taken = (each.uri.netloc == server for server in avoided)
            return each.reconnects, lost, taken

        return min(pool, key=unwanted), next(self._pauses)


OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]
"""Opens a connection for as long as the context is open."""


@asynccontextmanager
async def connect_bus(
    settings: ServiceSettings, name: str, *, apart_from: Bus | None = None
) -> AsyncIterator[Bus]:
    """
    Connect to NATS, waiting for it as long as it takes; drain on leaving.

    Args:
        settings: Where NATS is and who we are there.
        name: Of the connection, as the server's monitoring shows it.
        apart_from: A connection that is to have another server, if there is one.
    """
    bus = Bus()
    if apart_from is not None:
        bus.apart, apart_from.apart = apart_from, bus
    if settings.otel_exporter_otlp_endpoint is not None:
        bus.tracer = Tracer(
            name,
            settings.otel_exporter_otlp_endpoint,
            settings.otel_traces_sampler_arg,
        )
    await _connect(bus, settings, name)
    if bus.tracer is not None:
        bus.tracer.wrap(bus.nc)
    logger.info("NATS is connected")
    try:
        yield bus
    finally:
        await _leave(bus)
        if bus.tracer is not None:
            await bus.tracer.close()


def second_bus(settings: ServiceSettings, name: str, bus: Bus) -> OpenBus | None:
    """Return what connects to another server than that of *bus*; None without one."""
    if len(settings.nats_url) < 2:
        return None
    return partial(connect_bus, settings, f"{name}-second", apart_from=bus)


def count_servers(buses: Iterable[Bus]) -> int:
    """Return to how many different servers *buses* are connected now."""
    return len({bus.server for bus in buses if bus.connected})


async def _connect(bus: Bus, settings: ServiceSettings, name: str) -> None:
    pauses = backoff(_FIRST_SECONDS, _CEILING_SECONDS)
    told = False
    while True:
        try:
            await _reachable(settings.nats_url)
            async with asyncio.timeout(_CONNECT_SECONDS):
                await bus.nc.connect(**_options(bus, settings, name))
            return
        except (OSError, NatsError) as error:
            if not told:
                # nats-py tries again by itself for as long as it may; what went wrong
                # each time is all that it keeps.
                reason = bus.nc.last_error or error
                logger.warning("NATS is not there yet: %s", _text(reason))
                told = True
        # A client whose connect was interrupted is of no further use.
        await _close(bus.nc)
        bus.nc = _Client()
        await asyncio.sleep(next(pauses))


def _options(bus: Bus, settings: ServiceSettings, name: str) -> dict[str, Any]:
    password, seed = settings.nats_password, settings.nats_nkey
    options: dict[str, Any] = {
        "servers": _in_turn(bus, settings.nats_url),
        "dont_randomize": True,
        "name": name,
        "user": settings.nats_user,
        "password": password.get_secret_value() if password else None,
        "nkeys_seed_str": seed.get_secret_value() if seed else None,
        "inbox_prefix": settings.nats_inbox,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "connect_timeout": _CONNECT_SECONDS,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "drain_timeout": 2,
        # For so long a publish waits for a server that reads no more.
        "flush_timeout": 1.0,
        "disconnected_cb": bus._on_disconnect,
        "reconnected_cb": bus._on_reconnect,
        "error_cb": bus._on_error,
        "reconnect_to_server_handler": bus._next_server,
    }
    if settings.nats_ca_file is not None:
        options["tls"] = ssl.create_default_context(cafile=str(settings.nats_ca_file))
    return options


def _in_turn(bus: Bus, urls: tuple[str, ...]) -> list[str]:
    """Return *urls* in any order, but last the server that is to be avoided."""
    taken = bus.apart.server if bus.apart else None
    shuffled = random.sample(urls, len(urls))
    return sorted(shuffled, key=lambda url: urlsplit(url).netloc == taken)


async def _reachable(urls: tuple[str, ...]) -> None:
    # nats-py would retry by itself inside connect(), for ever and without jitter.
    last: OSError = OSError("no server")
    for url in urls:
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or 4222
                )
            writer.close()
            return
        except OSError as error:
            last = error
    raise last


async def _leave(bus: Bus) -> None:
    try:
        if bus.connected:
            async with asyncio.timeout(5):
                await bus.nc.drain()
                return
    except (OSError, NatsError) as error:
        logger.debug("drain: %s", _text(error))
    await _close(bus.nc)


async def _close(nc: _Client) -> None:
    # In a task of its own: closing in the middle of a reconnect, nats-py lets the
    # cancellation of its inner tasks out, which must not be taken for ours.
    nc.drop_unwritten()
    nc.cut()
    closing = asyncio.ensure_future(nc.close())
    await asyncio.wait([closing])
    # Asked for, lest asyncio reports it: a client that never found a server has none
    # to leave, and says so.
    if not closing.cancelled() and (error := closing.exception()):
        logger.debug("close: %s", _text(error))


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
