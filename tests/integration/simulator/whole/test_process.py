"""The simulator as a process, its control port, scenarios, replays and TLS."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from integration.simulator.whole.bench import (
    Bench,
    closed,
    login,
    receive,
    receive_raw,
    send,
)
from mesh import free_block
from processes import cpu_seconds, killed_at_end
from websockets.asyncio.client import connect

from simulator.testing import run_simulator


SOURCE = Path(__file__).parents[4] / "services" / "simulator" / "src"
URLS = {
    "control_url",
    "fmp_stocks_url",
    "fmp_crypto_url",
    "fmp_forex_url",
    "fmp_stream_url",
    "ls_rest_url",
    "ls_ws_url",
    "ls_paper_ws_url",
}


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    async with killed_at_end(process):
        yield process


async def _ready(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line: dict[str, str] = json.loads(await process.stdout.readline())
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_says_where_it_listens_and_stops_cleanly(number: signal.Signals) -> None:
    async with _process("--base-port", "0", "--rate", "100") as process:
        ready = await _ready(process)
        assert ready.pop("event") == "ready"
        assert set(ready) == URLS
        async with connect(ready["fmp_stocks_url"], proxy=None) as client:
            await login(client)
            process.send_signal(number)
            assert await closed(client) == 1001
            async with asyncio.timeout(5):
                output, errors = await process.communicate()

    assert process.returncode == 0
    assert (output, errors) == (b"", b"")


async def test_names_the_port_that_is_taken() -> None:
    base = free_block()
    port = base + 3
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        async with _process("--base-port", str(base)) as process:
            async with asyncio.timeout(20):
                output, errors = await process.communicate()

    text = errors.decode()
    assert process.returncode == 1
    assert output == b""
    assert text.count("\n") == 1
    assert f"port {port} " in text


@pytest.mark.parametrize(
    "arguments", [("--rate", "-1"), ("--news-rate", "often"), ("--replay-speed", "0")]
)
async def test_refuses_arguments_that_make_no_sense(arguments: tuple[str, str]) -> None:
    async with _process(*arguments) as process:
        _, errors = await process.communicate()

    assert process.returncode == 2
    assert b"Traceback" not in errors


@pytest.mark.parametrize("option", ["--scenario", "--replay", "--tls-cert"])
@pytest.mark.parametrize("text", [None, "nonsense"])
async def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, option: str, text: str | None
) -> None:
    path = tmp_path / "given"
    if text is not None:
        path.write_text(text)
    async with _process(option, str(path), "--base-port", "0") as process:
        _, errors = await process.communicate()

    assert process.returncode == 1
    assert errors.count(b"\n") == 1


async def test_sustains_five_thousand_a_second() -> None:
    """One event a frame; the client here only counts, so as not to be measured."""
    async with _process("--base-port", "0", "--rate", "5500") as process:
        url = (await _ready(process))["fmp_stocks_url"]
        async with connect(
            url, proxy=None, compression=None, close_timeout=0.1
        ) as client:
            await login(client)
            await send(client, {"event": "subscribe", "data": {"ticker": "*"}})
            await receive(client)
            before = cpu_seconds(process.pid)
            for _ in range(11_000):
                await client.recv()
            used = cpu_seconds(process.pid) - before

    # By its own processor time, since others use this machine, too.
    assert used < 11_000 / 5_000


async def test_the_control_port_shows_everything(bench: Bench) -> None:
    url = bench.simulator.urls["control_url"]
    async with bench.fmp("stocks", "aapl"):
        overview = (await bench.http.get(url + "/")).json()
        kinds = (await bench.http.get(url + "/fault/kinds")).json()

    assert set(overview) >= URLS
    assert overview["event"] == "ready"
    stocks = overview["stats"]["targets"]["fmp.stocks"]
    assert (stocks["connections_open"], stocks["subscribed"]) == (1, ["aapl"])
    assert stocks["logins"] == stocks["connects"] == 1
    assert (await bench.http.get(url + "/healthz")).status_code == 200
    assert "half_open" in kinds["kinds"]["ls.ws"]


async def test_faults_are_listed_and_lifted(bench: Bench) -> None:
    url = bench.simulator.urls["control_url"] + "/fault"
    await bench.fault("fmp", "silence")
    await bench.fault("ls.ws", "no_pong", count=2)

    listed = (await bench.http.get(url)).json()["faults"]
    some = (await bench.http.delete(url, params={"target": "fmp.crypto"})).json()
    rest = (await bench.http.delete(url)).json()

    assert len(listed) == 5
    assert (some, rest) == ({"cleared": 1}, {"cleared": 4})


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("/fault", {"target": "fmp.stocks", "kind": "earthquake"}),
        ("/fault", {"target": "nowhere", "kind": "silence"}),
        ("/fault", {"target": "ls.ws", "kind": "drop", "count": "many"}),
        ("/inject", {"target": "nowhere", "frames": [{}]}),
        ("/inject", {"target": "ls.ws", "frames": []}),
        ("/inject", {"target": "ls.ws", "frames": [{"bytes_b64": "!"}]}),
        ("/clock", {"now": "soon"}),
        ("/clock", {}),
        ("/generate", {"rate": "fast"}),
        ("/generate", {"news_per_minute": "often"}),
        ("/fault", []),
        ("/fault", {"target": "ls.ws", "kind": "news_shape", "variant": "odd"}),
        ("/fault", {"target": "ls.ws", "kind": "ack", "variant": "odd"}),
        ("/fault", {"target": "ls.rest", "kind": "token", "reply": "odd"}),
        ("/fault", {"target": "ls.rest", "kind": "t3102", "variant": "odd"}),
        ("/fault", {"target": "fmp.stocks", "kind": "shape", "price": "odd"}),
    ],
)
async def test_a_senseless_order_is_refused(
    bench: Bench, path: str, order: Any
) -> None:
    url = bench.simulator.urls["control_url"] + path

    reply = await bench.http.post(url, json=order)

    assert reply.status_code == 422
    assert reply.json()["error"]


async def test_generators_go_on_and_off(bench: Bench) -> None:
    on = await bench.post("/generate", {"rate": 200, "news_per_minute": 60})
    off = await bench.post("/generate", {"prices": False, "news": False})
    again = await bench.post("/generate", {"prices": True, "rate": 100, "news": True})

    assert on == {"rate": 200, "news_per_minute": 60}
    assert off == {"rate": 0, "news_per_minute": 0}
    assert again["rate"] == 100


async def test_the_clock_can_be_set(bench: Bench) -> None:
    fixed = await bench.post("/clock", {"now": "2026-01-02T03:04:05"})
    offset = await bench.post("/clock", {"now": 0})

    assert fixed["now"].startswith("2026-01-02T03:04:05")
    assert fixed["now"].endswith("+09:00")
    assert offset["offset"] == 0


async def test_a_scenario_plays_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    frame = '{"s":"aapl","t":1645216790788174600,"ap":152.460}'
    path.write_text(
        '[{"at":0.6,"action":"inject","target":"fmp.stocks","frames":[' + frame + "]},"
        '{"at":0.8,"action":"fault","target":"fmp.stocks","kind":"close","code":1012}]'
    )

    async with (
        run_simulator(scenario=path) as simulator,
        httpx.AsyncClient(trust_env=False) as http,
        Bench(simulator, http).fmp("stocks", "aapl") as client,
    ):
        assert await receive_raw(client) == frame
        assert await closed(client) == 1012


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_a_recording_is_played_at_a_speed(tmp_path: Path, speed: float) -> None:
    path = tmp_path / "recorded.jsonl"
    frames = [f'{{"s": "aapl","t":{t},"type":"Q","ap":1.{t}0}}' for t in (1, 2, 3)]
    path.write_text(
        "".join(
            f'{{"at":{i * 0.2 * speed},"target":"fmp.stocks","frame":{frame}}}\n'
            for i, frame in enumerate(frames)
        )
    )

    async with (
        run_simulator(replay=path, replay_speed=speed) as simulator,
        httpx.AsyncClient(trust_env=False) as http,
        Bench(simulator, http).connect("fmp.stocks") as client,
    ):
        await login(client)
        started = time.monotonic()
        received = [await receive_raw(client) for _ in range(3)]
        elapsed = time.monotonic() - started

    assert received == frames
    assert 0.3 < elapsed < 0.4 * 10


async def test_masters_come_in_pages() -> None:
    async with (
        run_simulator(ls_page_size=100) as simulator,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        bench = Bench(simulator, http)
        token = await bench.token()
        await bench.fault("ls.rest", "no_rate_limit")
        codes: list[str] = []
        headers: dict[str, str] = {}
        while True:
            reply = await bench.tr(
                "t8436", "/stock/etc", {"gubun": "0"}, token, **headers
            )
            codes += [row["shcode"] for row in reply.json()["t8436OutBlock"]]
            if reply.headers["tr_cont"] != "Y":
                break
            headers = {"tr_cont": "Y", "tr_cont_key": reply.headers["tr_cont_key"]}

    assert len(codes) == len(set(codes)) > 300


async def test_tls_works_and_fails_on_every_second_connect(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(
        subprocess.run,
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    trust = ssl.create_default_context(cafile=str(cert))

    async with (
        run_simulator(tls_cert=cert, tls_key=key) as simulator,
        httpx.AsyncClient(trust_env=False, verify=trust) as http,
    ):
        bench = Bench(simulator, http)
        assert simulator.urls["fmp_stocks_url"].startswith("wss://")
        async with bench.connect("fmp.stocks", ssl=trust) as client:
            assert (await login(client))["status"] == 200
        await bench.token()

        await bench.fault("fmp.stocks", "tls_fail", every=2)
        with pytest.raises(ssl.SSLError):
            async with bench.connect("fmp.stocks", ssl=trust):
                """Never."""
        async with bench.connect("fmp.stocks", ssl=trust) as client:
            assert (await login(client))["status"] == 200
