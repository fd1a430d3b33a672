"""
The whole simulator: eight ports, two generators, one book of faults.

Everything runs on one event loop and every task belongs to one TaskGroup, so that what
a test orders happens in the order it was ordered.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from simulator import control
from simulator.clock import Clock
from simulator.faults import ACTIONS, GROUPS, Fault, FaultBook, FaultError, read_fault
from simulator.fmp import FmpOptions, FmpSocket
from simulator.fmp_frames import Shape
from simulator.http_server import serve_http, tls_context
from simulator.journal import Journal, RestJournal
from simulator.ls_frames import JIF_DAY
from simulator.ls_rest import LsRest
from simulator.ls_tokens import TokenStore
from simulator.ls_ws import LsSocket, NewsArchive, remember
from simulator.malformed import VARIANTS
from simulator.news import NewsDesk, NewsItem, gaps, per_minute
from simulator.replay import check_recording, replay
from simulator.scenario import Step, plain, read_scenario
from simulator.settings import PORTS, Settings
from simulator.upstream import Connection, Upstream
from simulator.wire import BINARY, TEXT, dumps_exact, encode_fragmented, encode_frame


_TICK_SECONDS = 0.01
_HOUSEKEEPING_SECONDS = 0.02
# A late tick catches up, but a process that slept for a minute must not flood.
_MOST_CATCH_UP_SECONDS = 0.5
_BACKLOG = 1024

Product = FmpSocket | LsSocket


class PortInUseError(OSError):
    """A port that was asked for cannot be had."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        self.port = port
        super().__init__(f"port {port} on {host} was not available: {cause.strerror}")


def bind_ports(host: str, base_port: int) -> dict[str, socket.socket]:
    """
    Return a listening socket for each port of ours.

    Raises:
        PortInUseError: If one of them is taken.
    """
    bound: dict[str, socket.socket] = {}
    for offset, name in enumerate(PORTS):
        port = base_port + offset if base_port else 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            for each in (listener, *bound.values()):
                each.close()
            raise PortInUseError(host, port, error) from error
        listener.setblocking(False)
        bound[name] = listener
    return bound


class Simulator:
    """One simulator; :meth:`running` is how to use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.faults = FaultBook()
        self.rest_journal = RestJournal()
        self.archive: NewsArchive = NewsArchive()
        self.tokens = TokenStore(settings.seed, settings.app_keys(), self.clock)
        self.products: dict[str, Product] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.urls: dict[str, str] = {}
        self.rate = settings.rate
        self.news_rate = settings.news_per_minute
        self._desk = NewsDesk(settings.seed)
        self._news_changed = asyncio.Event()
        self._generated = {"prices": 0, "news": 0}
        self._background: asyncio.TaskGroup
        self._actions: set[asyncio.Task[None]] = set()
        self._phases = random.Random(f"{settings.seed}/phases")
        tls = tls_context(settings.tls_cert, settings.tls_key)
        for target in PORTS:
            if target in ("control", "ls.rest"):
                continue
            journal = Journal()
            product = self._product(target, journal)
            self.products[target] = product
            self.upstreams[target] = Upstream(
                target, product, self.faults, journal, tls
            )

    def _product(self, target: str, journal: Journal) -> Product:
        settings = self.settings
        if target.startswith("ls."):
            return LsSocket(
                target,
                settings.seed,
                self.tokens,
                self.clock,
                self.faults,
                journal,
                self._write_news,
            )
        shape = Shape()
        if target == "fmp.crypto":
            shape = Shape(
                venues=settings.crypto_venues, timestamp=settings.crypto_timestamp
            )
        options = FmpOptions(
            keys=frozenset(settings.api_keys),
            slot=settings.fmp_slot,
            heartbeat_seconds=settings.fmp_heartbeat_seconds,
            shape=shape,
        )
        return FmpSocket(target, settings.seed, options, self.faults, journal)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Simulator]:
        """Listen and generate inside this context; the URLs are known at once."""
        steps = read_scenario(self.settings.scenario)
        check_recording(self.settings.replay)
        listeners = bind_ports(self.settings.host, self.settings.base_port)
        self._name_urls(listeners)
        try:
            async with asyncio.TaskGroup() as group:
                self._background = group
                tasks = self._start(group, listeners, steps)
                # One turn of the loop, so that every server has its listener.
                await asyncio.sleep(0)
                try:
                    yield self
                finally:
                    self._stop(tasks)
        finally:
            for listener in listeners.values():
                listener.close()

    def _start(
        self,
        group: asyncio.TaskGroup,
        listeners: Mapping[str, socket.socket],
        steps: Sequence[Step],
    ) -> list[asyncio.Task[None]]:
        settings = self.settings
        rest = LsRest(
            self.tokens,
            self.clock,
            self.faults,
            self.rest_journal,
            self.archive,
            settings.ls_page_size,
        )
        tls = None
        if settings.tls_cert and settings.tls_key:
            tls = settings.tls_cert, settings.tls_key
        jobs = {
            "control": serve_http(control.application(self), listeners["control"]),
            "ls.rest": serve_http(rest.application(), listeners["ls.rest"], tls),
            "prices": self._generate_prices(),
            "news": self._generate_news(),
            "housekeeping": self._keep_house(),
            "scenario": self._play(steps),
            **{
                target: upstream.serve(listeners[target])
                for target, upstream in self.upstreams.items()
            },
        }
        if settings.replay is not None:
            jobs["replay"] = replay(settings.replay, settings.replay_speed, self.inject)
        return [group.create_task(job, name=name) for name, job in jobs.items()]

    def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in (*tasks, *self._actions):
            task.cancel()

    def _name_urls(self, listeners: Mapping[str, socket.socket]) -> None:
        host = self.settings.host
        shown = f"[{host}]" if ":" in host else host
        secure = "s" if self.settings.tls_cert else ""
        for name, listener in listeners.items():
            port = listener.getsockname()[1]
            address = f"{shown}:{port}"
            match name:
                case "control":
                    url = f"http://{address}"
                case "ls.rest":
                    url = f"http{secure}://{address}"
                case _:
                    url = f"ws{secure}://{address}"
            self.urls[_URL_NAMES[name]] = url + (
                "/websocket" if name in ("ls.ws", "ls.paper") else ""
            )

    # Generators.

    async def _generate_prices(self) -> None:
        previous = time.monotonic()
        owed = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            elapsed = min(now - previous, _MOST_CATCH_UP_SECONDS)
            previous = now
            weights = {p: w for p in self.products.values() if (w := p.weight())}
            owed = owed + self.rate * elapsed if weights else 0.0
            count = int(owed)
            owed -= count
            self._generated["prices"] += count
            split = shares(weights, count, self._phases.random())
            for product, share in split.items():
                product.emit(share)

    async def _generate_news(self) -> None:
        due = time.monotonic()
        pauses = None
        while True:
            if pauses is None:
                # Before the pauses are made: a change from now on counts.
                self._news_changed.clear()
                pauses = gaps(self.settings.seed, self.news_rate or 1.0)
                due = time.monotonic()
            due += next(pauses)
            wait = due - time.monotonic() if self.news_rate else None
            if wait is not None and wait <= 0:
                # Behind: say what is due, but let others run now and then.
                self.publish_news()
                if wait < -1:
                    due = time.monotonic()
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._news_changed.wait()
                pauses = None
            except TimeoutError:
                self.publish_news()

    def _write_news(self) -> NewsItem:
        item = self._desk.write(self.clock.now())
        remember(self.archive, item, time.time())
        return item

    def publish_news(self) -> None:
        """Write one item and send it to everyone registered for news."""
        item = self._write_news()
        self._generated["news"] += 1
        for product in self.products.values():
            if isinstance(product, LsSocket):
                product.publish(item)

    async def _keep_house(self) -> None:
        while True:
            now = time.monotonic()
            for product in self.products.values():
                if isinstance(product, FmpSocket):
                    product.beat(now)
                else:
                    product.sweep()
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    async def _play(self, steps: Sequence[Step]) -> None:
        started = time.monotonic()
        for step in steps:
            await asyncio.sleep(max(0.0, started + step.at - time.monotonic()))
            self.order(step.action, step.order)

    # Orders, from the control port or a scenario.

    def order(self, action: str, order: Mapping[str, Any]) -> dict[str, object]:
        """
        Carry out one order and return what there is to say about it.

        Raises:
            FaultError: If it makes no sense; the text says why.
        """
        match action:
            case "inject":
                return self._inject(order)
            case "fault":
                return self._fault(order)
            case "clear" | "clear_fault":
                target, kind = order.get("target"), order.get("kind")
                return {"cleared": self.faults.clear(target, kind)}
            case "clock":
                return self._set_clock(order)
            case "generate":
                return self._generate(order)
        raise FaultError(f"action was {action!r}")

    def inject(self, target: str, encoded: bytes, frames: int) -> int:
        """Send *encoded* to everyone logged in at *target*."""
        products = [self.products[name] for name in self._targets(target)]
        return sum(product.inject(encoded, frames) for product in products)

    def _targets(self, target: object) -> Sequence[str]:
        names = GROUPS.get(str(target), (str(target),))
        if any(name not in self.products for name in names):
            raise FaultError(f"target was {target!r}, not one of {list(self.products)}")
        return names

    def _inject(self, order: Mapping[str, Any]) -> dict[str, object]:
        frames = order.get("frames")
        if not isinstance(frames, list) or not frames:
            raise FaultError("frames was not a list of at least one frame")
        fragmented = bool(order.get("fragmented"))
        encoded = [encode_injected(frame, fragmented=fragmented) for frame in frames]
        times = int(plain(order.get("times", 1)))
        whole = b"".join(encoded) * times
        count = self.inject(str(order.get("target")), whole, len(encoded) * times)
        return {"connections": count, "frames": len(encoded) * times}

    def _fault(self, order: Mapping[str, Any]) -> dict[str, object]:
        faults = read_fault(order)
        self._check_variant(faults)
        struck = 0
        for fault in faults:
            if fault.kind in ACTIONS:
                struck += self._act(fault)
            else:
                self.faults.add(fault)
        return {"faults": len(faults), "connections": struck}

    def _check_variant(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if fault.kind in ("malformed", "send_malformed"):
                variant = fault.get("variant", "not_json")
                if variant not in VARIANTS:
                    raise FaultError(f"variant was {variant!r}; known {list(VARIANTS)}")

    def _act(self, fault: Fault) -> int:
        if fault.kind == "revoke_all":
            return self.tokens.revoke_all()
        if fault.kind == "expire_all":
            return self.tokens.expire_all()
        product, upstream = self.products[fault.target], self.upstreams[fault.target]
        if fault.kind in ("burst", "jif_day", "restart", "send_malformed"):
            return self._act_on_product(fault, product, upstream)
        struck = list(upstream.connections.values())[: fault.count]
        for connection in struck:
            self._act_on_connection(fault, connection, product)
        return len(struck)

    def _act_on_connection(
        self, fault: Fault, connection: Connection, product: Product
    ) -> None:
        match fault.kind:
            case "drop":
                connection.reset()
            case "close":
                connection.close(fault.get("code"), str(fault.get("reason", "")))
            case "cut":
                given = fault.get("frame")
                payload = given.encode() if given is not None else product.sample()
                connection.cut(encode_frame(TEXT, payload))

    def _act_on_product(
        self, fault: Fault, product: Product, upstream: Upstream
    ) -> int:
        match fault.kind:
            case "restart":
                upstream.pause(float(fault.get("seconds", 1.0)))
            case "send_malformed":
                make = VARIANTS[str(fault.get("variant", "not_json"))]
                times = int(fault.get("times", 1))
                return product.inject(make(product.sample()) * times, times)
            case "burst":
                self._spawn(self._burst(fault, product, upstream))
            case "jif_day":
                if isinstance(product, LsSocket):
                    self._spawn(self._jif_day(fault, product))
        return len(upstream.connections)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = self._background.create_task(job, name="action")
        self._actions.add(task)
        task.add_done_callback(self._actions.discard)

    async def _burst(self, fault: Fault, product: Product, upstream: Upstream) -> None:
        left = int(fault.get("count", 1000))
        speed = float(fault.get("per_second", 0)) or float("inf")
        until = int(fault.get("then_after", left))
        news = fault.get("what", "news") == "news" and isinstance(product, LsSocket)
        started, sent = time.monotonic(), 0
        while sent < min(left, until):
            most = min(500, min(left, until) - sent)
            owed = most if speed == float("inf") else 0
            if not owed:
                owed = min(most, int((time.monotonic() - started) * speed) - sent + 1)
            if owed > 0:
                self._burst_some(product, owed, news=news)
                sent += owed
            await asyncio.sleep(0 if speed == float("inf") else 0.005)
        match fault.get("then"):
            case "drop":
                for connection in list(upstream.connections.values()):
                    connection.reset()
            case "close":
                for connection in list(upstream.connections.values()):
                    connection.close(1001)

    def _burst_some(self, product: Product, count: int, *, news: bool) -> None:
        if not news or isinstance(product, FmpSocket):
            product.emit(count)
            return
        for _ in range(count):
            product.publish(self._write_news())

    async def _jif_day(self, fault: Fault, product: LsSocket) -> None:
        pause = 1.0 / float(fault.get("per_second", 50))
        for jangubun, jstatus in JIF_DAY:
            product.status(jangubun, jstatus)
            await asyncio.sleep(pause)

    def _set_clock(self, order: Mapping[str, Any]) -> dict[str, object]:
        now = order.get("now", order.get("offset_seconds", order.get("offset")))
        try:
            self.clock.set(now if isinstance(now, str) else float(now))
        except (TypeError, ValueError) as error:
            raise FaultError(f"now was {now!r}") from error
        return {
            "now": self.clock.now().isoformat(),
            "offset": self.clock.offset_seconds,
        }

    def _generate(self, order: Mapping[str, Any]) -> dict[str, object]:
        try:
            if "rate" in order:
                self.rate = _rate(order["rate"])
            if "news_per_minute" in order:
                self.news_rate = per_minute(str(order["news_per_minute"]))
        except (TypeError, ValueError) as error:
            raise FaultError(str(error)) from error
        if order.get("prices") is not None:
            self.rate = (self.rate or self.settings.rate) if order["prices"] else 0.0
        if order.get("news") is not None:
            usual = self.news_rate or self.settings.news_per_minute
            self.news_rate = usual if order["news"] else 0.0
        self._news_changed.set()
        for _ in range(int(order.get("news_items", 0))):
            self.publish_news()
        return {"rate": self.rate, "news_per_minute": self.news_rate}

    # What there is to see.

    def stats(self) -> dict[str, object]:
        """Return every counter."""
        return {
            "targets": {
                target: {
                    **upstream.journal.describe(),
                    "subscribed": self.products[target].subscriptions(),
                }
                for target, upstream in self.upstreams.items()
            },
            "ls.rest": self.rest_journal.describe(),
            "generated": dict(self._generated),
            "rate": self.rate,
            "news_per_minute": self.news_rate,
            "clock": self.clock.now().isoformat(),
            "faults": [fault.describe() for fault in self.faults],
        }


_URL_NAMES = {
    "control": "control_url",
    "fmp.stocks": "fmp_stocks_url",
    "fmp.crypto": "fmp_crypto_url",
    "fmp.forex": "fmp_forex_url",
    "fmp.stream": "fmp_stream_url",
    "ls.rest": "ls_rest_url",
    "ls.ws": "ls_ws_url",
    "ls.paper": "ls_paper_ws_url",
}


def _rate(value: Any) -> float:
    rate = float(value)
    # An endless rate would end the generator, and with it everything else.
    if not 0 <= rate < float("inf"):
        raise ValueError(f"rate was {value!r}, not a number of 0 or more")
    return rate


def shares(
    weights: Mapping[Product, int], count: int, phase: float
) -> dict[Product, int]:
    """
    Split *count* in proportion to *weights*; nothing is lost to rounding.

    A new *phase*, at least 0 and below 1, each time makes it fair in the long run.
    """
    total = sum(weights.values())
    if not total:
        return {}
    edges = [0, *itertools.accumulate(weights.values())]
    cuts = [int(count * edge / total + phase) for edge in edges[:-1]]
    cuts.append(count)
    return {
        product: after - before
        for product, before, after in zip(weights, cuts, cuts[1:], strict=False)
    }


def encode_injected(frame: Any, *, fragmented: bool) -> bytes:
    """
    Return the bytes of one frame of an injection.

    Raises:
        FaultError: If it is none of the forms we know.
    """
    opcode, payload = TEXT, b""
    if isinstance(frame, dict) and set(frame) == {"text"}:
        # surrogatepass: a test may want bytes that are no UTF-8 at all.
        payload = str(frame["text"]).encode("utf-8", "surrogatepass")
    elif isinstance(frame, dict) and "bytes_b64" in frame:
        payload = base64.b64decode(str(frame["bytes_b64"]), validate=True)
        kind = frame.get("opcode", "binary")
        if kind == "raw":
            return payload
        opcode = TEXT if kind == "text" else BINARY
    else:
        try:
            payload = dumps_exact(frame)
        except (TypeError, ValueError, UnicodeEncodeError) as error:
            raise FaultError(f"frame could not be written: {error}") from error
    if fragmented:
        return encode_fragmented(opcode, payload)
    return encode_frame(opcode, payload)
