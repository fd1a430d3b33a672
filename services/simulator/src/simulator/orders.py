"""What is ordered, by the control port or a scenario, and how it is carried out."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from simulator.clock import Clock
from simulator.faults import ACTIONS, GROUPS, Fault, FaultBook, FaultError, read_fault
from simulator.fmp import FmpSocket
from simulator.generators import Generators, Product
from simulator.ls_frames import JIF_DAY
from simulator.ls_tokens import TokenStore
from simulator.ls_ws import LsSocket
from simulator.malformed import VARIANTS
from simulator.scenario import plain
from simulator.upstream import Connection, Upstream
from simulator.wire import BINARY, TEXT, dumps_exact, encode_fragmented, encode_frame


__all__ = ["Orders", "encode_injected"]

_MOST_INJECTION_SECONDS = 5.0


class Orders:
    """
    Carries out orders on *products* and their *upstreams*.

    What takes its time runs beside, in the task group that :meth:`run_in` names.
    """

    def __init__(
        self,
        products: Mapping[str, Product],
        upstreams: Mapping[str, Upstream],
        faults: FaultBook,
        tokens: TokenStore,
        clock: Clock,
        generators: Generators,
    ) -> None:
        self._products = products
        self._upstreams = upstreams
        self._faults = faults
        self._tokens = tokens
        self._clock = clock
        self._generators = generators
        self._background: asyncio.TaskGroup
        self._actions: set[asyncio.Task[None]] = set()

    def run_in(self, group: asyncio.TaskGroup) -> None:
        """Have *group* own what runs beside."""
        self._background = group

    def stop(self) -> None:
        """End what runs beside."""
        for task in self._actions:
            task.cancel()

    def carry_out(self, action: str, order: Mapping[str, Any]) -> dict[str, object]:
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
                return {"cleared": self._faults.clear(target, kind)}
            case "clock":
                return self._set_clock(order)
            case "generate":
                return self._generators.change(order)
        raise FaultError(f"action was {action!r}")

    def inject(self, target: str, encoded: bytes, frames: int) -> int:
        """Send *encoded* to everyone logged in at *target*."""
        products = [self._products[name] for name in self._targets(target)]
        return sum(product.inject(encoded, frames) for product in products)

    def _targets(self, target: object) -> Sequence[str]:
        names = GROUPS.get(str(target), (str(target),))
        if any(name not in self._products for name in names):
            raise FaultError(
                f"target was {target!r}, not one of {list(self._products)}"
            )
        return names

    async def inject_evenly(self, order: Mapping[str, Any]) -> dict[str, object]:
        """
        Send the frames of *order* evenly over its seconds; tell whom each one reached.

        Raises:
            FaultError: If it makes no sense; nothing is sent then.
        """
        target, encoded = order.get("target"), _encoded(order)
        self._targets(target)
        seconds = _seconds(order.get("seconds"))
        started, reached = time.monotonic(), list[int]()
        for number, frame in enumerate(encoded):
            due = started + seconds * number / len(encoded)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            reached.append(self.inject(str(target), frame, 1))
        return {"connections": reached, "frames": len(encoded)}

    def _inject(self, order: Mapping[str, Any]) -> dict[str, object]:
        encoded = _encoded(order)
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
                self._faults.add(fault)
        return {"faults": len(faults), "connections": struck}

    def _check_variant(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if fault.kind in ("malformed", "send_malformed"):
                variant = fault.get("variant", "not_json")
                if variant not in VARIANTS:
                    raise FaultError(f"variant was {variant!r}; known {list(VARIANTS)}")

    def _act(self, fault: Fault) -> int:
        if fault.kind == "revoke_all":
            return self._tokens.revoke_all()
        if fault.kind == "expire_all":
            return self._tokens.expire_all()
        product, upstream = self._products[fault.target], self._upstreams[fault.target]
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
            product.publish(self._generators.write_news())

    async def _jif_day(self, fault: Fault, product: LsSocket) -> None:
        pause = 1.0 / float(fault.get("per_second", 50))
        for jangubun, jstatus in JIF_DAY:
            product.status(jangubun, jstatus)
            await asyncio.sleep(pause)

    def _set_clock(self, order: Mapping[str, Any]) -> dict[str, object]:
        now = order.get("now", order.get("offset_seconds", order.get("offset")))
        try:
            self._clock.set(now if isinstance(now, str) else float(now))
        except (TypeError, ValueError) as error:
            raise FaultError(f"now was {now!r}") from error
        return {
            "now": self._clock.now().isoformat(),
            "offset": self._clock.offset_seconds,
        }


def _encoded(order: Mapping[str, Any]) -> list[bytes]:
    frames = order.get("frames")
    if not isinstance(frames, list) or not frames:
        raise FaultError("frames was not a list of at least one frame")
    fragmented = bool(order.get("fragmented"))
    return [encode_injected(frame, fragmented=fragmented) for frame in frames]


def _seconds(given: Any) -> float:
    try:
        seconds = float(plain(given))
    except (TypeError, ValueError):
        raise FaultError(f"seconds was {given!r}") from None
    if not 0 <= seconds <= _MOST_INJECTION_SECONDS:
        raise FaultError(f"seconds was {given!r}, not 0 to {_MOST_INJECTION_SECONDS}")
    return seconds


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
