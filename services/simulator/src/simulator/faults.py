"""
What can be wrong, for whom and for how long; nothing here touches a socket.

A fault names a target and a kind, and may be limited to the next *count* connections,
logins or calls, and to a number of seconds. The code that could misbehave asks the
:class:`FaultBook` at the moment it acts; only the ``ACTIONS`` are carried out once,
when they are posted, by :mod:`simulator.actions`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.fault_values import wrong_value


FMP_TARGETS = ("fmp.stocks", "fmp.crypto", "fmp.forex", "fmp.stream")
LS_SOCKETS = ("ls.ws", "ls.paper")
TARGETS = (*FMP_TARGETS, *LS_SOCKETS, "ls.rest")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "fmp": FMP_TARGETS,
    "ls": LS_SOCKETS,
    "*": (*FMP_TARGETS, *LS_SOCKETS),
}

# What every WebSocket target can do wrong. The value lists the parameters.
_SOCKET_KINDS: Mapping[str, frozenset[str]] = {
    # the opening handshake
    "refuse_upgrade": frozenset({"status", "headers", "location", "body"}),
    "tls_fail": frozenset({"every", "bytes_b64"}),
    "upgrade_timeout": frozenset(),
    "reset_on_connect": frozenset(),
    # an open connection
    "silence": frozenset({"replies"}),
    "heartbeats_only": frozenset(),
    "half_open": frozenset(),
    "no_pong": frozenset(),
    "ping": frozenset({"interval"}),
    "slow_read": frozenset({"bytes_per_second"}),
    "one_byte_per_second": frozenset({"interval", "handshake"}),
    "end_after": frozenset({"when", "after", "how", "code", "reason"}),
    "duplicate": frozenset({"ratio", "copies"}),
    "malformed": frozenset({"variant", "ratio"}),
    "socket_limit": frozenset({"limit", "status"}),
}
_FMP_KINDS: Mapping[str, frozenset[str]] = {
    "heartbeat": frozenset({"mode", "interval", "timestamp"}),
    "login": frozenset(
        {
            "reply",
            "late",
            "data_first",
            "shape",
            "close_after",
            "close_code",
            "status",
            "message",
        }
    ),
    "slot": frozenset({"policy"}),
    "slot_busy": frozenset({"seconds", "also_clean"}),
    "subscribe_ack": frozenset({"status", "mode", "shape", "message", "late"}),
    "out_of_order": frozenset({"ratio", "seconds"}),
    "shape": frozenset(
        {
            "quote_last",
            "trade_rest",
            "timestamp",
            "timestamp_offset",
            "price",
            "size",
            "array",
            "unknown_fields",
            "unknown_events",
            "venues",
            "types",
            "rebroadcast",
        }
    ),
}
_LS_SOCKET_KINDS: Mapping[str, frozenset[str]] = {
    "ack": frozenset(
        {"variant", "seconds", "code", "message", "close_after_ms", "tr_cd"}
    ),
    "at_expiry": frozenset({"action", "code"}),
    "registration_limit": frozenset({"limit"}),
    "news_shape": frozenset({"variant", "clock_offset", "ratio"}),
    "equity_shape": frozenset({"variant"}),
}
_REST_KINDS: Mapping[str, frozenset[str]] = {
    "token": frozenset(
        {"reply", "status", "code", "message", "slow", "expires_in", "body"}
    ),
    "token_expiry": frozenset({"rule", "seconds"}),
    "token_singleton": frozenset(),
    "tr": frozenset({"tr_cd", "reply", "status", "code", "message", "slow", "body"}),
    "rate_limit": frozenset({"tr_cd"}),
    "rate_penalty": frozenset({"seconds"}),
    "no_rate_limit": frozenset(),
    "t3102": frozenset({"variant", "seconds"}),
    "nxt_chk": frozenset({"absent"}),
    "clock_skew": frozenset({"seconds"}),
    "one_byte_per_second": frozenset({"interval"}),
}
# Done once, when posted, to the connections open at that moment.
ACTIONS: Mapping[str, frozenset[str]] = {
    "drop": frozenset(),
    "close": frozenset({"code", "reason"}),
    "cut": frozenset({"frame"}),
    "burst": frozenset({"count", "per_second", "then", "then_after", "what"}),
    "send_malformed": frozenset({"variant", "times"}),
    "restart": frozenset({"seconds"}),
    "jif_day": frozenset({"per_second"}),
    "revoke_all": frozenset(),
    "expire_all": frozenset(),
}
_LS_ACTIONS = frozenset({"jif_day", "revoke_all", "expire_all"})
_COMMON = frozenset({"target", "kind", "count", "for"})


class FaultError(ValueError):
    """A fault was asked for that nothing here can play."""


@dataclass
class Fault:
    """One thing that goes wrong, with who has been struck by it so far."""

    target: str
    kind: str
    params: Mapping[str, Any]
    count: int | None = None
    until: float | None = None
    struck: set[Hashable] = field(default_factory=set)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the parameter *name*."""
        return self.params.get(name, default)

    def describe(self) -> dict[str, object]:
        """Return what GET /fault shows."""
        return {
            "target": self.target,
            "kind": self.kind,
            **self.params,
            "count": self.count,
            "struck": len(self.struck),
        }


def kinds_of(target: str) -> dict[str, frozenset[str]]:
    """Return every fault kind that *target* knows, with its parameters."""
    if target == "ls.rest":
        return {**_REST_KINDS, **{k: ACTIONS[k] for k in ("revoke_all", "expire_all")}}
    if target in FMP_TARGETS:
        actions = {k: p for k, p in ACTIONS.items() if k not in _LS_ACTIONS}
        return {**_SOCKET_KINDS, **_FMP_KINDS, **actions}
    return {**_SOCKET_KINDS, **_LS_SOCKET_KINDS, **ACTIONS}


def read_fault(
    order: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
) -> list[Fault]:
    """
    Return the faults that *order* asks for, one for each target it names.

    Raises:
        FaultError: If the target, the kind or a parameter is unknown, or a value is
            none that the parameter can have.
    """
    name = order.get("target")
    targets = GROUPS.get(str(name), (str(name),))
    return [_read_one(target, order, clock) for target in targets]


def _read_one(
    target: str, order: Mapping[str, Any], clock: Callable[[], float]
) -> Fault:
    if target not in TARGETS:
        raise FaultError(f"target was {target!r}, not one of {sorted(TARGETS)}")
    kind = str(order.get("kind"))
    known = kinds_of(target)
    if kind not in known:
        raise FaultError(f"kind was {kind!r}; {target} knows {sorted(known)}")
    extra = set(order) - _COMMON - known[kind]
    if extra:
        allowed = sorted(known[kind])
        raise FaultError(f"{kind} takes {allowed}, not {sorted(extra)}")
    given = {k: v for k, v in order.items() if k not in ("target", "kind")}
    if problem := wrong_value(kind, given):
        raise FaultError(problem)
    params = {k: v for k, v in given.items() if k in known[kind]}
    # For an action, "count" is its own parameter or the number of connections.
    count = order.get("count")
    seconds = order.get("for")
    return Fault(
        target=target,
        kind=kind,
        params=params,
        count=None if count is None else int(count),
        until=None if seconds is None else clock() + float(seconds),
    )


class FaultBook:
    """The faults in force; the newest of a kind replaces the one before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[tuple[str, str], Fault] = {}

    def add(self, fault: Fault) -> None:
        """Put *fault* in force."""
        self._faults[fault.target, fault.kind] = fault

    def clear(self, target: str | None = None, kind: str | None = None) -> int:
        """
        Lift the matching faults and return how many there were.

        Raises:
            FaultError: If there is no such target: a slip would leave a fault on.
        """
        targets = GROUPS.get(target, (target,)) if target else TARGETS
        if not set(targets) <= set(TARGETS):
            raise FaultError(f"target was {target!r}, not one of {sorted(TARGETS)}")
        gone = [
            key
            for key in self._faults
            if key[0] in targets and (kind is None or key[1] == kind)
        ]
        for key in gone:
            del self._faults[key]
        return len(gone)

    def peek(self, target: str, kind: str) -> Fault | None:
        """Return the fault of *kind* in force, whoever it strikes."""
        if not self._faults:
            return None
        fault = self._faults.get((target, kind))
        if fault is None or fault.until is None or self._clock() < fault.until:
            return fault
        del self._faults[target, kind]
        return None

    def strike(self, target: str, kind: str, who: Hashable) -> Fault | None:
        """Return the fault if it strikes *who*, and remember that it did."""
        fault = self.peek(target, kind)
        if fault is None or fault.count is None or who in fault.struck:
            return fault
        if len(fault.struck) >= fault.count:
            return None
        fault.struck.add(who)
        return fault

    def __iter__(self) -> Any:
        return iter([f for key in list(self._faults) if (f := self.peek(*key))])
