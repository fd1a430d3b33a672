"""
Three NATS servers on this machine with the settings of production: ``make cluster``.

What a single server cannot show is seen here: elections, replicas, the loss of a node.
JetStream writes every message through to the disk before it confirms it
(``sync_interval: always``); with the server's own default, two minutes, confirmed
messages are lost when the power fails. A server that ends, or is killed to see what
happens, is started again.

In production each server has processors of its own. Here each gets a third of them, so
that one that starts, and reads what it has stored, does not hold the others up.

:func:`node_config` and :func:`serve` are what the fault tests run on, too.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.plan import PlanError, Process
from launcher.running import Announcement, is_free, run


__all__ = [
    "Node",
    "choose_nodes",
    "main",
    "node_config",
    "processes",
    "serve",
    "urls",
]

_SIZE = 3
_HOST = "127.0.0.1"
# The usual ports of clients, routes and monitoring, and what follows them.
_CLIENTS = range(4222, 4322)
_ROUTES = range(6222, 6322)
_MONITORS = range(8222, 8322)
_DATA = Path(".data") / "cluster"
_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Node:
    """
    One server.

    Attributes:
        name: Unique; its replicas are known by it, so it never changes.
        port: For clients.
        route_port: For the other nodes.
        monitor_port: For whoever asks how it is, over HTTP.
        host: Address of all three.
    """

    name: str
    port: int
    route_port: int
    monitor_port: int
    host: str = _HOST

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str:
        """Where it says how it is."""
        return f"http://{self.host}:{self.monitor_port}"


def urls(nodes: Sequence[Node]) -> str:
    """Return the value of NATS_URL that leads to all *nodes*."""
    return ",".join(node.url for node in nodes)


def node_config(
    node: Node, nodes: Sequence[Node], folder: Path, *, sync: str = "always"
) -> str:
    """
    Return the configuration file of *node*, one of *nodes*, which keeps its data and
    its log in *folder*; *sync* is how often JetStream writes through to the disk.

    It has the limits and times of production, but neither TLS nor users.
    """
    routes = ", ".join(
        f'"nats://{other.host}:{other.route_port}"' for other in nodes if other != node
    )
    return f"""\
server_name: "{node.name}"
listen: "{node.host}:{node.port}"
http: "{node.host}:{node.monitor_port}"
logfile: {_quoted(folder / f"{node.name}.log")}
logfile_size_limit: 16MB
logfile_max_num: 2
jetstream {{
  store_dir: {_quoted(folder / node.name)}
  max_memory_store: 1GB
  max_file_store: 8GB
  sync_interval: {sync}
}}
lame_duck_grace_period: 5s
lame_duck_duration: 30s
ping_interval: "20s"
write_deadline: "5s"
max_payload: 1MB
cluster {{
  name: "feedmesh"
  listen: "{node.host}:{node.route_port}"
  routes: [{routes}]
}}
"""


def serve(config: Path) -> list[str]:
    """Return the command line of one server of three, which has *config*."""
    cores = max(1, (os.cpu_count() or 1) // _SIZE)
    server = Path(sys.executable).parent / "nats-server"
    return ["env", f"GOMAXPROCS={cores}", str(server), "--config", str(config)]


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def choose_nodes(
    environ: Mapping[str, str], is_free: Callable[[int], bool]
) -> list[Node]:
    """
    Return the nodes, on the ports that CLUSTER_PORTS names, or on free ones.

    Raises:
        PlanError: If the setting is wrong or a port is in use.
    """
    given = environ.get("CLUSTER_PORTS", "")
    clients = _given(given, is_free) if given else _free(_CLIENTS, is_free)
    return [
        Node(f"feedmesh-{number}", *ports)
        for number, ports in enumerate(
            zip(
                clients, _free(_ROUTES, is_free), _free(_MONITORS, is_free), strict=True
            ),
            start=1,
        )
    ]


def _given(text: str, is_free: Callable[[int], bool]) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise PlanError("CLUSTER_PORTS must be three ports, such as 4222,4223,4224")
    ports = [int(part) for part in parts]
    if len(set(ports)) != _SIZE or not all(0 < port < 65536 for port in ports):
        raise PlanError("CLUSTER_PORTS must be three ports, such as 4222,4223,4224")
    for port in ports:
        if not is_free(port):
            raise PlanError(f"port {port} is in use; set CLUSTER_PORTS to others")
    return ports


def _free(candidates: range, is_free: Callable[[int], bool]) -> list[int]:
    found = [port for port in candidates if is_free(port)][:_SIZE]
    if len(found) < _SIZE:
        raise PlanError(f"no free ports from {candidates.start} to {candidates.stop}")
    return found


def processes(nodes: Sequence[Node], configs: Sequence[Path]) -> list[Process]:
    """Return what to start: a server for each node, and who makes the streams."""
    streams = [sys.executable, "-m", "feedmesh", "streams"]
    streams += ["--keep", "--replicas", str(len(nodes))]
    return [
        *(
            Process(node.name, _again_and_again(node, config))
            for node, config in zip(nodes, configs, strict=True)
        ),
        Process("streams", "exec " + shlex.join(streams), {"NATS_URL": urls(nodes)}),
    ]


def _again_and_again(node: Node, config: Path) -> str:
    # The shell ends with the server, as it is asked to while it waits for it.
    command = shlex.join(serve(config))
    told = f"echo '{node.name} ended; starting it again'"
    return f"trap 'exit 0' INT TERM; while :; do {command}; {told}; sleep 1; done"


def main() -> None:
    """Run the cluster until Ctrl+C; its data stays for the next time."""
    data = _DATA.absolute()
    data.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(data):
            code = _run(choose_nodes(os.environ, is_free), data)
    except PlanError as error:
        print(f"feedmesh: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(code)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """
    Keep others from running servers on the same files.

    Raises:
        PlanError: If somebody does.
    """
    with (data / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlanError(f"a cluster runs already, on {data}") from None
        yield


def _run(nodes: Sequence[Node], data: Path) -> int:
    configs = []
    for node in nodes:
        configs.append(data / f"{node.name}.conf")
        configs[-1].write_text(node_config(node, nodes, data))
    told = Announcement(
        "the cluster",
        [f"{node.monitor_url}/healthz" for node in nodes],
        _where_to_look(nodes),
        _WAIT_SECONDS,
    )
    return run(processes(nodes, configs), os.environ, told)


def _where_to_look(nodes: Sequence[Node]) -> str:
    lines = [
        "",
        "three NATS servers are running",
        f"  NATS_URL={urls(nodes)}",
        *(f"  {node.name:<11} {node.url}  {node.monitor_url}" for node in nodes),
        f"  run on it   make run NATS_URL={urls(nodes)}",
        f"  check it    NATS_URL={urls(nodes)} {sys.executable} -m feedmesh doctor"
        + "".join(f" --monitor {node.monitor_url}" for node in nodes),
        f"  logs        {_DATA}/*.log",
        "  stop        Ctrl+C",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
