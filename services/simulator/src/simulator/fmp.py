"""
The sockets of Financial Modeling Prep: the three legacy ones and the current one.

FMP documentation: the upgrade always succeeds, the login message decides, and a bad key
is refused by a JSON frame on an open socket. Where public sources disagree the default
is the better attested behaviour, and a fault switches to the other.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from simulator.faults import Fault, FaultBook
from simulator.fmp_frames import (
    Shape,
    control_text,
    heartbeat_text,
    quote_text,
    tick_text,
)
from simulator.journal import Journal
from simulator.malformed import VARIANTS
from simulator.market import Tape
from simulator.universe import (
    Instrument,
    crypto_pairs,
    forex_pairs,
    streams,
    us_stocks,
)
from simulator.upstream import Connection
from simulator.wire import encode_text


AUTHENTICATED = "Authenticated"
UNAUTHORIZED = "Unauthorized"
ANOTHER_LOCATION = "Connected from another location"
MAX_CONNECTIONS = "Maximum number of connections reached"
NOT_AUTHORIZED_LONG = "You are not authorized to use this endpoint"

_LEGACY: dict[str, Sequence[Instrument]] = {
    "fmp.stocks": us_stocks(),
    "fmp.crypto": crypto_pairs(),
    "fmp.forex": forex_pairs(),
}


@dataclass
class FmpSession:
    """One connection as the product sees it."""

    connection: Connection
    key: str | None = None
    refused: bool = False
    names: set[str] = field(default_factory=set)


@dataclass
class FmpOptions:
    """How the sockets behave when no fault says otherwise."""

    keys: frozenset[str] = frozenset({"simulator"})
    slot: str = "refuse_new"
    wildcard: bool = True
    heartbeat_seconds: float = 10.0
    shape: Shape = field(default_factory=Shape)


class FmpSocket:
    """One port of FMP; its application and the source of its prices."""

    def __init__(
        self,
        target: str,
        seed: int,
        options: FmpOptions,
        faults: FaultBook,
        journal: Journal,
    ) -> None:
        self.target = target
        self.current = target == "fmp.stream"
        self.sessions: dict[int, FmpSession] = {}
        self._options = options
        self._faults = faults
        self._journal = journal
        self._seed = seed
        self._random = random.Random(f"{seed}/{target}")
        self._instruments = {i.symbol: i for i in _LEGACY.get(target, ())}
        self._tapes: dict[tuple[str, str], Tape] = {}
        self._wanted: Counter[str] = Counter()
        self._active: tuple[str, ...] = ()
        self._busy: dict[str, float] = {}
        self._logins = itertools.count()
        self._last_heartbeat = time.monotonic()

    # What the server asks of an application.

    def accepts(self, path: str) -> bool:
        """Every path is answered; FMP has none of its own."""
        return True

    def opened(self, connection: Connection) -> None:
        """Wait for the login."""
        self.sessions[connection.id] = FmpSession(connection)

    def closed(self, connection: Connection) -> None:
        """Forget the ticker list; after a crash the slot may stay busy."""
        session = self.sessions.pop(connection.id)
        self._forget(session)
        fault = self._faults.peek(self.target, "slot_busy")
        if fault and session.key and (not connection.clean or fault.get("also_clean")):
            self._busy[session.key] = time.monotonic() + float(fault.get("seconds", 5))

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Answer a login, a subscribe or an unsubscribe; ignore anything else."""
        session = self.sessions[connection.id]
        try:
            order = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        data = order.get("data") if isinstance(order, dict) else None
        if not isinstance(order, dict) or not isinstance(data, dict):
            return
        match order.get("event"):
            case "login":
                self._login(session, data.get("apiKey"))
            case "subscribe":
                self._subscribe(session, data, add=True)
            case "unsubscribe":
                self._subscribe(session, data, add=False)

    # Login and slots.

    def _login(self, session: FmpSession, key: object) -> None:
        who = next(self._logins)
        fault = self._faults.strike(self.target, "login", who)
        late = float(fault.get("late", 0)) if fault else 0.0
        if fault and (first := int(fault.get("data_first", 0))):
            self._data_before_login(session, first)
        session.connection.after_or_now(
            late, lambda: self._answer_login(session, key, fault)
        )

    def _answer_login(
        self, session: FmpSession, key: object, fault: Fault | None
    ) -> None:
        connection = session.connection
        reply = str(fault.get("reply", "ok")) if fault else "ok"
        if reply == "none":
            return
        status, message = self._judge(session, key, reply)
        if fault:
            status = fault.get("status", status)
            message = fault.get("message", message)
        session.refused = status != 200
        if status == 200:
            session.key = str(key)
            self._journal.logins += 1
        else:
            self._journal.failed_logins += 1
        nested = self.current
        if fault and "shape" in fault.params:
            nested = fault.get("shape") == "nested"
        connection.say(control_text("login", status, message, nested=nested))
        if status == 200:
            connection.schedule_end("login")
        if fault and fault.get("close_after"):
            connection.close(fault.get("close_code", 1000))

    def _judge(self, session: FmpSession, key: object, reply: str) -> tuple[int, str]:
        match reply:
            case "unauthorized":
                return 401, UNAUTHORIZED
            case "another_location":
                return 401, ANOTHER_LOCATION
            case "max_connections":
                return 401, MAX_CONNECTIONS
            case "not_authorized_text":
                return 401, NOT_AUTHORIZED_LONG
        if key not in self._options.keys:
            return 401, UNAUTHORIZED
        return self._slot(session, str(key), kick=reply == "kick_old")

    def _slot(self, session: FmpSession, key: str, *, kick: bool) -> tuple[int, str]:
        refusal = 401, MAX_CONNECTIONS if self.current else ANOTHER_LOCATION
        if time.monotonic() < self._busy.get(key, 0.0):
            return refusal
        fault = self._faults.peek(self.target, "slot")
        policy = str(fault.get("policy")) if fault else self._options.slot
        others = [s for s in self.sessions.values() if s.key == key]
        others = [other for other in others if other is not session]
        if not others or (policy == "unlimited" and not kick):
            return 200, AUTHENTICATED
        if policy == "refuse_new" and not kick:
            return refusal
        for other in others:
            # FMP documentation leaves open which frame the loser sees; one public
            # client finds this text in the running stream.
            other.connection.say(
                control_text("login", 401, refusal[1], nested=self.current)
            )
            other.key = None
            other.connection.close(1000)
        return 200, AUTHENTICATED

    def _data_before_login(self, session: FmpSession, count: int) -> None:
        name = (
            "fmp-us-equities-stream" if self.current else next(iter(self._instruments))
        )
        for text in itertools.islice(self._texts(name), count):
            session.connection.say(text)

    # Subscriptions.

    def _subscribe(
        self, session: FmpSession, data: dict[str, Any], *, add: bool
    ) -> None:
        if self.current and session.key is None:
            # Reported for the current product: dropped without a word. The legacy
            # one takes a subscribe sent right behind the login.
            return
        event = "subscribe" if add else "unsubscribe"
        fault = session.connection.fault("subscribe_ack")
        mode = fault.get("mode", "normal") if fault else "normal"
        status = int(fault.get("status", 200)) if fault else 200
        if session.refused:
            status = 401
        names = self._names(data)
        if status == 200:
            accepted = names[: len(names) // 2] if mode == "partial" else names
            self._change(session, accepted, add=add)
        if mode == "none":
            return
        # The text of a success is not public; this one is invented.
        message = UNAUTHORIZED if status == 401 else f"{event.capitalize()}d"
        nested = bool(fault and fault.get("shape") == "nested")
        if fault and "message" in fault.params:
            message = fault.get("message")
        text = control_text(event, status, message, nested=nested)
        late = float(fault.get("late", 1 if mode == "late" else 0)) if fault else 0.0
        session.connection.after_or_now(late, lambda: session.connection.say(text))

    def _names(self, data: dict[str, Any]) -> list[str]:
        given = data.get("stream" if self.current else "ticker")
        listed = given if isinstance(given, list) else [given]
        names = [name.lower() for name in listed if isinstance(name, str)]
        return [name for name in names if self._known(name)]

    def _known(self, name: str) -> bool:
        if self.current:
            return name.removesuffix("-delayed") in streams()
        return name in self._instruments or (name == "*" and self._options.wildcard)

    def _change(self, session: FmpSession, names: Iterable[str], *, add: bool) -> None:
        changed = set(names)
        if add:
            self._wanted.update(changed - session.names)
            session.names |= changed
        else:
            self._wanted.subtract(changed & session.names)
            session.names -= changed
        self._refresh()

    def _forget(self, session: FmpSession) -> None:
        self._wanted.subtract(session.names)
        session.names.clear()
        self._refresh()

    def _refresh(self) -> None:
        active = sorted(name for name, count in self._wanted.items() if count > 0)
        if "*" in active:
            active = sorted(self._instruments)
        self._active = tuple(active)

    def subscriptions(self) -> list[str]:
        """Return every ticker or stream that somebody is subscribed to."""
        return sorted(name for name, count in self._wanted.items() if count > 0)

    # Data.

    def weight(self) -> int:
        """Return how many symbols are being generated for."""
        if not any(session.key for session in self.sessions.values()):
            return 0
        return len(self._active)

    def emit(self, count: int) -> None:
        """Generate *count* events of subscribed symbols and send them."""
        if not self._active or count <= 0:
            return
        shape = self._shape()
        batch: list[tuple[str, bytes]] = []
        now = time.time_ns()
        for index in range(count):
            name = self._random.choice(self._active)
            # A few microseconds apart, so that a batch does not share one stamp.
            text = self._text(name, now + index * 7_000, shape)
            batch.extend((name, frame) for frame in self._frames(text, shape))
        self._deliver(batch)

    def inject(self, encoded: bytes, frames: int) -> int:
        """Send *encoded* to everyone logged in and return how many that is."""
        sessions = [
            session
            for session in self.sessions.values()
            if session.key is not None and not session.connection.closing
        ]
        for session in sessions:
            session.connection.send(encoded, frames)
        return len(sessions)

    def sample(self) -> bytes:
        """Return the payload of one good data frame."""
        name = (
            "fmp-us-equities-stream" if self.current else next(iter(self._instruments))
        )
        return next(self._texts(name)).encode()

    def beat(self, now: float) -> None:
        """Send a heartbeat to everyone logged in if it is time."""
        fault = self._faults.peek(self.target, "heartbeat")
        if fault and fault.get("mode") == "off":
            return
        interval = self._options.heartbeat_seconds
        if fault:
            interval = float(fault.get("interval", interval))
        if now < self._last_heartbeat + interval:
            return
        self._last_heartbeat = now
        stamped = self.current
        if fault:
            stamped = bool(fault.get("timestamp", stamped))
        encoded = encode_text(heartbeat_text(timestamp=stamped))
        for session in self.sessions.values():
            if session.key is not None and not session.connection.fault("silence"):
                session.connection.send(encoded, 1)

    def _shape(self) -> Shape:
        fault = self._faults.peek(self.target, "shape")
        if fault is None:
            return self._options.shape
        return Shape.read(fault.params, self._options.shape)

    def _first_name(self) -> str:
        return next(iter(streams() if self.current else self._instruments))

    def _texts(self, name: str) -> Iterator[str]:
        while True:
            yield self._text(name, time.time_ns(), self._shape())

    def _text(self, name: str, nanoseconds: int, shape: Shape) -> str:
        late = self._faults.peek(self.target, "out_of_order")
        if late and self._random.random() < float(late.get("ratio", 0.5)):
            nanoseconds -= int(float(late.get("seconds", 5)) * 1e9)
        if not self.current:
            venue = self._random.choice(shape.venues)
            tape = self._tape(self._instruments[name], venue)
            tick = tape.next()
            while tick.kind not in shape.types and tape.instrument.market != "forex":
                tick = tape.next()
            return tick_text(tape, tick, nanoseconds, shape, venue)
        instrument = self._random.choice(streams()[name.removesuffix("-delayed")])
        tape = self._tape(instrument, "")
        if self._random.random() >= shape.rebroadcast:
            while tape.next().kind != ("Q" if instrument.market == "forex" else "T"):
                pass
        return quote_text(tape, nanoseconds, shape, delayed=name.endswith("-delayed"))

    def _tape(self, instrument: Instrument, venue: str) -> Tape:
        key = instrument.symbol, venue
        if key not in self._tapes:
            # The first venue shares the seed of a feed that names none.
            label = "" if venue in ("", "binance") else venue
            self._tapes[key] = Tape(self._seed, instrument, label)
        return self._tapes[key]

    def _frames(self, text: str, shape: Shape) -> Iterator[bytes]:
        if shape.array > 1:
            text = "[" + ",".join([text] * shape.array) + "]"
        frame = encode_text(text)
        yield frame
        if shape.unknown_events:
            yield encode_text('{"event":"maintenance","message":"unknown event"}')
        twice = self._faults.peek(self.target, "duplicate")
        if twice and self._random.random() < float(twice.get("ratio", 1.0)):
            yield from [frame] * int(twice.get("copies", 1))
        bad = self._faults.peek(self.target, "malformed")
        if bad and self._random.random() < float(bad.get("ratio", 0.1)):
            yield VARIANTS[str(bad.get("variant", "not_json"))](text.encode())

    def _deliver(self, batch: list[tuple[str, bytes]]) -> None:
        for session in self.sessions.values():
            connection = session.connection
            if session.key is None or not session.names:
                continue
            if connection.fault("silence") or connection.fault("heartbeats_only"):
                continue
            if "*" in session.names:
                frames = [frame for _, frame in batch]
            else:
                frames = [frame for name, frame in batch if name in session.names]
            if frames:
                connection.send(b"".join(frames), len(frames))
