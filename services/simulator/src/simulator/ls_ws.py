"""
The WebSocket of LS Securities: registrations, acknowledgements, news and equities.

LS Open API portal: no authentication at the upgrade, the bare token in every message.
An acknowledgement has `header.rsp_cd`; a token with `Bearer` in front of it makes a
guest who is told nothing at all.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from simulator.clock import Clock
from simulator.faults import Fault, FaultBook
from simulator.journal import Journal
from simulator.korea import KoreanTape, OverseasTape
from simulator.ls_frames import (
    ACCEPTED,
    EQUITY_TRS,
    ack_text,
    data_text,
    message_text,
    news_text,
    shift,
    split_key,
)
from simulator.ls_tokens import Token, TokenStore
from simulator.malformed import VARIANTS
from simulator.news import NewsItem
from simulator.universe import companies_by_code, us_stocks
from simulator.upstream import Connection
from simulator.wire import encode_text


_NEW_YORK_BEHIND = timedelta(hours=14)
_INTERRUPTION_SHARE = 0.01
_KEPT_NEWS = 5_000

NewsArchive = OrderedDict[str, tuple[NewsItem, float]]


def remember(archive: NewsArchive, item: NewsItem, at: float) -> None:
    """Keep *item* for `t3102`, the oldest giving way."""
    archive[item.realkey] = item, at
    while len(archive) > _KEPT_NEWS:
        archive.popitem(last=False)


@dataclass
class LsSession:
    """One connection as the product sees it."""

    connection: Connection
    token: Token | None = None
    keys: set[tuple[str, str]] = field(default_factory=set)
    told_of_expiry: bool = False
    muted: bool = False


class LsSocket:
    """One port of LS, real or paper; its application and its source of data."""

    def __init__(
        self,
        target: str,
        seed: int,
        tokens: TokenStore,
        clock: Clock,
        faults: FaultBook,
        journal: Journal,
        write_news: Callable[[], NewsItem],
    ) -> None:
        self.target = target
        self.sessions: dict[int, LsSession] = {}
        self._kind = "paper" if target == "ls.paper" else "real"
        self._seed = seed
        self._tokens = tokens
        self._clock = clock
        self._faults = faults
        self._journal = journal
        self._write_news = write_news
        self._random = random.Random(f"{seed}/{target}")
        self._tapes: dict[str, KoreanTape] = {}
        self._overseas: dict[str, OverseasTape] = {}
        self._wanted: Counter[tuple[str, str]] = Counter()
        self._active: tuple[tuple[str, str], ...] = ()

    # What the server asks of an application.

    def accepts(self, path: str) -> bool:
        """Only one path is answered; on others the upgrade times out."""
        return path.partition("?")[0] == "/websocket"

    def opened(self, connection: Connection) -> None:
        """Wait for registrations."""
        self.sessions[connection.id] = LsSession(connection)

    def closed(self, connection: Connection) -> None:
        """Drop the registrations by ourselves, as the server does."""
        session = self.sessions.pop(connection.id)
        self._wanted.subtract(session.keys)
        self._refresh()

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Answer a registration; ignore what makes no sense."""
        try:
            order = msgspec.json.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        header = order.get("header") if isinstance(order, dict) else None
        body = order.get("body") if isinstance(order, dict) else None
        if not isinstance(header, dict):
            return
        token = header.get("token")
        if isinstance(token, str) and token.lower().startswith("bearer"):
            return
        body = body if isinstance(body, dict) else {}
        session = self.sessions[connection.id]
        tr_type = str(header.get("tr_type"))
        tr_cd, tr_key = body.get("tr_cd"), str(body.get("tr_key") or "")
        self._register(session, token, tr_type, tr_cd, tr_key)

    # Registrations.

    def _register(
        self,
        session: LsSession,
        token: object,
        tr_type: str,
        tr_cd: Any,
        tr_key: str,
    ) -> None:
        fault = self._ack_fault(tr_cd, session)
        code = self._judge(session, token, tr_type, tr_cd, tr_key)
        if fault and fault.get("variant") == "reject":
            code = str(fault.get("code", "IGW00121"))
        if code == ACCEPTED:
            self._journal.logins += 1
            self._change(session, tr_type, str(tr_cd), tr_key)
        else:
            self._journal.failed_logins += 1
        self._acknowledge(session, fault, code, tr_type, tr_cd, tr_key)

    def _judge(
        self,
        session: LsSession,
        token: object,
        tr_type: str,
        tr_cd: Any,
        tr_key: str,
    ) -> str:
        found, wrong = self._tokens.check(token)
        if wrong or found is None:
            # The code for an expired token on the WebSocket is not public; the
            # documented cure works for IGW00121.
            return "IGW00121"
        if found.kind != self._kind:
            return "10001"
        session.token = found
        session.told_of_expiry = False
        if tr_type == "3" and tr_cd in ("OVC", "OVH") and len(tr_key) != 8:
            return "10009"
        limit = self._faults.peek(self.target, "registration_limit")
        if tr_type == "3" and limit and len(session.keys) >= int(limit.get("limit", 1)):
            return "10009"
        return ACCEPTED

    def _change(
        self, session: LsSession, tr_type: str, tr_cd: str, tr_key: str
    ) -> None:
        keys = {(tr_cd, key) for key in split_key(tr_cd, tr_key)}
        if tr_type == "3":
            self._wanted.update(keys - session.keys)
            session.keys |= keys
        elif tr_type == "4":
            self._wanted.subtract(keys & session.keys)
            session.keys -= keys
        self._refresh()

    def _ack_fault(self, tr_cd: Any, session: LsSession) -> Fault | None:
        fault = self._faults.peek(self.target, "ack")
        if fault is None or fault.get("tr_cd", tr_cd) != tr_cd:
            return None
        return self._faults.strike(self.target, "ack", object())

    def _acknowledge(
        self,
        session: LsSession,
        fault: Fault | None,
        code: str,
        tr_type: str,
        tr_cd: Any,
        tr_key: str,
    ) -> None:
        variant = str(fault.get("variant", "normal")) if fault else "normal"
        if tr_type in ("1", "2"):
            variant = "null_tr_cd"
        if variant == "never":
            return
        message = message_text(code)
        if fault:
            message = str(fault.get("message", message))
        text = ack_text(code, message, tr_cd, tr_type, variant, tr_key)
        connection = session.connection
        late = 1.0 if variant == "late" else 0.0
        late = float(fault.get("seconds", late)) if fault else late

        def answer() -> None:
            if variant == "data_before":
                self._data_before(session, str(tr_cd))
            connection.say(text)
            if variant == "twice":
                connection.say(text)
            if code == ACCEPTED:
                connection.schedule_end("login")
            elif fault and "close_after_ms" in fault.params:
                seconds = float(fault.get("close_after_ms")) / 1000
                connection.after_or_now(seconds, lambda: connection.close(1000))

        connection.after_or_now(late, answer)

    def _data_before(self, session: LsSession, tr_cd: str) -> None:
        keys = [key for key in session.keys if key[0] == tr_cd]
        text = self._equity_text(*keys[0]) if keys and tr_cd in EQUITY_TRS else None
        if tr_cd == "NWS":
            text = news_text(self._write_news())
        elif tr_cd == "JIF":
            text = data_text("JIF", "0", {"jangubun": "1", "jstatus": "21"})
        if text is not None:
            session.connection.say(text)

    def _refresh(self) -> None:
        self._active = tuple(
            sorted(k for k, n in self._wanted.items() if n > 0 and k[0] in EQUITY_TRS)
        )

    def subscriptions(self) -> list[str]:
        """Return every registration that somebody holds."""
        held = sorted(key for key, count in self._wanted.items() if count > 0)
        return [f"{tr_cd}:{tr_key}" for tr_cd, tr_key in held]

    # Token expiry in mid-session.

    def sweep(self) -> None:
        """Do to sessions whose token has expired what a fault says."""
        fault = self._faults.peek(self.target, "at_expiry")
        if fault is None:
            return
        for session in list(self.sessions.values()):
            token = session.token
            if token is None or session.told_of_expiry:
                continue
            if self._clock.now() < token.expires_at and not token.revoked:
                continue
            session.told_of_expiry = True
            match fault.get("action", "nothing"):
                case "close":
                    session.connection.close(fault.get("code", 1000))
                case "silent":
                    session.muted = True
                case "drop":
                    session.connection.reset()

    # Data.

    def weight(self) -> int:
        """Return how many equity registrations are being generated for."""
        return len(self._active)

    def emit(self, count: int) -> None:
        """Generate *count* equity events and send them."""
        if not self._active:
            return
        batch: list[tuple[tuple[str, str], bytes]] = []
        for _ in range(count):
            key = self._random.choice(self._active)
            text = self._equity_text(*key)
            if text is not None:
                batch.extend((key, frame) for frame in self._frames(text))
        self._deliver(batch)

    def publish(self, item: NewsItem) -> int:
        """Send one news item to everyone registered and return to how many."""
        fault = self._faults.peek(self.target, "news_shape")
        variant = None
        if fault and self._random.random() < float(fault.get("ratio", 1.0)):
            variant = fault.get("variant")
            offset = fault.get("clock_offset")
            offset = -86_400 if variant == "date_yesterday" else offset
            if offset is not None:
                item = shift(item, float(offset), self._clock.now())
        text = news_text(item, variant)
        frames = list(self._frames(text))
        if variant == "same_realkey":
            frames *= 2
        return self._deliver([(("NWS", "NWS001"), frame) for frame in frames])

    def status(self, jangubun: str, jstatus: str) -> int:
        """Send one market status to everyone registered for JIF."""
        text = data_text("JIF", "0", {"jangubun": jangubun, "jstatus": jstatus})
        return self._deliver([(("JIF", "0"), encode_text(text))])

    def inject(self, encoded: bytes, frames: int) -> int:
        """Send *encoded* to everyone with a registration, whatever it is for."""
        sessions = [
            session
            for session in self.sessions.values()
            if session.token and not session.connection.closing
        ]
        for session in sessions:
            session.connection.send(encoded, frames)
        return len(sessions)

    def sample(self) -> bytes:
        """Return the payload of one good data frame."""
        text = self._equity_text("S3_", "005930")
        return text.encode() if text else b"{}"

    def _frames(self, text: str) -> Iterator[bytes]:
        frame = encode_text(text)
        yield frame
        twice = self._faults.peek(self.target, "duplicate")
        if twice and self._random.random() < float(twice.get("ratio", 1.0)):
            yield from [frame] * int(twice.get("copies", 1))
        bad = self._faults.peek(self.target, "malformed")
        if bad and self._random.random() < float(bad.get("ratio", 0.1)):
            yield VARIANTS[str(bad.get("variant", "not_json"))](text.encode())

    def _deliver(self, batch: list[tuple[tuple[str, str], bytes]]) -> int:
        reached = 0
        for session in self.sessions.values():
            connection = session.connection
            if session.muted or not session.keys:
                continue
            if connection.fault("silence") or connection.fault("heartbeats_only"):
                continue
            frames = [
                frame
                for (tr_cd, key), frame in batch
                if (tr_cd, key) in session.keys
                or (tr_cd == "VI_" and ("VI_", "000000") in session.keys)
            ]
            if frames:
                reached += 1
                connection.send(b"".join(frames), len(frames))
        return reached

    def _equity_text(self, tr_cd: str, tr_key: str) -> str | None:
        if tr_cd in ("GSC", "GSH"):
            return self._overseas_text(tr_cd, tr_key)
        if tr_cd == "VI_" and self._random.random() > _INTERRUPTION_SHARE:
            return None
        code = tr_key[1:7] if tr_cd in ("US3", "UH1", "NS3") else tr_key
        if code == "000000":
            code = self._random.choice(list(companies_by_code()))
        tape = self._tape(code, tr_cd[0] if tr_cd in ("US3", "UH1", "NS3") else "")
        now = self._clock.now()
        fault = self._faults.peek(self.target, "equity_shape")
        variant = fault.get("variant") if fault else None
        match tr_cd:
            case "S3_" | "K3_" | "US3" | "NS3":
                if variant == "lost" and self._random.random() < 0.3:
                    tape.trade(now)
                body: dict[str, Any] = dict(tape.trade(now))
            case "UH1":
                body = dict(tape.unified_book(now, tr_key))
            case "VI_":
                body = dict(tape.interruption(now))
                tr_key = code
            case _:
                body = dict(tape.book(now))
        if tr_cd in ("US3", "NS3"):
            body["ex_shcode"] = tr_key.rstrip()
            body["exchname"] = self._random.choice(("KRX", "NXT"))
            body["exchname"] = "NXT" if tr_cd == "NS3" else body["exchname"]
        _bend(body, variant, tr_key)
        return data_text(tr_cd, tr_key, body)

    def _overseas_text(self, tr_cd: str, tr_key: str) -> str:
        symbol = tr_key[2:].strip()
        if symbol not in self._overseas:
            listed = {stock.symbol.upper(): stock.price for stock in us_stocks()}
            price = listed.get(symbol, 10_000)
            self._overseas[symbol] = OverseasTape(self._seed, symbol, price)
        tape, korean = self._overseas[symbol], self._clock.now()
        make = tape.trade if tr_cd == "GSC" else tape.book
        return data_text(tr_cd, tr_key, make(korean, korean - _NEW_YORK_BEHIND))

    def _tape(self, code: str, venue: str) -> KoreanTape:
        # Each venue counts its own cumulative volume.
        key = venue + code
        if key not in self._tapes:
            self._tapes[key] = KoreanTape(self._seed, companies_by_code()[code])
        return self._tapes[key]


def _bend(body: dict[str, Any], variant: str | None, tr_key: str) -> None:
    """Apply a *variant* of the `equity_shape` fault to a body."""
    match variant:
        case "no_exchname":
            body.pop("exchname", None)
        case "nxt" if "exchname" in body:
            body["exchname"] = "NXT"
        case "padded_shcode":
            body["shcode"] = tr_key if len(tr_key) == 10 else f"U{tr_key}   "
        case "mid" if "hotime" in body:
            body |= {
                "midprice": "0",
                "offermidsumrem": "0",
                "bidmidsumrem": "0",
                "midsumrem": "0",
                "midsumremgubun": " ",
            }
        case "numbers":
            for name, value in body.items():
                if value.lstrip("-").isdigit() and not name.endswith(("time", "code")):
                    body[name] = int(value)
