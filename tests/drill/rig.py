"""A whole deployment on this machine: three servers of NATS, every service, clients."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from drill.alerts import Watch, run_alerts
from faults.cluster import Cluster, make_cluster, plan_nodes
from mesh import Mesh, Simulator, start_simulator
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError
from processes import ServiceProcess

from feedmesh.bus import Bus, connect_bus
from feedmesh.streams import NEWS, definitions


_STORE = "512MB"
_MAX_BYTES = 64 << 20
_SYMBOLS = "AAPL,MSFT,BTCUSD,ETHUSD,SOLUSD,EURUSD"


def write_certificate(file: Path, days: int, *, with_key: bool = False) -> None:
    """Write a certificate that ends in so many *days*, its key too if asked."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drill")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = certificate.public_bytes(pem)
    if with_key:
        form = serialization.PrivateFormat.PKCS8
        text += key.private_bytes(pem, form, serialization.NoEncryption())
    file.write_bytes(text)


class Rig:
    """
    Everything that a fault may touch.

    Attributes:
        fmp: The two replicas of its ingest.
        certificate: The file that the prober looks at.
        watch: What the operators are told.
    """

    def __init__(self, cluster: Cluster, bus: Bus, simulator: Simulator) -> None:
        self.cluster = cluster
        self.bus = bus
        self.simulator = simulator
        self.fmp: list[ServiceProcess] = []
        self.ls: ServiceProcess
        self.edge: ServiceProcess
        self.prober: ServiceProcess
        self.edge_port = 0
        self.certificate: Path
        self.watch: Watch

    def client(self) -> Mesh:
        """Return something with which clients can be had."""
        mesh = Mesh(None, self.simulator)  # type: ignore[arg-type] # it has no single one
        mesh.edge_port = self.edge_port
        return mesh


async def _make_streams(bus: Bus) -> None:
    js = bus.nc.jetstream()
    for config in definitions(3):
        # Reservations of a drill must leave room on a small store.
        config.max_bytes = min(config.max_bytes or 0, _MAX_BYTES)
        async with asyncio.timeout(60):
            while not await _added(js, config):
                await asyncio.sleep(0.2)


async def _added(js: JetStreamContext, config: StreamConfig) -> bool:
    try:
        await js.add_stream(config)
    except (NatsError, APIError):  # no leader yet
        return False
    return True


def news_config(subjects: list[str]) -> StreamConfig:
    """Return the news stream as the drill has it, with other *subjects*."""
    config = next(c for c in definitions(3) if c.name == NEWS)
    config.max_bytes = _MAX_BYTES
    config.subjects = subjects
    return config


@asynccontextmanager
async def run_rig(folder: Path) -> AsyncIterator[Rig]:
    """Run everything while the context is open."""
    async with AsyncExitStack() as stack:
        cluster = make_cluster(folder / "nats", plan_nodes(), sync="2m")
        for node in cluster.nodes:
            text = node._config.read_text()
            limit = f"jetstream {{\n  max_file_store: {_STORE}"
            node._config.write_text(text.replace("jetstream {", limit))
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        bus = await stack.enter_async_context(connect_bus(cluster.settings(), "drill"))
        await _make_streams(bus)
        simulator = await start_simulator(stack, "--rate", "200", "--news-rate", "60")
        rig = Rig(cluster, bus, simulator)
        rig.certificate = folder / "tls.pem"
        write_certificate(rig.certificate, 90)
        await _start_services(rig, stack, folder)
        targets = {
            "ingest-fmp": [await _address(one) for one in rig.fmp],
            "ingest-ls": [await _address(rig.ls)],
            "edge": [await _address(rig.edge)],
            "prober": [await _address(rig.prober)],
        }
        alerts = run_alerts(folder / "alerts", targets)
        rig.watch = await stack.enter_async_context(alerts)
        yield rig


async def _start_services(rig: Rig, stack: AsyncExitStack, folder: Path) -> None:
    common = {"NATS_URL": rig.cluster.url, "OPS_PORT": "0"}
    urls = rig.simulator.urls

    async def start(module: str, **env: str) -> ServiceProcess:
        service = ServiceProcess(module, common | env)
        await service.start()
        stack.push_async_callback(service.stop, signal.SIGKILL)
        # Started again, it must be found where it was.
        service._env["OPS_PORT"] = (await service.ops()).rsplit(":", 1)[1]
        return service

    for _ in range(2):
        one = await start(
            "ingest_fmp",
            FMP_STOCKS_URL=urls["fmp_stocks_url"],
            FMP_CRYPTO_URL=urls["fmp_crypto_url"],
            FMP_FOREX_URL=urls["fmp_forex_url"],
            FMP_SYMBOLS=_SYMBOLS,
            FMP_CANARY="1s",
        )
        rig.fmp.append(one)
    rig.ls = await start(
        "ingest_ls",
        LS_REST_URL=urls["ls_rest_url"],
        LS_WS_URL=urls["ls_ws_url"],
        LS_STOCK_CODES="005930",
        LS_SPOOL_DIR=str(folder),
        LS_CANARY="1s",
    )
    rig.edge = await start("edge", EDGE_PORT="0", EDGE_STUCK="30s")
    rig.edge_port = (await rig.edge.event("clients are served"))["port"]
    rig.edge._env["EDGE_PORT"] = str(rig.edge_port)
    rig.prober = await start(
        "prober",
        PROBER_EDGES=f"ws://127.0.0.1:{rig.edge_port}/api/v3/stream",
        PROBER_NATS=",".join(n.plan.monitor_url for n in rig.cluster.nodes),
        PROBER_CERTIFICATES=str(rig.certificate),
    )
    for service in (*rig.fmp, rig.ls, rig.edge, rig.prober):
        await service.ready()


async def _address(service: ServiceProcess) -> str:
    return (await service.ops()).removeprefix("http://")


async def leader_of(services: list[ServiceProcess]) -> ServiceProcess:
    """Return the one of *services* that leads, once one does."""
    async with asyncio.timeout(30):
        while True:
            for one in services:
                if await one.metric("feedmesh_ingest_leader") == 1:
                    return one
            await asyncio.sleep(0.2)
