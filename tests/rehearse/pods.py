"""
What the manifests ask Kubernetes to run, as values; no I/O.

Only what these manifests use is understood; what is not, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests import Cluster, Manifest, container_of, pod_of


__all__ = ["Mount", "Objects", "Pod", "Probe", "pods_of"]

Objects = Mapping[tuple[str, str], Mapping[str, str]]
"""Secrets and ConfigMaps that the manifests refer to: their data, by kind and name."""


@dataclass(frozen=True)
class Mount:
    """
    A folder of a container.

    Attributes:
        path: Where it is there.
        files: What it holds; None if the pod may write to it.
        keeps: Whether it outlives the pod.
    """

    path: str
    files: Mapping[str, str] | None
    keeps: bool = False


@dataclass(frozen=True)
class Probe:
    """One probe over HTTP; times in seconds."""

    path: str
    port: int
    period: float
    timeout: float
    failures: int


@dataclass(frozen=True)
class Pod:
    """
    One pod with its one container.

    Attributes:
        app: Name of the workload.
        names: By which others find it.
        stop_first: Command to run inside before it is asked to end.
        wait_first: How long to wait before it is asked to end.
        grace: Seconds from the wish to delete it until it is killed.
    """

    name: str
    app: str
    names: tuple[str, ...]
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    mounts: tuple[Mount, ...]
    user: int
    memory: str
    cpus: str
    ports: Mapping[str, int]
    startup: Probe | None
    ready: Probe | None
    alive: Probe | None
    stop_first: tuple[str, ...] = ()
    wait_first: float = 0.0
    grace: float = 30.0
    labels: Mapping[str, str] = field(default_factory=dict)


def pods_of(
    cluster: Cluster, objects: Objects, workload: Manifest, numbers: Iterator[int]
) -> list[Pod]:
    """Return the pods of *workload*; those of a Deployment take their *numbers*."""
    spec = workload["spec"]
    app = workload["metadata"]["name"]
    count = spec.get("replicas") or _least(cluster, app)
    fixed = workload["kind"] == "StatefulSet"
    return [
        _pod(cluster, objects, workload, number if fixed else next(numbers))
        for number in range(count)
    ]


def _least(cluster: Cluster, app: str) -> int:
    for scaler in cluster.of("HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == app:
            return int(scaler["spec"]["minReplicas"])
    return 1


def _pod(cluster: Cluster, objects: Objects, workload: Manifest, number: int) -> Pod:
    app = workload["metadata"]["name"]
    pod, container = pod_of(workload), container_of(workload)
    name = f"{app}-{number}"
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    names: tuple[str, ...] = (name, app)
    if workload["kind"] == "StatefulSet":
        names = (*names, f"{name}.{workload['spec']['serviceName']}")
    limits = container["resources"]["limits"]
    hook = container.get("lifecycle", {}).get("preStop", {})
    assert container["securityContext"]["readOnlyRootFilesystem"]
    return Pod(
        name=name,
        app=app,
        names=names,
        image=container["image"],
        command=(*container["command"], *container.get("args", ())),
        env=_environment(cluster, objects, container, name),
        mounts=tuple(_mounts(cluster, objects, pod, container, workload)),
        user=pod["securityContext"]["runAsUser"],
        memory=_bytes(limits["memory"]),
        cpus=_cpus(limits["cpu"]),
        ports=ports,
        startup=_probe(container.get("startupProbe"), ports),
        ready=_probe(container.get("readinessProbe"), ports),
        alive=_probe(container.get("livenessProbe"), ports),
        stop_first=tuple(hook.get("exec", {}).get("command", ())),
        wait_first=hook.get("sleep", {}).get("seconds", 0),
        grace=pod.get("terminationGracePeriodSeconds", 30),
    )


def _data(cluster: Cluster, objects: Objects, kind: str, name: str) -> dict[str, str]:
    if (kind, name) in objects:
        return dict(objects[kind, name])
    found: dict[str, str] = cluster.get(kind, name)["data"]
    return found


def _environment(
    cluster: Cluster, objects: Objects, container: Manifest, name: str
) -> dict[str, str]:
    given: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        reference = source["configMapRef"]["name"]
        given |= _data(cluster, objects, "ConfigMap", reference)
    for entry in container.get("env", ()):
        if "value" in entry:
            given[entry["name"]] = entry["value"]
        else:
            assert entry["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
            given[entry["name"]] = name
    return given


def _mounts(
    cluster: Cluster,
    objects: Objects,
    pod: Manifest,
    container: Manifest,
    workload: Manifest,
) -> Iterator[Mount]:
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        path, volume = mount["mountPath"], volumes.get(mount["name"])
        if volume is None:
            claims = workload["spec"]["volumeClaimTemplates"]
            assert mount["name"] in [c["metadata"]["name"] for c in claims]
            yield Mount(path, None, keeps=True)
        elif "emptyDir" in volume:
            yield Mount(path, None)
        else:
            yield Mount(path, dict(_files(cluster, objects, volume)))


def _files(
    cluster: Cluster, objects: Objects, volume: Manifest
) -> Iterator[tuple[str, str]]:
    sources: list[dict[str, Any]] = volume.get("projected", {}).get("sources") or [
        volume
    ]
    for source in sources:
        if "configMap" in source:
            yield from _data(
                cluster, objects, "ConfigMap", source["configMap"]["name"]
            ).items()
            continue
        secret = source["secret"]
        name = secret.get("secretName") or secret["name"]
        data = _data(cluster, objects, "Secret", name)
        if "items" in secret:
            data = {item["path"]: data[item["key"]] for item in secret["items"]}
        yield from data.items()


def _probe(given: Manifest | None, ports: Mapping[str, int]) -> Probe | None:
    if given is None:
        return None
    asked = given["httpGet"]
    return Probe(
        path=asked["path"],
        port=ports[asked["port"]],
        period=given.get("periodSeconds", 10),
        timeout=given.get("timeoutSeconds", 1),
        failures=given.get("failureThreshold", 3),
    )


def _bytes(quantity: str) -> str:
    match = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert match, quantity
    return f"{match[1]}{match[2][0].lower()}"


def _cpus(quantity: str) -> str:
    return str(int(quantity[:-1]) / 1000) if quantity.endswith("m") else quantity
