"""What `make cluster` would start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.cluster import Node, choose_nodes, node_config, processes, urls
from launcher.plan import PlanError


def choose(taken: frozenset[int] = frozenset(), **environ: str) -> list[Node]:
    return choose_nodes(environ, lambda port: port not in taken)


def test_by_itself_it_takes_the_usual_ports() -> None:
    nodes = choose()

    assert urls(nodes) == ",".join(f"nats://127.0.0.1:{4222 + n}" for n in range(3))
    assert [node.route_port for node in nodes] == [6222, 6223, 6224]


def test_ports_in_use_are_stepped_over() -> None:
    nodes = choose(frozenset({4223, 6222, 8224}))

    assert [node.port for node in nodes] == [4222, 4224, 4225]
    assert [node.route_port for node in nodes] == [6223, 6224, 6225]
    assert [node.monitor_port for node in nodes] == [8222, 8223, 8225]


def test_ports_may_be_given() -> None:
    assert [n.port for n in choose(CLUSTER_PORTS="5001, 5002,5003")] == [
        5001,
        5002,
        5003,
    ]


@pytest.mark.parametrize("text", ["4222", "1,2,x", "1,1,2", "1,2,70000", "1,2,3,4"])
def test_anything_but_three_ports_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="three ports"):
        choose(CLUSTER_PORTS=text)


def test_a_given_port_in_use_is_said() -> None:
    with pytest.raises(PlanError, match="port 5002 is in use"):
        choose(frozenset({5002}), CLUSTER_PORTS="5001,5002,5003")


def test_each_node_knows_the_others_and_syncs_always() -> None:
    nodes = choose()
    text = node_config(nodes[0], nodes, Path('/data/a "b"'))

    assert 'routes: ["nats://127.0.0.1:6223", "nats://127.0.0.1:6224"]' in text
    assert "sync_interval: always" in text
    assert r'store_dir: "/data/a \"b\"/feedmesh-1"' in text


def test_limits_and_times_are_those_of_production() -> None:
    production = Path(__file__).parents[3] / "k8s/base/nats/nats.conf"
    setting = re.compile(r"^ *(\w+): +(\S+)$", re.M)
    of_its_own = {"name", "server_name", "listen", "http", "store_dir", "routes"}
    beyond = {"pid_file", "no_advertise", "min_version", "verify"}
    wanted = {
        name: value
        for name, value in setting.findall(production.read_text())
        if name not in of_its_own | beyond and not name.endswith("_file")
    }
    nodes = choose_nodes({}, lambda port: True)
    found = dict(setting.findall(node_config(nodes[0], nodes, Path("/data"))))

    assert {"ping_interval", "write_deadline", "sync_interval"} <= wanted.keys()
    assert wanted.items() <= found.items()


def test_streams_have_a_replica_on_each_node() -> None:
    nodes = choose()
    found = processes(nodes, [Path(f"/{node.name}.conf") for node in nodes])

    assert [p.name for p in found] == [*(node.name for node in nodes), "streams"]
    assert "--replicas 3" in found[-1].command
    assert found[-1].env == {"NATS_URL": urls(nodes)}
