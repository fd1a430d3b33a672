"""
What upstreams do to us, and that the ingests find out, say so, and recover.

Each fault is made by the simulator and healed again; afterwards data must flow. No
fault may lead to two connections at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from mesh import Mesh, run_mesh

from feedmesh.bus import connect_bus
from feedmesh.streams import NEWS, ensure_streams


pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    # Faults come quicker here than an upstream's patience would allow in earnest.
    env = {"FMP_SILENCE": "4s", "FMP_PING": "1s"}
    quiet = ("--rate", "0", "--news-rate", "0", "--fmp-heartbeat-seconds", "0.5")
    async with run_mesh(tmp_path_factory.mktemp("mesh"), *quiet, env=env) as mesh:
        yield mesh


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def healed(mesh: Mesh) -> AsyncIterator[None]:
    await mesh.subscribed("fmp.stocks", "aapl")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    yield
    await mesh.simulator.call("DELETE", "/fault")


async def fault(mesh: Mesh, target: str, kind: str, **params: Any) -> None:
    await mesh.simulator.call("POST", "/fault", target=target, kind=kind, **params)


async def stats(mesh: Mesh, target: str) -> dict[str, Any]:
    found: dict[str, Any] = (await mesh.simulator.call("GET", "/stats"))["targets"][
        target
    ]
    return found


async def ended(mesh: Mesh, module: str, reason: str, before: float) -> None:
    """Wait until a link has ended for *reason* once more."""
    service = mesh.services[module]
    async with asyncio.timeout(30):
        while await reconnects(mesh, module, reason) <= before:
            await asyncio.sleep(0.05)
    assert service.process.returncode is None


async def reconnects(mesh: Mesh, module: str, reason: str) -> float:
    return await mesh.services[module].metric(
        "feedmesh_ingest_reconnects_total", reason=reason
    )


async def state(mesh: Mesh, feed: str) -> str:
    async with httpx.AsyncClient() as http:
        body = (await http.get(f"{mesh.url}/api/v2/realtime/status")).json()
    return str(body["feeds"][feed]["state"])


async def prices_flow(mesh: Mesh) -> None:
    client = mesh.prices("AAPL")
    number = next(_numbers)
    price = f"{2000 + number}.25"
    await mesh.subscribed("fmp.stocks", "aapl")
    async with asyncio.timeout(60):
        while not any(price in text for text in client.heard):
            # Now, each time: what is older than the last trade is rightly dropped.
            now = time.time_ns()
            event = f'{{"s":"aapl","t":{now},"type":"T","lp":{price},"ls":1}}'
            await mesh.simulator.inject("fmp.stocks", {"text": event})
            await asyncio.sleep(0.1)


async def news_flow(mesh: Mesh) -> None:
    title = f"기사 {next(_numbers)}"
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    async with asyncio.timeout(60):
        while title not in [item["title"] for item in await mesh.stored_news()]:
            await mesh.simulator.inject("ls.ws", news_item(title, title.encode().hex()))
            await asyncio.sleep(0.1)


def news_item(title: str, realkey: str) -> dict[str, Any]:
    body = {
        "date": "20260715",
        "time": "090130",
        "id": "23",
        "realkey": realkey[:24],
        "title": title,
        "code": "",
        "bodysize": "1",
    }
    return {"header": {"tr_cd": "NWS", "tr_key": "NWS001"}, "body": body}


FMP_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("drop", {}, "dropped"),
    ("cut", {}, "dropped"),
    ("close", {"code": 1000}, "closed_1000"),
    ("close", {"code": 1001}, "closed_1001"),
    ("close", {"code": 1008}, "closed_1008"),
    ("close", {"code": 1011}, "closed_1011"),
    ("close", {"code": 1012}, "closed_1012"),
    ("close", {"code": 4000}, "closed_other"),
    ("close", {"code": None}, "closed_1005"),
    ("silence", {"for": 6}, "silent"),
    # Last, since the upstream does not see this one end.
    ("half_open", {"for": 6}, "no_pong"),
]


@pytest.mark.parametrize(
    ("kind", "params", "reason"), FMP_FAULTS, ids=lambda value: str(value)
)
async def test_a_lost_price_link_is_found_named_and_mended(
    mesh: Mesh, kind: str, params: dict[str, Any], reason: str
) -> None:
    before = await reconnects(mesh, "ingest_fmp", reason)
    if kind == "silence":
        # Who has heard heartbeats misses them, whether the market is open or closed.
        await fault(mesh, "fmp.stocks", "heartbeat", interval=0.2)
        await asyncio.sleep(1.0)
    await fault(mesh, "fmp.stocks", kind, **params)
    await ended(mesh, "ingest_fmp", reason, before)
    await mesh.simulator.call("DELETE", "/fault")

    await prices_flow(mesh)
    if kind != "half_open":
        assert (await stats(mesh, "fmp.stocks"))["connections_max"] == 1
    # A few breaks in a row are within the limit on connects; this many are not.
    await mesh.restart_service("ingest_fmp")


@pytest.mark.parametrize(
    ("kind", "params", "reason", "shown"),
    [
        ("login", {"reply": "unauthorized"}, "unauthorized", "refused"),
        ("login", {"reply": "another_location"}, "slot_taken", "busy"),
        ("login", {"reply": "max_connections"}, "slot_taken", "busy"),
        ("refuse_upgrade", {"status": 401}, "http_401", "refused"),
        ("refuse_upgrade", {"status": 502}, "http_502", "down"),
        ("subscribe_ack", {"status": 401}, "subscribe_refused", "refused"),
    ],
    ids=str,
)
async def test_a_refusal_is_told_from_a_loss_and_shown(
    mesh: Mesh, kind: str, params: dict[str, Any], reason: str, shown: str
) -> None:
    before = await reconnects(mesh, "ingest_fmp", reason)
    await fault(mesh, "fmp.stocks", kind, **params)
    await fault(mesh, "fmp.stocks", "drop")
    await ended(mesh, "ingest_fmp", reason, before)
    async with asyncio.timeout(10):
        while await state(mesh, "fmp") != shown:
            await asyncio.sleep(0.1)
    await mesh.simulator.call("DELETE", "/fault")

    # The pause after a refusal is long on purpose; a new process need not wait.
    await mesh.restart_service("ingest_fmp")
    await prices_flow(mesh)


async def test_a_missing_acknowledgement_does_not_stop_prices(mesh: Mesh) -> None:
    await fault(mesh, "fmp.stocks", "subscribe_ack", mode="none")
    await mesh.restart_service("ingest_fmp")
    await prices_flow(mesh)
    confirmed = await mesh.services["ingest_fmp"].metric(
        "feedmesh_ingest_subscriptions_confirmed", link="stocks"
    )

    assert confirmed == 0


async def test_data_before_the_login_reply_is_kept(mesh: Mesh) -> None:
    await fault(mesh, "fmp.stocks", "login", reply="ok", data_first=3)
    await mesh.restart_service("ingest_fmp")

    await prices_flow(mesh)


@pytest.mark.parametrize(
    ("kind", "params", "reason"),
    [
        ("drop", {}, "dropped"),
        ("close", {"code": 1011}, "closed_1011"),
        ("ack", {"variant": "reject", "code": "IGW00121"}, "token_rejected"),
        ("ack", {"variant": "reject", "code": "10001"}, "account_kind"),
    ],
    ids=str,
)
async def test_a_lost_news_link_is_found_named_and_mended(
    mesh: Mesh, kind: str, params: dict[str, Any], reason: str
) -> None:
    before = await reconnects(mesh, "ingest_ls", reason)
    await fault(mesh, "ls.ws", kind, **params)
    if kind == "ack":
        await fault(mesh, "ls.ws", "drop")
    await ended(mesh, "ingest_ls", reason, before)
    await mesh.simulator.call("DELETE", "/fault")

    await mesh.restart_service("ingest_ls")
    await news_flow(mesh)


@pytest.mark.parametrize("variant", ["no_body", "null_tr_cd", "with_tr_key", "twice"])
async def test_every_form_of_acknowledgement_is_understood(
    mesh: Mesh, variant: str
) -> None:
    await fault(mesh, "ls.ws", "ack", variant=variant)
    await mesh.restart_service("ingest_ls")
    async with asyncio.timeout(20):
        while not await mesh.services["ingest_ls"].metric(
            "feedmesh_ingest_subscriptions_confirmed"
        ):
            await asyncio.sleep(0.05)

    await news_flow(mesh)


async def last_gap(mesh: Mesh, feed: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{mesh.url}/api/v3/gaps", params={"feed": feed})
    found: dict[str, Any] = answer.json()["gaps"][-1]
    return found


async def test_refused_news_are_a_gap_though_trades_are_agreed_to(mesh: Mesh) -> None:
    service = mesh.services["ingest_ls"]

    async def confirmed(count: int) -> None:
        async with asyncio.timeout(30):
            while count != await service.metric(
                "feedmesh_ingest_subscriptions_confirmed"
            ):
                await asyncio.sleep(0.05)

    await mesh.restart_service("ingest_ls")
    await confirmed(3)
    await fault(mesh, "ls.ws", "ack", variant="reject", code="10009", tr_cd="NWS")
    await fault(mesh, "ls.ws", "drop")
    await confirmed(2)
    await asyncio.sleep(1)
    assert (await last_gap(mesh, "ls"))["to"] is None

    await mesh.simulator.call("DELETE", "/fault")
    await fault(mesh, "ls.ws", "drop")
    await confirmed(3)
    async with asyncio.timeout(10):
        while (await last_gap(mesh, "ls"))["to"] is None:
            await asyncio.sleep(0.05)


async def test_a_token_that_is_void_is_replaced_once(mesh: Mesh) -> None:
    service = mesh.services["ingest_ls"]
    before = await service.metric("feedmesh_ingest_ls_tokens_issued_total")
    await mesh.simulator.call("POST", "/fault", target="ls.rest", kind="revoke_all")
    await fault(mesh, "ls.ws", "drop")
    async with asyncio.timeout(40):
        while await service.metric("feedmesh_ingest_ls_tokens_issued_total") == before:
            await asyncio.sleep(0.1)
    await news_flow(mesh)

    issued = await service.metric("feedmesh_ingest_ls_tokens_issued_total")
    assert issued - before == 1


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("token", {"reply": "error", "code": "IGW00201", "status": 500, "count": 1}),
        ("token", {"reply": "expire_in"}),
        ("token", {"reply": "no_expiry"}),
        ("tr", {"tr_cd": "t9945", "code": "IGW00201", "status": 500, "count": 2}),
    ],
    ids=str,
)
async def test_a_troubled_rest_interface_does_not_keep_news_away(
    mesh: Mesh, kind: str, params: dict[str, Any]
) -> None:
    await fault(mesh, "ls.rest", kind, **params)
    await mesh.restart_service("ingest_ls")

    await news_flow(mesh)


async def test_wrong_keys_are_shown_as_refused(mesh: Mesh) -> None:
    await fault(mesh, "ls.rest", "token", reply="error", code="IGW00105", status=403)
    await mesh.restart_service("ingest_ls")
    async with asyncio.timeout(30):
        while await state(mesh, "ls") != "refused":
            await asyncio.sleep(0.1)
    await mesh.simulator.call("DELETE", "/fault")
    await mesh.restart_service("ingest_ls")

    await news_flow(mesh)


async def test_no_item_is_lost_or_doubled_by_a_kill_in_a_burst(mesh: Mesh) -> None:
    """An upstream that sends again what we may not have stored finds it once."""
    burst = [news_item(f"폭주 {n}", f"20260715090130019{n:07}") for n in range(300)]
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject("ls.ws", *burst)
    await mesh.restart_service("ingest_ls")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject("ls.ws", *burst)

    wanted = [item["body"]["title"] for item in burst]
    async with asyncio.timeout(30):
        while True:
            titles = [item["title"] for item in await mesh.stored_news()]
            stored = [title for title in titles if title.startswith("폭주")]
            if len(stored) >= len(wanted):
                break
            await asyncio.sleep(0.1)
    assert stored == wanted


async def test_news_goes_on_after_the_stream_itself_was_lost(mesh: Mesh) -> None:
    """Its claim is gone with it, and nobody else has claimed."""
    await news_flow(mesh)
    async with connect_bus(mesh.nats.settings(), "test") as bus:
        await bus.nc.jetstream().delete_stream(NEWS)
        await ensure_streams(bus.nc.jetstream())
    await news_flow(mesh)

    assert mesh.services["ingest_ls"].process.returncode is None


async def test_a_repeat_is_marked_across_a_restart(mesh: Mesh) -> None:
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject(
        "ls.ws", news_item("되풀이", "20260715090130012AAAAAAA")
    )
    async with asyncio.timeout(20):
        while "되풀이" not in [item["title"] for item in await mesh.stored_news()]:
            await asyncio.sleep(0.1)
    await mesh.restart_service("ingest_ls")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject(
        "ls.ws", news_item("되풀이", "20260715090130012BBBBBBB")
    )
    async with asyncio.timeout(20):
        while True:
            items = await mesh.stored_news()
            found = [item for item in items if item["title"] == "되풀이"]
            if len(found) == 2:
                break
            await asyncio.sleep(0.1)

    assert [item["repeat_of"] for item in found] == [None, "20260715090130012AAAAAAA"]


async def test_prices_continue_from_the_last_state_after_a_restart(mesh: Mesh) -> None:
    await mesh.subscribed("fmp.stocks", "aapl")
    now = time.time_ns()
    trade = f'{{"s":"aapl","t":{now},"type":"T","lp":321.50,"ls":7}}'
    quote = f'{{"s":"aapl","t":{now + 10**9},"type":"Q","ap":322.5,"as":1}}'
    client = mesh.prices("AAPL")
    await mesh.simulator.inject("fmp.stocks", {"text": trade})
    await client.until(lambda m: m["last_price"] == 321.5)
    await mesh.restart_service("ingest_fmp")
    await mesh.subscribed("fmp.stocks", "aapl")
    await mesh.simulator.inject("fmp.stocks", {"text": quote})

    both = await client.until(lambda m: m["ask_price"] == 322.5)
    assert (both["last_price"], both["last_size"]) == (321.5, 7)


async def test_demand_reaches_upstream_and_ends_after_the_grace(mesh: Mesh) -> None:
    client = mesh.prices("TSLA", "SOLUSD", "GBPUSD", "035420")
    await mesh.subscribed("fmp.stocks", "tsla")
    await mesh.subscribed("fmp.crypto", "solusd")
    await mesh.subscribed("fmp.forex", "gbpusd")
    await mesh.subscribed("ls.ws", "S3_:035420")
    assert client.connection is not None
    client.stop()
    async with asyncio.timeout(20):
        while "tsla" in (await stats(mesh, "fmp.stocks"))["subscribed"]:
            await asyncio.sleep(0.1)
        while "S3_:035420" in (await stats(mesh, "ls.ws"))["subscribed"]:
            await asyncio.sleep(0.1)

    assert "aapl" in (await stats(mesh, "fmp.stocks"))["subscribed"]


async def test_no_secret_was_logged(mesh: Mesh) -> None:
    for module in ("ingest_fmp", "ingest_ls"):
        lines = "\n".join(mesh.services[module].lines)
        assert json.dumps("simulator") not in lines
        assert "eyJ" not in lines  # how every JWT begins
