"""The prober sees servers of NATS and certificates as they are."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import httpx
from drill.rig import write_certificate
from faults.cluster import run_cluster
from mesh import free_block
from prometheus_client import CollectorRegistry
from secured_nats import Authority, listening, start_server
from starlette.applications import Starlette

from feedmesh.ops import serve
from feedmesh.service import bind
from prober.certificates import expiry_of, show_expiries
from prober.metrics import ProberMetrics
from prober.nats_servers import NatsServers


_DAY = 86_400


async def test_a_server_that_is_gone_is_seen(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with run_cluster(tmp_path, sync="2m") as cluster, httpx.AsyncClient() as http:
        urls = tuple(node.plan.monitor_url for node in cluster.nodes)
        servers = NatsServers(urls, http, ProberMetrics(registry))
        async with cluster.bus():
            await servers.look()
        nodes = [url.removeprefix("http://") for url in urls]

        def up() -> list[float | None]:
            name = "feedmesh_nats_up"
            return [registry.get_sample_value(name, {"node": node}) for node in nodes]

        assert up() == [1, 1, 1]
        for stream in ("NEWS", "PRICES"):
            labels = {"stream": stream}
            name = "feedmesh_nats_stream_messages"
            assert registry.get_sample_value(name, labels) == 0
        await cluster.nodes[1].stop()
        await servers.look()
        assert up()[1] == 0


async def test_the_end_of_a_certificate_is_read_from_a_file_and_a_server(
    tmp_path: Path,
) -> None:
    registry = CollectorRegistry()
    file = tmp_path / "tls.pem"
    write_certificate(file, 5, with_key=True)
    listener = bind("127.0.0.1", 0, "port")
    endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
    tls = {"ssl_certfile": str(file), "ssl_keyfile": str(file)}
    async with serve(Starlette(), listener, lifespan="off", **tls):
        shown = await expiry_of(endpoint)
    in_file = await expiry_of(str(file))
    await show_expiries((str(file), endpoint, "/nowhere"), ProberMetrics(registry))

    assert shown == in_file
    assert abs(shown - time.time() - 5 * _DAY) < 60
    name = "feedmesh_certificate_expiry_timestamp_seconds"
    assert registry.get_sample_value(name, {"endpoint": str(file)}) == shown
    # What cannot be read must not look well.
    for gone in (endpoint, "/nowhere"):
        assert registry.get_sample_value(name, {"endpoint": gone}) == 0


async def test_a_server_of_nats_tells_of_the_certificate_that_it_uses(
    tmp_path: Path,
) -> None:
    """The file was renewed, but the server has not read it."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", valid=dt.timedelta(days=5))
    port = free_block(2)
    config = tmp_path / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{port + 1}"\n'
        f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
        f'jetstream {{ store_dir: "{tmp_path}/data" }}\n'
    )
    registry = CollectorRegistry()
    server = await start_server(config, {})
    try:
        await listening(port, server)
        authority.issue("server", valid=dt.timedelta(days=90))
        async with httpx.AsyncClient() as http:
            urls = (f"http://127.0.0.1:{port + 1}",)
            await NatsServers(urls, http, ProberMetrics(registry)).look()
    finally:
        server.kill()
        await server.wait()

    name = "feedmesh_certificate_expiry_timestamp_seconds"
    ends = registry.get_sample_value(name, {"endpoint": f"127.0.0.1:{port + 1}"})
    assert ends is not None
    assert abs(ends - time.time() - 5 * _DAY) < 300
