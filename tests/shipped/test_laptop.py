"""`docker compose up` gives prices, and a Prometheus that sees everybody."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from shipped.laptop import Laptop, run_laptop
from websockets.asyncio.client import connect


# Three servers and eight services start on what may be a busy machine.
SECONDS = 120
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    with run_laptop(tmp_path_factory.mktemp("laptop")) as running:
        yield running


async def until(found: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Wait until *found* gives what is *wanted*."""
    last: Any = None
    try:
        async with asyncio.timeout(SECONDS):
            while last != wanted:
                try:
                    last = await found()
                except httpx.HTTPError as error:
                    last = error
                await asyncio.sleep(1)
    except TimeoutError:
        pytest.fail(f"{last!r} and not {wanted!r}")


async def test_prices_reach_a_client(laptop: Laptop) -> None:
    url = f"ws://{laptop.address('edge', 8080)}/api/v3/stream"
    wanted = {"channel": "prices", "symbols": ["AAPL", "BTCUSD", "EURUSD"]}
    seen: set[str] = set()
    async with asyncio.timeout(SECONDS):
        async for client in connect(url, open_timeout=5):
            await client.send(json.dumps({"op": "resume", "subscriptions": [wanted]}))
            async for text in client:
                message = json.loads(text)
                if message["type"] == "price_update":
                    seen.add(message["symbol"])
                if seen == set(wanted["symbols"]):
                    return


async def test_prometheus_sees_everybody_and_takes_the_rules(laptop: Laptop) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://{laptop.address('prometheus', 9090)}/api/v1"
    ) as prometheus:

        async def up() -> Counter[str]:
            found = (await prometheus.get("targets")).json()["data"]["activeTargets"]
            return Counter(t["labels"]["job"] for t in found if t["health"] == "up")

        await until(
            up, Counter({"edge": 1, "ingest-fmp": 2, "ingest-ls": 2, "prober": 1})
        )

        async def wrong_rules() -> set[str]:
            groups = (await prometheus.get("rules")).json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) > 40
            return {rule["health"] for rule in rules}

        await until(wrong_rules, {"ok"})


async def test_everything_is_healthy_and_the_streams_are_made(laptop: Laptop) -> None:
    async def states() -> Counter[tuple[str, str, str]]:
        return Counter(
            (c["Service"], c["State"], c["Health"] or str(c["ExitCode"]))
            for c in laptop.containers()
        )

    wanted = Counter(
        {
            # NATS and Prometheus have no check that runs inside.
            **{(f"nats-{n}", "running", "0"): 1 for n in (1, 2, 3)},
            ("prometheus", "running", "0"): 1,
            **{(f"ingest-{n}", "running", "healthy"): 2 for n in ("fmp", "ls")},
            **{(n, "running", "healthy"): 1 for n in ("edge", "prober", "simulator")},
            ("streams", "exited", "0"): 1,
        }
    )
    await until(states, wanted)
