"""
The whole simulator: eight ports, two generators, one book of faults.

Everything runs on one event loop and every task belongs to one TaskGroup, so that what
a test orders happens in the order it was ordered.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from simulator import control
from simulator.clock import Clock
from simulator.faults import FaultBook
from simulator.fmp import FmpOptions, FmpSocket
from simulator.fmp_frames import Shape
from simulator.generators import Generators, Product
from simulator.http_server import serve_http, tls_context
from simulator.journal import Journal, RestJournal
from simulator.listeners import bind_ports, urls_of
from simulator.ls_rest import LsRest
from simulator.ls_tokens import TokenStore
from simulator.ls_ws import LsSocket
from simulator.orders import Orders
from simulator.replay import check_recording, replay
from simulator.scenario import Step, read_scenario
from simulator.settings import PORTS, Settings
from simulator.upstream import Upstream


__all__ = ["Simulator"]

_HOUSEKEEPING_SECONDS = 0.02


class Simulator:
    """One simulator; :meth:`running` is how to use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.faults = FaultBook()
        self.rest_journal = RestJournal()
        self.tokens = TokenStore(settings.seed, settings.app_keys(), self.clock)
        self.products: dict[str, Product] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.urls: dict[str, str] = {}
        self._generators = Generators(settings, self.clock, self.products)
        self._orders = Orders(
            self.products,
            self.upstreams,
            self.faults,
            self.tokens,
            self.clock,
            self._generators,
        )
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
                self._generators.write_news,
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
        self.urls = urls_of(
            listeners, self.settings.host, tls=bool(self.settings.tls_cert)
        )
        try:
            async with asyncio.TaskGroup() as group:
                self._orders.run_in(group)
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
            self._generators.archive,
            settings.ls_page_size,
        )
        tls = None
        if settings.tls_cert and settings.tls_key:
            tls = settings.tls_cert, settings.tls_key
        jobs = {
            "control": serve_http(control.application(self), listeners["control"]),
            "ls.rest": serve_http(rest.application(), listeners["ls.rest"], tls),
            "prices": self._generators.prices(),
            "news": self._generators.news(),
            "housekeeping": self._keep_house(),
            "scenario": self._play(steps),
            **{
                target: upstream.serve(listeners[target])
                for target, upstream in self.upstreams.items()
            },
        }
        if settings.replay is not None:
            jobs["replay"] = replay(
                settings.replay, settings.replay_speed, self._orders.inject
            )
        return [group.create_task(job, name=name) for name, job in jobs.items()]

    def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        self._orders.stop()

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

    def order(self, action: str, order: Mapping[str, Any]) -> dict[str, object]:
        """
        Carry out one order and return what there is to say about it.

        Raises:
            FaultError: If it makes no sense; the text says why.
        """
        return self._orders.carry_out(action, order)

    async def inject_evenly(self, order: Mapping[str, Any]) -> dict[str, object]:
        """
        Send the frames of *order* evenly over its seconds; tell whom each one reached.

        Raises:
            FaultError: If it makes no sense; nothing is sent then.
        """
        return await self._orders.inject_evenly(order)

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
            "generated": dict(self._generators.generated),
            "rate": self._generators.rate,
            "news_per_minute": self._generators.news_rate,
            "clock": self.clock.now().isoformat(),
            "faults": [fault.describe() for fault in self.faults],
        }
