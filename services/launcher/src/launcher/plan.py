"""
What `make run` starts, decided from the environment; no I/O but the look at ports.

Upstreams without a key are simulated, those with a key are the real ones. NATS is our
own unless ``NATS_URL`` names another.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


__all__ = ["Plan", "PlanError", "Process", "make_plan"]

PortIsFree = Callable[[int], bool]

_SIMULATOR_PORTS = 8
_SIMULATOR_BASES = range(9100, 9200, 10)
_NATS_PORTS = range(4222, 4322)
_MONITOR_PORTS = range(8222, 8322)
_OPS_PORTS = range(9201, 9301)

# FMP documentation, "WebSocket" pages: one host for each kind of asset, and one for
# the newer product.
_REAL_FMP = {
    "FMP_STOCKS_URL": "wss://websockets.financialmodelingprep.com",
    "FMP_CRYPTO_URL": "wss://crypto.financialmodelingprep.com",
    "FMP_FOREX_URL": "wss://forex.financialmodelingprep.com",
    "FMP_STREAM_URL": "wss://socket.financialmodelingprep.com",
}
# LS Open API portal, "REST" and "WebSocket" guides.
_REAL_LS = {
    "LS_REST_URL": "https://openapi.ls-sec.co.kr:8080",
    "LS_WS_URL": "wss://openapi.ls-sec.co.kr:9443/websocket",
}
# The simulator's ports, counted from the first.
_FMP_OFFSETS = tuple(enumerate(_REAL_FMP, start=1))
_SERVICES = ("edge", "ingest-fmp", "ingest-ls", "prober")
_DEFAULT_SYMBOLS = "AAPL,MSFT,NVDA,BRK-B,BTCUSD,ETHUSD,EURUSD,USDJPY"
_DEFAULT_CODES = "005930,000660,035420,086520"


class PlanError(Exception):
    """It cannot be run as asked; the text is one line for the user."""


@dataclass(frozen=True)
class Process:
    """One process: its name, its command line, and its own part of the environment."""

    name: str
    command: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """
    Everything to start, in order, and what to tell the user.

    Attributes:
        processes: All of them; each waits by itself for what it needs.
        edge_url: Where the page and the endpoints are.
        edge_ops_url: Where the edge says whether it is ready.
        nats_url: Where the bus is.
        ops_urls: Where each service says how it is.
        simulated: Names of the upstreams that are not real.
    """

    processes: tuple[Process, ...]
    edge_url: str
    edge_ops_url: str
    nats_url: str
    ops_urls: Mapping[str, str]
    simulated: tuple[str, ...]


def make_plan(environ: Mapping[str, str], data: Path, is_free: PortIsFree) -> Plan:
    """
    Return what to start.

    Args:
        environ: The settings.
        data: A folder for what the embedded NATS keeps.
        is_free: Tells whether a port of 127.0.0.1 can be listened on.

    Raises:
        PlanError: If a port that was asked for is in use.
    """
    ports = _Ports(environ, is_free)
    edge_port = ports.required("EDGE_PORT", 8080)
    ops = {name: ports.choose("", _OPS_PORTS) for name in _SERVICES}
    nats_url = environ.get("NATS_URL", "")
    bus: list[Process] = []
    monitor = ""
    if not nats_url:
        nats_port = ports.choose("NATS_PORT", _NATS_PORTS)
        monitor_port = ports.choose("", _MONITOR_PORTS)
        nats_url = f"nats://127.0.0.1:{nats_port}"
        monitor = f"http://127.0.0.1:{monitor_port}"
        bus.append(_nats(nats_port, monitor_port, data))
    common = {"NATS_URL": nats_url}
    bus.append(Process("streams", _streams(nats_url), common))
    upstreams = _upstreams(environ, ports)
    special: dict[str, dict[str, str]] = {
        "ingest-fmp": dict(upstreams.fmp),
        "ingest-ls": dict(upstreams.ls),
        "edge": {"EDGE_PORT": str(edge_port)},
        "prober": {
            "PROBER_EDGES": f"ws://{_shown(environ)}:{edge_port}/api/v3/stream",
            "PROBER_NATS": monitor,
        },
    }
    services = [
        Process(
            name,
            _python(name.replace("-", "_")),
            common | {"OPS_PORT": str(ops[name])} | special[name],
        )
        for name in _SERVICES
    ]
    ops_urls = {name: f"http://127.0.0.1:{port}" for name, port in ops.items()}
    return Plan(
        processes=(*bus, *upstreams.simulator, *services),
        edge_url=f"http://{_shown(environ)}:{edge_port}",
        edge_ops_url=ops_urls["edge"],
        nats_url=nats_url,
        ops_urls=ops_urls,
        simulated=upstreams.simulated,
    )


def _shown(environ: Mapping[str, str]) -> str:
    host = environ.get("EDGE_HOST") or "127.0.0.1"
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


class _Ports:
    """Hands out ports, each once."""

    def __init__(self, environ: Mapping[str, str], is_free: PortIsFree) -> None:
        self._environ = environ
        self._is_free = is_free
        self._taken: set[int] = set()

    def required(self, setting: str, default: int) -> int:
        text = self._environ.get(setting) or str(default)
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
            raise PlanError(f"{setting} must be a port, from 1 to 65535")
        if not self._free(int(text)):
            raise PlanError(
                f"port {text} is in use; set {setting} to another, for example:"
                f" make run {setting}={int(text) + 1}"
            )
        self._taken.add(int(text))
        return int(text)

    def choose(self, setting: str, candidates: range) -> int:
        if setting and self._environ.get(setting):
            return self.required(setting, 0)
        return self.block(candidates, 1)

    def block(self, bases: range, size: int) -> int:
        for base in bases:
            if all(self._free(port) for port in range(base, base + size)):
                self._taken.update(range(base, base + size))
                return base
        raise PlanError(f"no free port between {bases.start} and {bases.stop}")

    def _free(self, port: int) -> bool:
        return port not in self._taken and self._is_free(port)


class _Upstreams(NamedTuple):
    """Settings of both ingests, and the simulator if any of them needs it."""

    fmp: Mapping[str, str]
    ls: Mapping[str, str]
    simulator: tuple[Process, ...]
    simulated: tuple[str, ...]


def _upstreams(environ: Mapping[str, str], ports: _Ports) -> _Upstreams:
    fmp = {"FMP_SYMBOLS": _DEFAULT_SYMBOLS, "FMP_CANARY": "1s"} | _REAL_FMP
    ls = {"LS_CANARY": "1s"} | _REAL_LS
    simulated = []
    if not _has(environ, "FMP_API_KEY"):
        simulated.append("fmp")
    if not (_has(environ, "LS_APP_KEY") and _has(environ, "LS_APP_SECRET")):
        simulated.append("ls")
    if not simulated:
        return _Upstreams(_given(environ, fmp), _given(environ, ls), (), ())
    base = ports.block(_SIMULATOR_BASES, _SIMULATOR_PORTS)
    fmp = _given(environ, fmp)
    ls = _given(environ, ls)
    # A URL of a real upstream in the environment is of no use without its key.
    if "fmp" in simulated:
        fmp |= {name: f"ws://127.0.0.1:{base + i}" for i, name in _FMP_OFFSETS}
    if "ls" in simulated:
        ls |= {
            "LS_REST_URL": f"http://127.0.0.1:{base + 5}",
            "LS_WS_URL": f"ws://127.0.0.1:{base + 6}/websocket",
            "LS_STOCK_CODES": environ.get("LS_STOCK_CODES") or _DEFAULT_CODES,
        }
    return _Upstreams(fmp, ls, (_simulator(environ, base),), tuple(simulated))


def _nats(port: int, monitor_port: int, data: Path) -> Process:
    server = Path(sys.executable).parent / "nats-server"
    command = shlex.join(
        [
            *(str(server), "--addr", "127.0.0.1", "--port", str(port)),
            *("--jetstream", "--store_dir", str(data / "nats")),
            *("--http_port", str(monitor_port)),
        ]
    )
    return Process("nats", f"exec {command}")


def _streams(nats_url: str) -> str:
    # Whoever is first makes them, we or those who run the servers.
    copies = "3" if nats_url.count(",") >= 2 else "1"
    return _python("feedmesh", "streams", "--keep", "--replicas", copies)


def _simulator(environ: Mapping[str, str], base: int) -> Process:
    rate = environ.get("SIMULATOR_RATE", "200")
    news = environ.get("SIMULATOR_NEWS_RATE", "60")
    seed = environ.get("SIMULATOR_SEED", "1")
    return Process(
        "simulator",
        _python(
            "simulator",
            *("--base-port", str(base), "--seed", seed),
            *("--rate", rate, "--news-rate", news, "--ls-page-size", "0"),
            # Real news pause for minutes; who has just started wants to see some.
            *("--scenario", str(Path(__file__).with_name("opening.json"))),
        ),
    )


def _python(module: str, *arguments: str) -> str:
    return "exec " + shlex.join([sys.executable, "-m", module, *arguments])


def _has(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))


def _given(environ: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Return *defaults*, each replaced by what the environment has for it."""
    return {name: environ.get(name) or value for name, value in defaults.items()}
