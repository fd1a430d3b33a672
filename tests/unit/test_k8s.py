"""The manifests agree with the code: settings, identities, ports, probes, times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from manifests import (
    K8S,
    MADE,
    SETTINGS,
    Cluster,
    Manifest,
    container_of,
    manifests,
    pod_of,
    renderer,
)

from feedmesh.permissions import IDENTITIES, inbox_prefix, key_variable
from feedmesh.settings import ServiceSettings


OVERLAYS = ("overlays/dev", "overlays/prod")
SERVICES = ("edge", "ingest-fmp", "ingest-ls")
pytestmark = pytest.mark.skipif(
    renderer() is None, reason="no kustomize here; `make k8s-check` brings one"
)


@pytest.fixture(params=OVERLAYS)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Cluster(manifests(request.param))


@pytest.fixture
def prod() -> Cluster:
    return Cluster(manifests("overlays/prod"))


def ours(cluster: Cluster) -> dict[str, Manifest]:
    """Return the workloads that run code of ours which has settings."""
    return {
        workload["metadata"]["name"]: workload
        for workload in cluster.workloads()
        if workload["metadata"]["name"] in SETTINGS
    }


def seconds(duration: str) -> float:
    """Return a duration of the settings in seconds."""
    match = re.fullmatch(r"(\d+)s", duration)
    assert match
    return float(match[1])


def settings_of(
    cluster: Cluster, workload: Manifest, monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    """Return what the service reads from its environment; files hold something."""
    seed = "SU" + "A" * 56

    def read(path: Path, **_: Any) -> str:
        return seed if path.name == "seed" else "a-secret"

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", read)
        patch.setattr("ssl.create_default_context", lambda **_: None)
        name = workload["metadata"]["name"]
        return SETTINGS[name].from_env(cluster.environment(workload))


def test_the_environment_is_one_that_each_service_takes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"edge", "ingest-fmp", "ingest-ls", "streams"} <= set(ours(cluster))
    for workload in ours(cluster).values():
        settings_of(cluster, workload, monkeypatch)


def test_each_is_itself_at_nats_and_nobody_else(cluster: Cluster) -> None:
    """Identity, inbox and mounted key belong together."""
    for name, workload in ours(cluster).items():
        given = cluster.environment(workload)
        if "NATS_INBOX" not in given:
            assert name == "prober"  # It looks from outside.
            continue
        identity = "observer" if name == "doctor" else name
        assert given["NATS_INBOX"] == inbox_prefix(identity)
        assert identity in IDENTITIES
        keys = re.findall(r"nats-key-[a-z-]+", str(pod_of(workload)))
        assert keys == [f"nats-key-{identity}"]
        files = {given["NATS_CA_FILE"], given["NATS_NKEY_FILE"]}
        assert files == {"/run/nats/ca.crt", "/run/nats/seed"}


def test_every_file_that_is_named_is_mounted(cluster: Cluster) -> None:
    for workload in ours(cluster).values():
        mounts = tuple(
            mount["mountPath"]
            for mount in container_of(workload).get("volumeMounts", ())
        )
        for key, value in cluster.environment(workload).items():
            if key.endswith(("_FILE", "_DIR")):
                assert value.startswith(mounts), (key, value)


def test_the_development_overlay_leads_to_the_simulator_alone() -> None:
    dev = Cluster(manifests("overlays/dev"))
    for name in ("ingest-fmp", "ingest-ls"):
        upstreams = {
            key: value
            for key, value in dev.environment(dev.get("Deployment", name)).items()
            if key.endswith("_URL") and key != "NATS_URL"
        }
        assert upstreams
        assert all("//simulator:" in value for value in upstreams.values())
    for policy in dev.of("NetworkPolicy"):
        assert "ipBlock" not in str(policy)


def test_probes_and_ports_are_those_of_the_service(cluster: Cluster) -> None:
    for name, workload in ours(cluster).items():
        if name in ("streams", "doctor"):
            continue  # They end by themselves.
        container = container_of(workload)
        given = cluster.environment(workload)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["ops"]) == given["OPS_PORT"]
        assert container["livenessProbe"]["httpGet"] == {
            "path": "/healthz",
            "port": "ops",
        }
        assert container["readinessProbe"]["httpGet"] == {
            "path": "/readyz",
            "port": "ops",
        }
        assert container["command"] == ["python", "-m", name.replace("-", "_")]
        if name == "edge":
            assert str(ports["clients"]) == given["EDGE_PORT"]


def test_there_is_time_to_stop(prod: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grace is longer than preStop and the drain together."""
    for name in SERVICES:
        workload = prod.get("Deployment", name)
        settings = settings_of(prod, workload, monkeypatch)
        pre_stop = container_of(workload).get("lifecycle", {}).get("preStop", {})
        wait = pre_stop.get("sleep", {}).get("seconds", 0)
        grace = pod_of(workload)["terminationGracePeriodSeconds"]
        assert grace >= wait + settings.shutdown_timeout + 5
    config = prod.get("ConfigMap", "nats-config")["data"]["nats.conf"]
    lame = sum(
        seconds(re.findall(rf"{word}: (\S+)", config)[0])
        for word in ("lame_duck_duration", "lame_duck_grace_period")
    )
    nats = prod.get("StatefulSet", "nats")
    assert pod_of(nats)["terminationGracePeriodSeconds"] >= lame + 5


def test_no_secret_is_in_the_manifests(prod: Cluster) -> None:
    assert list(prod.of("Secret")) == []
    for name, workload in ours(prod).items():
        secrets = {
            field.upper()
            for field, info in SETTINGS[name].model_fields.items()
            if "SecretStr" in str(info.annotation)
        }
        assert secrets
        assert not secrets & prod.environment(workload).keys()


def test_secrets_are_those_that_the_readme_lists(prod: Cluster) -> None:
    wanted = set()
    for workload in prod.workloads():
        wanted |= set(re.findall(r"'secretName': '([^']+)'", str(workload)))
        wanted |= set(
            re.findall(r"'secret': {(?:[^{}]*)'name': '([^']+)'", str(workload))
        )
    readme = (K8S / "README.md").read_text()

    assert wanted >= {"nats-tls", "nats-key-edge", "feedmesh-ls"}
    assert [name for name in wanted if f"`{name}`" not in readme] == []


def test_pods_are_restricted(cluster: Cluster) -> None:
    """What Pod Security "restricted" asks for, and a root that cannot be written."""
    for workload in cluster.workloads():
        pod, container = pod_of(workload), container_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert set(container["resources"]) == {"requests", "limits"}
        kinds = {key for volume in pod.get("volumes", ()) for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "projected", "secret"}
        assert not pod.get("hostNetwork")
        # So that files of mode 0440 can be read.
        if "volumes" in pod:
            assert (
                pod["securityContext"]["fsGroup"]
                == pod["securityContext"]["runAsGroup"]
            )


def test_each_has_what_keeps_it_running(prod: Cluster) -> None:
    for name in (*SERVICES, "nats"):
        for kind in ("ServiceAccount", "Service", "PodDisruptionBudget"):
            assert prod.get(kind, name)
        kind = "StatefulSet" if name == "nats" else "Deployment"
        workload = prod.get(kind, name)
        pod = pod_of(workload)
        assert pod["serviceAccountName"] == name
        assert pod["topologySpreadConstraints"]
        if name != "edge":
            rules = pod["affinity"]["podAntiAffinity"]
            assert rules["requiredDuringSchedulingIgnoredDuringExecution"]
            assert workload["spec"]["replicas"] == (3 if name == "nats" else 2)
    # The autoscaler and the manifest must not fight over it.
    assert "replicas" not in prod.get("Deployment", "edge")["spec"]


def test_nats_is_what_the_news_need(prod: Cluster) -> None:
    data = prod.get("ConfigMap", "nats-config")["data"]
    config = data["nats.conf"]

    assert re.search(r"sync_interval: always", config)
    assert re.search(r"no_advertise: true", config)
    assert config.count("tls {") == 2
    names = {f"nats-{number}.nats" for number in range(3)}
    assert set(re.findall(r"nats://([^:]+):6222", config)) == names
    urls = prod.get("ConfigMap", "nats-client")["data"]["NATS_URL"]
    assert set(re.findall(r"nats://([^:]+):4222", urls)) == names
    job = container_of(prod.get("Job", "streams"))
    assert job["command"][-2:] == ["--replicas", "3"]
    assert set(re.findall(r"\$(NKEY_\w+)", data["accounts.conf"])) == {
        key_variable(name) for name in IDENTITIES
    }


# --- who may talk to whom, by the pictures of ARCHITECTURE.md and docs ---

ARROWS = {
    ("edge", "nats", "client"),
    ("ingest-fmp", "nats", "client"),
    ("ingest-ls", "nats", "client"),
    ("streams", "nats", "client"),
    ("nats", "nats", "routes"),
    ("prober", "nats", "monitor"),
    ("prober", "edge", "clients"),
    ("doctor", "nats", "client"),
    ("doctor", "nats", "monitor"),
}
PODS = (*SERVICES, "nats", "streams", "prober", "doctor")


def selected(selector: Mapping[str, Any], name: str) -> bool:
    """Return whether a selector of pods covers the pods of *name*."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "feedmesh"}
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", ()):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def allowed(cluster: Cluster, way: str, name: str) -> set[tuple[str, str]]:
    """Return with whom in the namespace *name* may talk, and on which port."""
    peer = {"ingress": "from", "egress": "to"}[way]
    found = set()
    for policy in cluster.of("NetworkPolicy"):
        if not selected(policy["spec"]["podSelector"], name):
            continue
        for rule in policy["spec"].get(way, ()):
            for end in rule.get(peer, ()):
                if "podSelector" not in end or "namespaceSelector" in end:
                    continue
                for other in PODS:
                    if selected(end["podSelector"], other):
                        found |= {(other, port["port"]) for port in rule["ports"]}
    return found


def test_network_policies_are_the_arrows_and_nothing_else(prod: Cluster) -> None:
    out = {
        (name, other, port)
        for name in PODS
        for other, port in allowed(prod, "egress", name)
    }
    back = {
        (other, name, port)
        for name in PODS
        for other, port in allowed(prod, "ingress", name)
    }

    assert out == ARROWS
    assert back == ARROWS


def test_who_may_leave_the_cluster(prod: Cluster) -> None:
    leave = {
        policy["metadata"]["name"]: {
            port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]
        }
        for policy in prod.of("NetworkPolicy")
        if "ipBlock" in str(policy)
    }
    urls = {
        name: {
            url.port or 443
            for key, value in prod.environment(prod.get("Deployment", name)).items()
            if key.endswith("_URL") and key != "NATS_URL"
            for url in [urlsplit(value)]
        }
        for name in ("ingest-fmp", "ingest-ls")
    }

    assert leave == {f"{name}-upstream": ports for name, ports in urls.items()}
    closed = prod.get("NetworkPolicy", "nothing-else")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


# --- what is made from the code ---


@pytest.mark.parametrize("path", sorted(MADE))
def test_what_is_made_is_up_to_date(path: str) -> None:
    assert (K8S / path).read_text() == MADE[path]()


def test_every_file_is_used() -> None:
    for folder in ("base", "overlays/dev", "overlays/prod", "operator"):
        listed = (K8S / folder / "kustomization.yaml").read_text()
        for path in (K8S / folder).rglob("*"):
            name = str(path.relative_to(K8S / folder))
            if path.is_file() and path.name != "kustomization.yaml":
                assert name in listed
