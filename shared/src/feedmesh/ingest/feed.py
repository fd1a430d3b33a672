"""
Keep one upstream link alive and its frames flowing.

A service says how to talk (`dialect`) and what frames mean (the *handle*
function); everything that is the same for every upstream is here: connecting within a
limit, telling refusal from loss, backing off with jitter, noticing silence, and
reconciling subscriptions for as long as the link lives.

Only data resets the back-off: an upstream that accepts us and then hangs up must be
approached ever more slowly. For a link that may be quiet, having stayed up for a while
with its subscriptions confirmed counts as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from feedmesh.backoff import ConnectLimiter
from feedmesh.clock import now_ns
from feedmesh.errors import FeedBusyError, FeedError, FeedLostError, FeedRefusedError
from feedmesh.ingest.dialect import Answer, Control, Dialect, Opened
from feedmesh.ingest.link_figures import LinkFigures
from feedmesh.ingest.pauses import LinkPauses, Pauses, usual_pauses
from feedmesh.ingest.subscriptions import SubscriptionBook, Verb
from feedmesh.ingest.wire import Wire
from feedmesh.metrics import IngestMetrics
from feedmesh.status import LinkState, LinkStatus


__all__ = ["Handle", "Link", "LinkLimits"]

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.25


_ANSWERS: dict[Control, tuple[Verb, bool]] = {
    Control.SUBSCRIBED: ("subscribe", True),
    Control.UNSUBSCRIBED: ("unsubscribe", True),
    Control.SUBSCRIBE_REFUSED: ("subscribe", False),
    Control.UNSUBSCRIBE_REFUSED: ("unsubscribe", False),
}


class LinkLimits(NamedTuple):
    """
    Seconds and counts that a link keeps to.

    Attributes:
        open_seconds: For connecting and logging in together.
        silence_seconds: Without any frame, after which the link is presumed dead.
        pace_seconds: Between two requests to the upstream.
        healthy_seconds: Up and confirmed for so long, a quiet link counts as good.
        connects_per_minute: Whatever happens, not more connects than this.
    """

    open_seconds: float = 30.0
    silence_seconds: float = 75.0
    pace_seconds: float = 0.0
    healthy_seconds: float = 60.0
    connects_per_minute: int = 10


Handle = Callable[[str, bytes, int], Awaitable[None]]
"""Given the link's name, a data frame, and the instant of its receipt in ns."""


class Link:
    """
    One upstream connection, for ever.

    Args:
        dialect: How to talk.
        book: What should flow; its owner calls :meth:`want`.
        handle: Gets every data frame, in order.
        metrics: Of the feed.
        limits: Times and counts.
        pauses: Makes the series of pauses between attempts.
        changed: Called when the status has changed in kind, not in age.
        rests: Whether it stays unconnected until something is wanted from it.
        owed: Returns whether something is due now. While nothing is, silence is no
            fault; but whoever sends heartbeats owes them at all times.
    """

    def __init__(
        self,
        dialect: Dialect,
        book: SubscriptionBook,
        handle: Handle,
        metrics: IngestMetrics,
        limits: LinkLimits | None = None,
        *,
        pauses: Pauses = usual_pauses,
        changed: Callable[[], None] = lambda: None,
        rests: bool = False,
        owed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = dialect.link
        self._dialect = dialect
        self._book = book
        self._handle = handle
        self._figures = LinkFigures(metrics, self.name)
        self._limits = limits or LinkLimits()
        self._pauses = LinkPauses(pauses)
        self._changed = changed
        self._rests = rests
        self._owed = owed
        self._renew = ""
        self._due = asyncio.Event()
        self._wire: Wire | None = None
        self._leaving = False
        self._gone = asyncio.Event()
        self._limiter = ConnectLimiter(self._limits.connects_per_minute)
        self._state = LinkState.CONNECTING
        self._since_ns = now_ns()
        self._flows_ns: int | None = None
        self._last_frame_ns: int | None = None
        self._last_data_ns = 0
        self._data_frames = 0
        self._narrowed = 0
        self._alive = False
        self._logged_in = False
        self._heartbeats = False
        self._reason: str | None = None
        self._ended = 0
        self._heard = 0.0

    def want(self, keys: frozenset[str]) -> None:
        """Have *keys* flow, and nothing else."""
        if keys != self._book.desired:
            self._narrowed += len(self._book.desired - keys)
            self._book.want(keys)
            self._show_subscriptions()
            self._due.set()
            self._changed()

    def renew(self, reason: str) -> None:
        """Have the connection closed and opened anew, if there is one."""
        self._renew = reason
        self._due.set()

    def status(self) -> LinkStatus:
        """Return what is known about the link now."""
        return LinkStatus(
            state=self._state,
            since_ns=self._since_ns,
            last_frame_ns=self._last_frame_ns,
            reconnects=self._ended,
            reason=self._reason,
            desired=len(self._book.desired),
            confirmed=len(self._book.confirmed),
            alive=self._alive,
            logged_in=self._logged_in,
            last_data_ns=self._last_data_ns or None,
            data_frames=self._data_frames,
            narrowed=self._narrowed,
            flows_ns=self._flows_ns,
        )

    async def run(self) -> None:
        """Connect, read, and start again, until cancelled; may then be run again."""
        self._leaving = False
        self._gone.clear()
        try:
            await self._run()
        finally:
            self._book.connection_lost()
            self._show_subscriptions()
            self._enter(LinkState.CONNECTING, None)

    async def leave(self, seconds: float) -> None:
        """
        Close the connection for good, and handle all that was sent until then.

        Cancelling :meth:`run` loses what the upstream had sent and nobody had read.

        Args:
            seconds: For how long at most.
        """
        self._leaving = True
        if self._wire is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wire.leave()
                await self._gone.wait()

    async def _run(self) -> None:
        while True:
            await self._wait_until_wanted()
            await self._wait_for_turn()
            error = await self._one_connection()
            # A task group that fails while it is cancelled reports only the failure.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError
            if self._leaving:
                self._gone.set()
                await asyncio.Event().wait()
            self._book.connection_lost()
            self._show_subscriptions()
            self._ended += 1
            self._figures.ended(error.reason)
            pause = self._pauses.after(error)
            # An outage is one line, however often its end is looked for.
            told = error.reason == self._reason
            self._enter(_state_after(error), error.reason)
            logger.log(
                logging.DEBUG if told else logging.WARNING,
                "link was lost",
                extra={"link": self.name, "reason": error.reason, "retry_in": pause},
            )
            await asyncio.sleep(pause)

    async def _wait_until_wanted(self) -> None:
        while self._rests and not self._book.desired:
            self._enter(LinkState.IDLE, None)
            self._due.clear()
            await self._due.wait()

    async def _wait_for_turn(self) -> None:
        loop = asyncio.get_running_loop()
        while (pause := self._limiter.wait(loop.time())) > 0:
            await asyncio.sleep(pause)
        self._figures.connecting()

    async def _one_connection(self) -> FeedError:
        """Return why the connection ended."""
        try:
            async with self._opened() as opened, asyncio.TaskGroup() as group:
                self._wire = opened.wire
                self._alive = True
                self._logged_in = opened.logged_in
                self._heartbeats = False
                self._flows_ns = None
                self._enter(LinkState.LIVE, None)
                logger.info("link is up", extra={"link": self.name})
                self._heard = asyncio.get_running_loop().time()
                tend = group.create_task(self._tend(opened.wire), name="tend")
                try:
                    await self._read(opened)
                finally:
                    tend.cancel()
        except FeedError as error:
            return _bare(error)
        except BaseExceptionGroup as errors:
            found, other = errors.split(FeedError)
            if found is None or other is not None:
                raise
            # Each group is held by frames that its own traceback holds.
            errors.__traceback__ = found.__traceback__ = None
            return _bare(_first(found))
        finally:
            self._wire = None
            self._alive = self._logged_in = False
        raise AssertionError("a link ends only by an error")

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Opened]:
        if self._state not in (LinkState.BUSY, LinkState.REFUSED):
            self._enter(LinkState.CONNECTING, self._reason)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._limits.open_seconds):
                    opened = await stack.enter_async_context(self._dialect.open())
            except TimeoutError:
                raise FeedLostError("open_timeout") from None
            finally:
                # Not before: the upstream counts by when a connect reaches it.
                self._limiter.connected(asyncio.get_running_loop().time())
            yield opened

    async def _read(self, opened: Opened) -> None:
        for frame in opened.early:
            await self._take(frame)
        while True:
            await self._take(await opened.wire.receive())

    async def _take(self, frame: bytes) -> None:
        received_ns = now_ns()
        self._last_frame_ns = received_ns
        self._heard = asyncio.get_running_loop().time()
        reading = self._dialect.read(frame)
        if reading is None:
            self._last_data_ns = received_ns
            self._data_frames += 1
            self._pauses.good()
            self._note_flow(received_ns, data=True)
            await self._handle(self.name, frame, received_ns)
            return
        control, about = reading if isinstance(reading, Answer) else (reading, "")
        self._figures.control(control.value)
        if control is Control.HEARTBEAT:
            self._heartbeats = True
        elif control in _ANSWERS:
            self._answered(*_ANSWERS[control], about)
        self._note_flow(received_ns, data=False)

    def _note_flow(self, received_ns: int, *, data: bool) -> None:
        if self._flows_ns is None and self._book.flows(data=data):
            self._flows_ns = received_ns
            # Whoever watches gaps need not look for this.
            self._changed()

    def _answered(self, verb: Verb, agreed: bool, about: str) -> None:
        if agreed:
            self._logged_in = True
            self._book.acknowledged(verb, about)
            self._show_subscriptions()
            self._changed()
            return
        request = self._book.refused(verb, about)
        count = len(request.keys) if request else 0
        # A link that brings nothing is left for a slow retry; one that brings some of
        # what was asked goes on, and the book asks for the rest again later.
        if verb == "subscribe" and self._book.hopeless:
            raise FeedRefusedError("subscribe_refused", f"{count} keys")
        logger.warning(
            "a request was refused",
            extra={"link": self.name, "verb": verb, "keys": count},
        )

    async def _tend(self, wire: Wire) -> None:
        """Ask for what is due, and give up a link that has gone silent."""
        loop = asyncio.get_running_loop()
        opened_at = loop.time()
        self._renew = ""
        while True:
            self._due.clear()
            if self._renew:
                raise FeedLostError(self._renew)
            for request in () if self._leaving else self._book.due(loop.time()):
                await wire.send(self._dialect.ask(request))
                await asyncio.sleep(self._limits.pace_seconds)
            self._figures.unanswered(self._book.unanswered)
            self._book.unanswered = 0
            self._check_health(loop.time(), opened_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._due.wait()

    def _check_health(self, now: float, opened_at: float) -> None:
        self._figures.heard(self._last_frame_ns or 0, self._last_data_ns)
        silent = now - self._heard > self._limits.silence_seconds
        if silent and (self._heartbeats or self._owed()):
            raise FeedLostError("silent")
        confirmed = self._book.desired <= self._book.confirmed
        if confirmed and now - opened_at > self._limits.healthy_seconds:
            self._pauses.good()

    def _enter(self, state: LinkState, reason: str | None) -> None:
        self._reason = reason
        if state is not self._state:
            self._state = state
            self._since_ns = now_ns()
        self._figures.entered(state)
        self._changed()

    def _show_subscriptions(self) -> None:
        book = self._book
        self._figures.subscriptions(len(book.desired), len(book.confirmed))


def _state_after(error: FeedError) -> LinkState:
    if isinstance(error, FeedBusyError):
        return LinkState.BUSY
    if isinstance(error, FeedRefusedError):
        return LinkState.REFUSED
    return LinkState.DOWN


def _first(group: BaseExceptionGroup[FeedError]) -> FeedError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FeedError)
    return error


def _bare(error: FeedError) -> FeedError:
    """
    Return *error* without frames, and with them the connection, which they would hold.

    A connection takes 200 KiB, and may wait for hours until the collector finds it.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
