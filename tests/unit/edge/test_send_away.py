"""How clients are sent away at a restart, on a clock that nobody waits for; no I/O."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from edge.clients.registry import Clients
from edge.metrics import EdgeMetrics


class Skipping(selectors.DefaultSelector):
    """Has nothing to wait for, and so lets its clock jump to where a wait would end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


class Drain:
    """Clients that are to be sent away."""

    def __init__(self, loop: asyncio.AbstractEventLoop, selector: Skipping) -> None:
        self.clients = Clients(EdgeMetrics(CollectorRegistry()))
        self.loop = loop
        self.selector = selector

    def send_away(self, seconds: float) -> float:
        """Return how long it took."""
        began = self.selector.now
        self.loop.run_until_complete(self.clients.send_away(seconds))
        return self.selector.now - began


class Leaver:
    """A client that notes what it is told and when it is closed, which *takes* time."""

    endpoint = "stream"

    def __init__(self, drain: Drain, takes: float = 0.0) -> None:
        self._selector = drain.selector
        self._takes = takes
        self.told: list[float] = []
        self.returns = math.inf
        self.closed = math.inf
        drain.clients.add(self)

    def going_away(self, reconnect_after_ms: int) -> None:
        self.told.append(self._selector.now)
        self.returns = self._selector.now + reconnect_after_ms / 1000

    def close_for_restart(self) -> None:
        self._selector.now += self._takes
        self.closed = self._selector.now

    def stuck_since(self) -> float | None: ...
    def check_login(self) -> None: ...
    def evict(self) -> None: ...
    def heartbeat(self) -> None: ...


@pytest.fixture
def drain() -> Iterator[Drain]:
    selector = Skipping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign] # it has no other way in
    yield Drain(loop, selector)
    loop.close()


def test_one_who_comes_late_is_told_and_closed_in_time(drain: Drain) -> None:
    early = [Leaver(drain) for _ in range(1000)]
    late: list[Leaver] = []
    for seconds in (0.5, 5.0, 9.99):
        drain.loop.call_later(seconds, lambda: late.append(Leaver(drain)))

    took = drain.send_away(10.0)

    assert len(late) == 3
    for client in (*early, *late):
        assert len(client.told) == 1
        assert client.told[0] <= client.closed <= took
    assert took <= 10.5


def test_those_who_come_while_a_few_leave_have_the_rest_of_the_time(
    drain: Drain,
) -> None:
    few = [Leaver(drain) for _ in range(10)]
    late: list[Leaver] = []
    drain.loop.call_later(0.1, lambda: late.extend(Leaver(drain) for _ in range(100)))

    took = drain.send_away(10.0)

    assert max(client.closed for client in few) < 1.0
    ends = sorted(client.closed for client in late)
    # Not all at once, as they would come back at once.
    assert ends[-1] - ends[0] > 1.5
    assert took < 5.0


def test_what_closing_itself_takes_does_not_prolong_it(drain: Drain) -> None:
    clients = [Leaver(drain, takes=0.01) for _ in range(500)]

    took = drain.send_away(10.0)

    assert took <= 10.5
    for client in clients:
        assert client.closed <= client.returns + 0.5
