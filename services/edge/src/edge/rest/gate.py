"""
What every REST request passes before its route: rate, and HEAD.

The rate is counted for each client address, by a token bucket. Behind a proxy the
address is the one that the proxy tells, if the server trusts that proxy.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.rest.problems import is_v3, problem_response


__all__ = ["AddressBuckets", "RestGate"]

_MAX_ADDRESSES = 10_000
_BURST_SECONDS = 2.0
_API = "/api/"
# Kubernetes and load balancers ask this one, from one address for all.
_UNLIMITED = "/api/v2/realtime/health"


class AddressBuckets:
    """
    Tokens of each address, refilled at a steady rate; no I/O.

    Addresses beyond the bound push out the ones that have been silent longest.

    Args:
        rate: Requests a second that an address may make for ever.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * _BURST_SECONDS)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str) -> float:
        """Take a token: return 0.0; or, if there is none, the seconds until one."""
        key = _network(address)
        now = self._clock()
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate
        self._buckets[key] = (tokens if wait else tokens - 1.0, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class RestGate:
    """
    ASGI middleware in front of all routes; WebSockets pass untouched.

    Args:
        app: What is behind it.
        buckets: Who may ask how often.
        refused: Called for every request that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        buckets: AddressBuckets,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        self._app = app
        self._buckets = buckets
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if not path.startswith(_API) or path == _UNLIMITED:
            return None
        client = scope.get("client")
        wait = self._buckets.take(client[0] if client else "")
        if wait:
            self._refused()
            retry = {"retry-after": str(math.ceil(wait))}
            return _refuse(path, retry)
        return None


def _refuse(path: str, headers: dict[str, str]) -> Response:
    detail = "ask less often"
    if is_v3(path):
        return problem_response("too_many_requests", detail, headers=headers)
    return JSONResponse({"detail": detail}, 429, headers)


def _without_body(send: Send) -> Send:
    async def head_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return head_only


def _network(address: str) -> str:
    # Whoever has one IPv6 address has all of its /64.
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()
