"""
Which symbols somebody wants, told over NATS and added up by the ingest.

Whoever wants symbols (an edge for its clients, or any other service) announces its
whole list on ``demand.<who>``: at each change and every few seconds. Who falls silent
is forgotten. A symbol that nobody wants any more is kept for a grace period, so that
a page reload or an edge restart costs the upstream nothing. Lists are whole, never
differences: a lost announcement is mended by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from nats.aio.msg import Msg

from feedmesh import subjects
from feedmesh.bus import Bus
from feedmesh.canary import is_canary
from feedmesh.errors import BusError
from feedmesh.stored import read_from
from feedmesh.streams import PINS
from feedmesh.symbols import parse_symbol


__all__ = [
    "ANNOUNCE_SECONDS",
    "DemandAnnouncer",
    "DemandBook",
    "DemandListener",
    "read_pins",
    "write_pins",
]

logger = logging.getLogger(__name__)

ANNOUNCE_SECONDS: Final = 3.0
# Announcers that have missed this many seconds are gone.
_SILENCE_SECONDS = 4 * ANNOUNCE_SECONDS
_MAX_ANNOUNCERS = 1000
_PINS_SECONDS = 1.0


class Announcement(msgspec.Struct, frozen=True):
    """Everything that *who* wants; replaces what it announced before."""

    v: int
    who: str
    symbols: tuple[str, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Announcement).decode


class DemandBook:
    """
    The union of what is wanted; no I/O, time is an argument.

    Args:
        grace_seconds: How long a symbol is kept after the last who wanted it.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._lists: dict[str, tuple[float, frozenset[str]]] = {}
        self._last_wanted: dict[str, float] = {}

    def announce(self, who: str, symbols: Iterable[str], now: float) -> None:
        """Take *symbols* as all that *who* wants at *now*."""
        if who in self._lists or len(self._lists) < _MAX_ANNOUNCERS:
            self._lists[who] = (now, frozenset(symbols))

    def hold(self, now: float) -> None:
        """Take all as if it had been announced at *now*, when nobody can be heard."""
        self._lists = {who: (now, names) for who, (_, names) in self._lists.items()}
        self._last_wanted = dict.fromkeys(self._last_wanted, now)

    def wanted(self, now: float) -> frozenset[str]:
        """Return what should flow at *now*."""
        for who, (heard, _) in list(self._lists.items()):
            if now - heard > _SILENCE_SECONDS:
                del self._lists[who]
        for _, symbols in self._lists.values():
            self._last_wanted.update(dict.fromkeys(symbols, now))
        for symbol, at in list(self._last_wanted.items()):
            if now - at > self._grace:
                del self._last_wanted[symbol]
        return frozenset(self._last_wanted)


class DemandAnnouncer:
    """Announces what *wanted* returns, under the name *who*, for ever."""

    def __init__(self, bus: Bus, who: str, wanted: Callable[[], Iterable[str]]) -> None:
        self._bus = bus
        self._who = who
        self._wanted = wanted
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Say that what is wanted has changed; it is announced at once."""
        self._changed.set()

    async def run(self) -> None:
        """Announce at each change, when asked, and every few seconds."""

        async def asked(_: Msg) -> None:
            self._changed.set()

        await self._bus.nc.subscribe(subjects.DEMAND_ASK, cb=asked)
        while True:
            self._changed.clear()
            await self._announce(tuple(sorted(self._wanted())))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_SECONDS):
                    await self._changed.wait()
                    # Several changes in a row are one announcement.
                    await asyncio.sleep(0.02)

    async def farewell(self) -> None:
        """Announce that nothing is wanted any more, on leaving."""
        await self._announce(())

    async def _announce(self, symbols: tuple[str, ...]) -> None:
        payload = _encode(Announcement(1, self._who, symbols))
        with contextlib.suppress(BusError):  # the next announcement mends it
            await self._bus.publish(subjects.demand(self._who), payload)


class DemandListener:
    """
    Hears announcements and pins, and tells *changed* what should flow.

    Pins are symbols that stay wanted without any client, until somebody takes them
    back; they lie in a stream and so outlive every service.

    Args:
        bus: The connection.
        always: Symbols that are wanted in any case.
        grace_seconds: As for :class:`DemandBook`.
        changed: Called with the whole set whenever it may have changed.
    """

    def __init__(
        self,
        bus: Bus,
        always: Iterable[str],
        grace_seconds: float,
        changed: Callable[[frozenset[str]], None],
    ) -> None:
        self._bus = bus
        self._always = frozenset(always)
        self._book = DemandBook(grace_seconds)
        self._pinned: frozenset[str] = frozenset()
        self._changed = changed
        self._wake = asyncio.Event()
        self._pins_due = True
        self._pins_read_at = 0.0
        bus.on_doubt(self._doubt)

    async def run(self) -> None:
        """Listen for ever."""
        await self._bus.nc.subscribe(subjects.ALL_DEMAND, cb=self._heard)
        await self._bus.nc.subscribe(subjects.ALL_PINS, cb=self._pins_changed)
        await self._ask()
        while True:
            self._wake.clear()
            now = asyncio.get_running_loop().time()
            # Read again in any case: a pin may be heard before the stream has it.
            if self._pins_due or now - self._pins_read_at >= _PINS_SECONDS:
                self._pins_read_at = now
                await self._read_pins()
            if not self._bus.connected:
                self._book.hold(asyncio.get_running_loop().time())
            self._changed(self._always | self._pinned | self._book.wanted(now))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PINS_SECONDS):
                    await self._wake.wait()

    def _doubt(self) -> None:
        self._pins_due = True
        self._wake.set()

    async def _ask(self) -> None:
        with contextlib.suppress(BusError):
            await self._bus.publish(subjects.DEMAND_ASK, b"")

    async def _heard(self, message: Msg) -> None:
        try:
            announcement = _decode(message.data)
            parsed = map(parse_symbol, announcement.symbols)
            symbols = [symbol for symbol in parsed if not is_canary(symbol)]
        except (msgspec.DecodeError, ValueError, UnicodeDecodeError):
            logger.warning("an announcement of demand makes no sense")
            return
        now = asyncio.get_running_loop().time()
        self._book.announce(announcement.who, symbols, now)
        self._wake.set()

    async def _pins_changed(self, _: Msg) -> None:
        self._doubt()

    async def _read_pins(self) -> None:
        try:
            pinned = await read_pins(self._bus)
            self._pinned = frozenset(s for s in pinned if not is_canary(s))
            self._pins_due = False
        except BusError as error:
            logger.debug("pins: %s", error)


async def read_pins(bus: Bus) -> frozenset[str]:
    """
    Return the pinned symbols.

    Raises:
        BusError: If the stream does not answer.
    """
    pinned = {}
    async for message in read_from(bus, PINS, 1, subjects.ALL_PINS):
        # An empty payload takes the pin back.
        pinned[subjects.tokens(message.subject)[1]] = bool(message.payload)
    return frozenset(symbol for symbol, kept in pinned.items() if kept)


async def write_pins(bus: Bus, symbols: Iterable[str], *, kept: bool) -> None:
    """
    Pin *symbols*, or take their pins back; returns when the stream has it.

    Raises:
        BusError: If the stream does not confirm.
    """
    for symbol in symbols:
        await bus.request(subjects.pin(symbol), b'{"v":1}' if kept else b"")
