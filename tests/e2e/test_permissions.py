"""
Every service under its own identity: TLS, its nkey, and the least subjects that work.

Whatever a service needs and is not granted shows as "NATS refuses a subject" in its
log; whatever it must not meet (no TLS, a stranger's or an expired certificate) keeps
it from saying who it is.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from mesh import Mesh, run_mesh
from nats_process import run_nats
from processes import ServiceProcess, run_service
from secured_nats import Authority, Keys, SecuredNats, run_secured_nats

from feedmesh.bus import Bus, connect_bus
from feedmesh.credentials import new_seed
from feedmesh.settings import ServiceSettings
from feedmesh.stored import read_from
from feedmesh.streams import DLQ, GAPS


IDENTITY = {
    "feedmesh": "streams",
    "ingest_fmp": "ingest-fmp",
    "ingest_ls": "ingest-ls",
    "edge": "edge",
}
NOT_JSON = '{"s":"AAPL",'
READ = (
    "/api/v2/realtime/cache/AAPL",
    "/api/v2/realtime/status",
    "/api/v3/prices/AAPL",
    "/api/v3/news?limit=5",
    "/api/v3/status",
)


@asynccontextmanager
async def observer(server: SecuredNats) -> AsyncIterator[Bus]:
    """Look on, as people do."""
    settings = ServiceSettings.from_env(server.identity("observer"))
    async with connect_bus(settings, "observer") as bus:
        yield bus


async def until_stored(bus: Bus, stream: str, subject: str) -> None:
    """Wait until *stream* has something on *subject*."""
    async with asyncio.timeout(30):
        while True:
            if subject in [m.subject async for m in read_from(bus, stream, 1)]:
                return
            await asyncio.sleep(0.1)


class Refusals:
    """What NATS refused, by all lines of the logs; restarts lose no line."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def collect(self, *services: ServiceProcess) -> None:
        """Note what *services* have said so far."""
        for service in services:
            said = (line for line in service.lines if "NATS refuses" in line)
            self.found.extend(f"{service.module}: {line}" for line in said)


async def use_rest(mesh: Mesh) -> None:
    """Have every kind of question asked, and a symbol pinned."""
    async with httpx.AsyncClient(base_url=mesh.url) as http:
        pinned = await http.post("/api/v2/realtime/subscribe", json=["NVDA"])
        assert pinned.is_success, pinned.text
        for path in READ:
            answer = await http.get(path)
            assert answer.is_success, answer.text


async def test_everything_works_with_what_is_granted(tmp_path: Path) -> None:
    refusals = Refusals()
    async with run_secured_nats(tmp_path / "secured") as server:
        each = {module: server.identity(who) for module, who in IDENTITY.items()}
        arguments = ("--rate", "200", "--news-rate", "600", "--ls-page-size", "0")
        async with run_mesh(tmp_path, *arguments, each=each) as mesh:
            services = mesh.services
            prices = mesh.prices("AAPL", "BTCUSD", "EURUSD", "005930", "MSFT")
            news = mesh.news()
            # MSFT is asked for by this client alone: demand went its way.
            for symbol in ("AAPL", "BTCUSD", "EURUSD", "005930", "MSFT"):
                await prices.until(lambda m, s=symbol: m.get("symbol") == s)
            await news.until(lambda m: m["type"] == "news")
            await use_rest(mesh)
            await mesh.subscribed("fmp.stocks", "NVDA")
            # Another replica of each stands by, asks what it must know, takes over.
            async with observer(server) as bus:
                await mesh.simulator.inject("fmp.stocks", NOT_JSON)
                await until_stored(bus, DLQ, "dlq.ingest-fmp")
                for module in ("ingest_fmp", "ingest_ls"):
                    async with run_service(module, services[module]._env) as other:
                        await other.event("standing by")
                        await services[module].stop(signal.SIGKILL)
                        await other.event("leading")
                        await other.ready()
                        refusals.collect(services[module], other)
                    await services[module].start()
                    await services[module].ready()
                await until_stored(bus, GAPS, "gaps.ls")
            heard = len(news.news())
            await news.until(lambda _: len(news.news()) > heard)
            refusals.collect(*services.values())

    assert refusals.found == []


async def test_a_missing_grant_is_seen(tmp_path: Path) -> None:
    """The control: an edge under a name that may do less says what it lacks."""
    async with run_secured_nats(tmp_path) as server:
        env = server.identity("streams") | {"EDGE_PORT": "0", "OPS_PORT": "0"}
        async with run_service("edge", env) as edge:
            assert (await edge.event("NATS refuses a subject"))["subject"]


async def test_who_has_no_key_is_not_let_in(tmp_path: Path) -> None:
    async with run_secured_nats(tmp_path) as server:
        identity = server.identity("edge") | {"NATS_NKEY": ""}
        await asyncio.gather(
            *(
                not_connected(identity | wrong, "authorization")
                for wrong in ({}, {"NATS_NKEY": new_seed()}, {"NATS_USER": "edge"})
            )
        )


async def test_who_is_shut_out_comes_back_by_itself(tmp_path: Path) -> None:
    """Keys are replaced at the servers first: a service must outlive being refused."""
    async with run_secured_nats(tmp_path) as server:
        env = {"EDGE_PORT": "0", "OPS_PORT": "0", "LOG_LEVEL": "DEBUG"}
        async with run_service("edge", server.identity("edge") | env) as edge:
            await edge.event("NATS is connected")
            known, server.keys = server.keys, Keys()
            await server.stop()
            await server.start()
            async with asyncio.timeout(30):
                # More than one attempt fails.
                while str(edge.lines).lower().count("authorization violation") < 2:
                    await asyncio.sleep(0.05)
            assert "NATS is back" not in str(edge.lines)
            server.keys = known
            await server.stop()
            await server.start()
            await edge.event("NATS is back")


async def test_nobody_is_told_who_we_are_before_it_proves_who_it_is(
    tmp_path: Path,
) -> None:
    stranger = {"NATS_CA_FILE": str(Authority(tmp_path, "stranger").file)}
    past = -dt.timedelta(hours=1)
    async with (
        run_secured_nats(tmp_path / "good") as good,
        run_secured_nats(tmp_path / "expired", valid=past) as expired,
        run_nats(tmp_path / "plain") as plain,
    ):
        identity = good.identity("edge")
        unknown = "unable to get local issuer certificate"
        await asyncio.gather(
            not_connected(identity | stranger, unknown),
            # Without trust of one's own, the system's is used, which knows it not.
            not_connected(identity | {"NATS_CA_FILE": ""}, unknown),
            not_connected(expired.identity("edge"), "certificate has expired"),
            not_connected(identity | {"NATS_URL": plain.url}, "offers no TLS"),
        )


async def test_the_server_takes_no_plain_text(tmp_path: Path) -> None:
    async with run_secured_nats(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        async with asyncio.timeout(10):
            assert b"PONG" not in await reader.read()
        writer.close()


async def not_connected(env: dict[str, str], reason: str) -> None:
    """Have a service try with *env*; it goes on trying, and its log says *reason*."""
    env = env | {"EDGE_PORT": "0", "OPS_PORT": "0"}
    async with run_service("edge", env) as edge:
        said = ""
        try:
            async with asyncio.timeout(20):
                while reason.lower() not in said.lower():
                    said = "\n".join(edge.lines)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not said: {reason}\n{said}") from None
        assert "NATS is connected" not in said
