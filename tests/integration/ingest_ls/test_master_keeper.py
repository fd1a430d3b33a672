"""The names of companies, asked for with a token that LS does not accept any more."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mesh import Simulator, start_simulator
from processes import plain_http
from pydantic import SecretStr

from feedmesh.bus import Bus
from ingest_ls import master_keeper
from ingest_ls.master import Master
from ingest_ls.master_keeper import MasterKeeper
from ingest_ls.rest import RestClient
from ingest_ls.token import TokenKeeper


class World:
    """A keeper whose token was taken by an earlier process, and left in a file."""

    def __init__(self, simulator: Simulator, rest: RestClient, file: Path) -> None:
        self._simulator = simulator
        self._rest = rest
        self._file = file

    async def leave_token(self) -> str:
        """Take a token, and leave it as an earlier process would."""
        token = str((await self._rest.issue_token())["access_token"])
        kept = {"token": token, "expires_at": time.time() + 36_000}
        self._file.write_text(json.dumps(kept), encoding="utf-8")
        return token

    def start(self, bus: Bus) -> tuple[TokenKeeper, MasterKeeper, Master]:
        """Return what a new process has; it knows the token from the file."""
        tokens = TokenKeeper(self._rest.issue_token, file=self._file)
        master = Master()
        keeper = MasterKeeper(master, bus, "ls", self._rest, tokens, lambda: None)
        return tokens, keeper, master

    async def fault(self, kind: str, **params: Any) -> None:
        await self._simulator.call(
            "POST", "/fault", target="ls.rest", kind=kind, **params
        )

    async def heal(self) -> None:
        await self._simulator.call("DELETE", "/fault")

    async def issued(self) -> int:
        """Return how many tokens there were."""
        return int((await self._stats())["tokens_issued"])

    async def asked(self) -> int:
        """Return how often somebody has asked for a stock master."""
        return int((await self._stats())["calls_total"].get("t9945", 0))

    async def _stats(self) -> dict[str, Any]:
        stats = await self._simulator.call("GET", "/stats")
        found: dict[str, Any] = stats["ls.rest"]
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        simulator = await start_simulator(stack)
        http = await stack.enter_async_context(
            plain_http(base_url=simulator.urls["ls_rest_url"])
        )
        secret = SecretStr("simulator")
        rest = RestClient(http, secret, secret)
        yield World(simulator, rest, tmp_path / "token")


@pytest.mark.parametrize(
    ("fault", "issued"), [("revoke_all", 2), ("expire_all", 2), (None, 1)]
)
async def test_a_token_that_is_rejected_is_replaced_once(
    world: World, bus: Bus, fault: str | None, issued: int
) -> None:
    token = await world.leave_token()
    if fault:
        await world.fault(fault)
    tokens, keeper, master = world.start(bus)
    keeping = asyncio.create_task(keeper.keep())
    # Else the test's time-out tells.
    while not len(master):
        await asyncio.sleep(0.02)
    keeping.cancel()

    assert await world.issued() == issued
    assert (await tokens.token() == token) is (fault is None)
    await asyncio.wait_for(keeper.tried(), 1)


async def test_names_cost_one_token_at_most_and_news_do_not_wait_for_them(
    world: World, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a new token is rejected too, it is not the token; and the link needs it."""
    monkeypatch.setattr(master_keeper, "_WAIT_SECONDS", 3600.0)
    await world.leave_token()
    await world.fault("tr", tr_cd="t9945", code="IGW00121")
    tokens, keeper, master = world.start(bus)
    keeping = asyncio.create_task(keeper.keep())
    await keeper.tried()
    second = await tokens.token()
    while await world.asked() < 3:
        await asyncio.sleep(0.05)
    keeping.cancel()

    assert not len(master)
    assert await tokens.token() == second
    assert await world.issued() == 2


async def test_news_do_not_wait_for_names_that_cannot_be_had(
    world: World, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where they are asked for, nor at a standby, which gets them later."""
    monkeypatch.setattr(master_keeper, "_WAIT_SECONDS", 3600.0)
    await world.fault("tr", tr_cd="t9945", code="IGW00201", status=500)
    _, leader, _ = world.start(bus)
    _, standby, master = world.start(bus)
    jobs = [asyncio.create_task(job()) for job in (leader.tell, leader.keep)]
    await asyncio.wait_for(leader.tried(), 20)
    await standby.ask()
    await asyncio.wait_for(standby.tried(), 20)
    await world.heal()

    async with asyncio.timeout(20):
        while not len(master):
            await standby.ask()
            await asyncio.sleep(0.05)
    for job in jobs:
        job.cancel()
