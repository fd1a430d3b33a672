"""The doctor against real servers: well, and wrong in each way that it looks for."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults.cluster import run_cluster
from mesh import free_block
from nats.js.api import ConsumerConfig, StreamConfig
from nats_process import NatsProcess, open_bus
from processes import ServiceProcess, run_service
from secured_nats import listening, run_secured_nats, start_server

from feedmesh import doctor
from feedmesh.bus import Bus, connect_bus
from feedmesh.clock import now_ns
from feedmesh.doctor import StreamGate
from feedmesh.messages import encode, head
from feedmesh.permissions import IDENTITIES
from feedmesh.settings import ServiceSettings
from feedmesh.streams import (
    GAPS,
    NEWS,
    PINS,
    PRICES,
    STATUS,
    definitions,
    ensure_streams,
)


Found = dict[str, tuple[str, str]]
HOUR = 3600 * 10**9


async def command(
    url: str, *arguments: str, start: tuple[str, ...] = ("-m", "feedmesh"), **env: str
) -> tuple[int, Found]:
    """Run the command; return its exit code and what it found, by what it is about."""
    process = await create_subprocess_exec(
        *(sys.executable, *start, "doctor", "--json", *arguments),
        env={"PATH": os.environ["PATH"], "NATS_URL": url} | env,
        stdout=PIPE,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    found = {f["about"]: (f["level"], f["text"]) for f in json.loads(output)}
    return process.returncode, found


async def examine(
    url: str,
    *monitors: str,
    replicas: int = 1,
    role: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Found:
    """Return what the doctor finds, without a process of its own."""
    settings = ServiceSettings.from_env({"NATS_URL": url, **(env or {})})
    facts = await doctor.gather(settings, monitors)
    findings = doctor.check(facts, replicas, role)
    return {f.about: (f.level.value, f.text) for f in findings}


@asynccontextmanager
async def configured(
    folder: Path, extra: str = "", jetstream: str = "sync_interval: always"
) -> AsyncIterator[tuple[str, str]]:
    """Run a server with *extra* configured; yield its URL and its monitor's."""
    port = free_block(2)
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{port + 1}"\n'
        + (f'jetstream {{ store_dir: "{folder}/data", {jetstream} }}\n' * bool(extra))
        + extra
    )
    server = await start_server(config, {})
    try:
        await listening(port, server)
        yield f"nats://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    finally:
        server.kill()
        await server.wait()


@asynccontextmanager
async def relay(port: int, old: bytes, new: bytes) -> AsyncIterator[int]:
    """Lead to *port*; in what the server says first, *old* is changed to *new*."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            out.write((await reader.readline()).replace(old, new))
            await asyncio.gather(_copy(client, writer), _copy(reader, out))
        finally:
            for end in (writer, out):
                end.transport.abort()

    def accept(client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(client, out)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    # Whoever has left may still be served: sockets must not outlive the test.
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
    writer.close()


async def status(bus: Bus, age_ns: int) -> None:
    """Store what an ingest said of itself so long ago."""
    at = now_ns() - age_ns
    said = head("status", "ls", (1, 1), event_ns=at, received_ns=at, published_ns=at)
    await bus.nc.jetstream().publish("status.ls", encode(said, b"{}"))


async def test_a_server_with_all_streams_is_well(
    nats_server: NatsProcess, bus: Bus
) -> None:
    await status(bus, 0)

    code, found = await command(nats_server.url)

    assert code == 0
    assert found[nats_server.url][0] == "ok"
    assert found["stream NEWS"] == ("ok", "0 messages, 1 replicas")
    assert found["ls status"][0] == "ok"
    assert found["sync"][0] == "unknown"
    assert found["clock"][0] == "ok"


async def test_a_server_that_is_too_old_fails(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with relay(nats_server.port, b'"version":"', b'"version":"1.') as port:
        code, found = await command(f"nats://127.0.0.1:{port}")

    assert code == 1
    level, text = found[f"nats://127.0.0.1:{port}"]
    assert (level, text.partition(";")[2]) == ("fail", " 2.12 is needed")
    assert found["stream NEWS"][0] == "ok"


async def test_a_server_without_jetstream_fails(tmp_path: Path) -> None:
    async with configured(tmp_path) as (url, _):
        found = await examine(url)

    assert found[url][0] == "fail"
    assert found[url][1].endswith("without JetStream")


async def test_an_account_without_jetstream_fails(tmp_path: Path) -> None:
    accounts = "accounts { A { users: [{user: u, password: p}] }, B { jetstream: on } }"
    async with configured(tmp_path, accounts) as (url, _):
        found = await examine(url, env={"NATS_USER": "u", "NATS_PASSWORD": "p"})

    assert found[url][0] == "ok"
    assert found["JetStream"][0] == "fail"


async def test_nobody_there_is_said_and_not_waited_for() -> None:
    code, found = await command(f"nats://127.0.0.1:{free_block(1)}")

    assert code == 1
    assert found["connection"] == ("fail", "no server answers")


async def test_whoever_is_not_let_in_is_told(tmp_path: Path) -> None:
    async with configured(tmp_path, "authorization {user: a, password: b}") as (url, _):
        found = await examine(url, env={"NATS_USER": "a", "NATS_PASSWORD": "x"})

    assert found["connection"] == ("fail", "servers answer, but do not let us in")


@pytest.mark.parametrize(
    ("name", "changes", "level"),
    [
        ("NEWS", {"allow_direct": False}, "fail"),
        ("NEWS", {"subjects": ["news.>"]}, "fail"),
        ("NEWS", {"discard": "new"}, "fail"),
        ("PRICES", {"storage": "file"}, "fail"),
        ("PRICES", {"max_msgs_per_subject": 7}, "fail"),
        ("STATUS", {"retention": "interest"}, "fail"),
        ("NEWS", {"allow_atomic": False}, "fail"),
        ("NEWS", {"max_age": 7200.0}, "warn"),
        ("NEWS", {"duplicate_window": 30.0}, "warn"),
        ("DLQ", {"max_bytes": 1024}, "warn"),
    ],
)
async def test_every_setting_of_a_stream_is_looked_at(
    nats_server: NatsProcess, name: str, changes: dict[str, Any], level: str
) -> None:
    async with open_bus(nats_server) as bus:
        await make_otherwise(bus, name, **changes)

    found = await examine(nats_server.url)

    assert found.pop(f"stream {name}")[0] == level
    others = {about: level for about, (level, _) in found.items() if "stream" in about}
    assert set(others.values()) == {"ok"}


async def make_otherwise(bus: Bus, name: str, **changes: Any) -> None:
    """Replace the stream *name* by one with other settings."""
    js = bus.nc.jetstream()
    await js.delete_stream(name)
    await js.add_stream(defined(name).evolve(**changes))


async def test_a_missing_stream_fails(nats_server: NatsProcess) -> None:
    async with open_bus(nats_server) as bus:
        await bus.nc.jetstream().delete_stream(PINS)

    code, found = await command(nats_server.url)

    assert code == 1
    assert found["stream PINS"] == ("fail", "stream not found")


async def test_fewer_copies_than_expected_is_a_failure(
    nats_server: NatsProcess, bus: Bus
) -> None:
    code, found = await command(nats_server.url, "--replicas", "3")

    assert code == 1
    assert "num_replicas is 1, should be 3" in found["stream PRICES"][1]


async def test_a_lost_node_and_its_copies_are_named(tmp_path: Path) -> None:
    async with run_cluster(tmp_path) as cluster, cluster.bus() as bus:
        leader = await cluster.leader(bus, NEWS)
        lost = next(node for node in cluster.nodes if node is not leader)
        before = await examine(cluster.url, replicas=3)
        await lost.stop(signal.SIGKILL)
        # A leader misses a copy only once it has not heard of it for a while.
        async with asyncio.timeout(40):
            while (await examine(cluster.url, replicas=3))["stream NEWS"][0] == "ok":
                await asyncio.sleep(0.5)
            found = await examine(cluster.url, replicas=3)

    assert before["stream NEWS"] == ("ok", "0 messages, 3 replicas")
    assert found[lost.plan.url] == ("warn", "does not answer")
    assert found["stream NEWS"] == ("warn", f"without its copy on {lost.name}")


@pytest.mark.parametrize(("sync", "level"), [("always", "ok"), ("2m", "warn")])
async def test_one_server_that_syncs_now_and_then_is_warned_of(
    tmp_path: Path, sync: str, level: str
) -> None:
    jetstream = f"sync_interval: {sync}"
    async with configured(tmp_path, "ping_interval: 30\n", jetstream) as (url, monitor):
        async with connect_bus(ServiceSettings(nats_url=(url,)), "test") as bus:
            await ensure_streams(bus.nc.jetstream())
        code, found = await command(url, "--monitor", monitor)

    assert (code, found["sync"][0]) == (0, level)


@pytest.mark.parametrize(
    ("sync", "code", "level"), [("always", 0, "ok"), ("2m", 1, "fail")]
)
async def test_a_cluster_that_syncs_now_and_then_fails(
    tmp_path: Path, sync: str, code: int, level: str
) -> None:
    async with run_cluster(tmp_path, sync=sync) as cluster, cluster.bus():
        monitors = [f"--monitor={node.plan.monitor_url}" for node in cluster.nodes]
        given = await command(cluster.url, *monitors)
        some = await command(cluster.url, monitors[0])
        none = await command(cluster.url)

    assert (given[0], given[1]["sync"][0]) == (code, level)
    assert (none[0], none[1]["sync"][0]) == (0, "unknown")
    # What one of them says stands for that one only.
    partly = "unknown" if level == "ok" else level
    assert (some[0], some[1]["sync"][0]) == (code, partly)
    for _, found in (given, some, none):
        assert {about for about, (was, _) in found.items() if was == "fail"} <= {"sync"}


async def test_each_identity_may_do_what_is_declared_and_no_other_may(
    tmp_path: Path,
) -> None:
    users = "".join(map(user, IDENTITIES))
    rules = f"authorization {{ users: [{users}] }}"
    async with configured(tmp_path, rules) as (url, _):
        for name in IDENTITIES:
            who = {
                "NATS_USER": name,
                "NATS_PASSWORD": "p",
                "NATS_INBOX": f"_INBOX.{name}",
            }
            own = await examine(url, role=name, env=who)
            other = "edge" if name != "edge" else "ingest-ls"
            others = await examine(url, role=other, env=who)
            assert own["permissions"] == ("ok", f"{name} may do all that {name} needs")
            assert others["permissions"][0] == "fail"


def user(name: str) -> str:
    """Return a line of configuration; what each may ask about itself is added."""
    may = IDENTITIES[name]
    rules = {
        "publish": {"allow": [*may.publish, "$SYS.REQ.USER.INFO"]},
        "subscribe": {"allow": list(may.subscribe)},
    }
    return f"{{user: {name}, password: p, permissions: {json.dumps(rules)}}}\n"


async def test_it_works_as_the_observer_of_a_secured_server(tmp_path: Path) -> None:
    async with run_secured_nats(tmp_path) as server:
        maker = ServiceSettings.from_env(server.identity("streams"))
        async with connect_bus(maker, "streams") as bus:
            await ensure_streams(bus.nc.jetstream())

        found = await examine(
            server.url, role="observer", env=server.identity("observer")
        )

    assert found["stream NEWS"][0] == found["permissions"][0] == "ok"


async def test_what_an_identity_is_not_told_is_unknown(tmp_path: Path) -> None:
    blind = """authorization { users: [{user: u, password: p, permissions: {
        publish: {allow: "$SYS.REQ.USER.INFO"}, subscribe: {allow: "_INBOX.>"}}}] }"""
    async with configured(tmp_path, blind) as (url, _):
        found = await examine(
            url, role="edge", env={"NATS_USER": "u", "NATS_PASSWORD": "p"}
        )

    assert found["stream NEWS"][0] == found["JetStream"][0] == "unknown"
    assert found["permissions"][0] == "fail"
    assert found["clock"][0] == "ok"


async def test_a_clock_that_is_off_is_noticed(
    nats_server: NatsProcess, bus: Bus
) -> None:
    late = (
        "import time; now = time.time_ns; time.time_ns = lambda: now() + 10 * 10**9\n"
        "from feedmesh.__main__ import main; main()"
    )
    _, found = await command(nats_server.url, start=("-c", late))

    level, text = found["clock"]
    assert level == "warn"
    offset, error = map(float, re.findall(r"[\d.]+(?= ms)", text))
    assert text.startswith("+")
    # A digit is cut off from both.
    assert offset == pytest.approx(10_000, abs=error + 0.2)


async def test_a_consumer_for_each_client_is_noticed(
    nats_server: NatsProcess, bus: Bus
) -> None:
    js = bus.nc.jetstream()
    for number in range(101):
        await js.add_consumer(NEWS, ConsumerConfig(name=f"c{number}"))

    found = await examine(nats_server.url)

    assert found["consumers NEWS"][0] == "warn"


async def test_a_feed_that_has_fallen_silent_is_named(
    nats_server: NatsProcess, bus: Bus
) -> None:
    await status(bus, HOUR)

    found = await examine(nats_server.url)

    assert found["ls status"] == ("warn", "newest is 60 m old: its ingest is gone")


async def test_readiness_sees_what_is_fatal_and_nothing_else(bus: Bus) -> None:
    gate = StreamGate(bus, NEWS, PRICES)
    await make_otherwise(bus, NEWS, max_age=7200.0)
    await make_otherwise(bus, PINS, allow_direct=False)
    assert await seen_by(gate) is None

    await make_otherwise(bus, NEWS, allow_direct=False)
    await gate.look()
    assert "stream NEWS: allow_direct" in str(await seen_by(gate))

    await make_otherwise(bus, NEWS)
    assert await seen_by(gate) is None
    await bus.nc.jetstream().delete_stream(PRICES)
    await gate.look()
    assert await seen_by(gate) == "stream PRICES: stream not found"


async def test_readiness_sees_a_server_that_is_too_old(
    nats_server: NatsProcess, bus: Bus
) -> None:
    async with relay(nats_server.port, b'"version":"', b'"version":"1.') as port:
        settings = ServiceSettings.from_env({"NATS_URL": f"nats://127.0.0.1:{port}"})
        async with connect_bus(settings, "test") as old:
            found = str(await seen_by(StreamGate(old, NEWS)))

    assert found.startswith(f"NATS at 127.0.0.1:{port}: is 1.")
    assert found.endswith("; 2.12 is needed")
    assert await seen_by(StreamGate(bus, NEWS)) is None


async def test_a_short_absence_does_not_make_a_service_unready(bus: Bus) -> None:
    js = bus.nc.jetstream()
    gate = StreamGate(bus, PRICES)
    await gate.look()
    for _ in range(2):
        await js.delete_stream(PRICES)
        assert await seen_by(gate) is None
        await ensure_streams(js)
        assert await seen_by(gate) is None
    await js.delete_stream(PRICES)

    assert "not found" in str(await seen_by(StreamGate(bus, PRICES)))


async def test_nats_away_makes_unready_only_who_has_not_looked_yet(
    nats_server: NatsProcess, bus: Bus
) -> None:
    gate, late = StreamGate(bus, NEWS), StreamGate(bus, NEWS)
    assert await seen_by(gate) is None
    await nats_server.stop()
    known, unknown = await asyncio.gather(seen_by(gate), seen_by(late))
    again = await seen_by(gate)
    await nats_server.start()
    async with asyncio.timeout(30):
        while await seen_by(late) is not None:
            await asyncio.sleep(0.05)

    assert (known, again) == (None, None)
    assert unknown == "stream NEWS: no answer; may this identity ask?"


async def test_who_may_not_ask_about_a_stream_is_not_ready(tmp_path: Path) -> None:
    deaf = f'{{publish: {{deny: "$JS.API.STREAM.INFO.{STATUS}"}}}}'
    users = f"{{user: a, password: p}}, {{user: b, password: p, permissions: {deaf}}}"
    rules = f"authorization {{ users: [{users}] }}\n"
    async with configured(tmp_path, rules) as (url, _):
        who = {"NATS_URL": url, "NATS_USER": "a", "NATS_PASSWORD": "p"}
        async with (
            connect_bus(ServiceSettings.from_env(who), "a") as all_of_it,
            connect_bus(ServiceSettings.from_env(who | {"NATS_USER": "b"}), "b") as bus,
        ):
            await ensure_streams(all_of_it.nc.jetstream())
            control = await seen_by(StreamGate(all_of_it, GAPS, STATUS))
            found = await seen_by(StreamGate(bus, GAPS, STATUS))

    assert control is None
    assert found == "stream STATUS: no answer; may this identity ask?"


async def test_at_the_start_it_looks_at_once_and_soon_again(bus: Bus) -> None:
    await bus.nc.jetstream().delete_stream(GAPS)
    gate = StreamGate(bus, NEWS, GAPS, look_seconds=3600)
    before = str(gate.problem())
    looking = asyncio.create_task(gate.run())
    try:
        await until(lambda: gate.problem() == "stream GAPS: stream not found")
        await ensure_streams(bus.nc.jetstream())
        await until(lambda: gate.problem() is None)
    finally:
        looking.cancel()

    assert "stream NEWS" in before
    assert "stream GAPS" in before


async def seen_by(gate: StreamGate) -> str | None:
    """Return what is wrong after another look."""
    await gate.look()
    return gate.problem()


@pytest.mark.parametrize("module", ["edge", "ingest_fmp", "ingest_ls"])
async def test_services_are_not_ready_on_wrong_or_missing_streams(
    nats_server: NatsProcess, bus: Bus, module: str
) -> None:
    js = bus.nc.jetstream()
    await js.update_stream(defined(PRICES).evolve(max_msgs_per_subject=2))
    await js.update_stream(defined(NEWS).evolve(discard="new"))
    for name in (GAPS, STATUS, PINS):
        await js.delete_stream(name)
    wrong = {
        "stream PRICES: max_msgs_per_subject",
        "stream NEWS: discard",
        "stream STATUS: stream not found",
        "stream GAPS: stream not found",
        "stream PINS: stream not found",
    }
    env = {"NATS_URL": nats_server.url, "OPS_PORT": "0", "EDGE_PORT": "0"}
    async with run_service(module, env) as service:
        await service.ops()
        async with asyncio.timeout(30):
            while not all(map((await _readiness(service)).__contains__, wrong)):
                await asyncio.sleep(0.1)
        await ensure_streams(js)
        for name in (PRICES, NEWS):
            await js.update_stream(defined(name))
        await service.ready()


async def _readiness(service: ServiceProcess) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{await service.ops()}/readyz")).text


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


def defined(name: str) -> StreamConfig:
    return next(config for config in definitions() if config.name == name)
