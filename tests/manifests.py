"""
The manifests as a cluster would get them, rendered by kustomize.

What of them is made from the code is written by ``python tests/manifests.py``.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from edge.settings import Settings as EdgeSettings
from feedmesh.permissions import accounts_config
from feedmesh.settings import ServiceSettings
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.settings import Settings as LsSettings
from prober.settings import Settings as ProberSettings


ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
# Installed by `make k8s-check`; another one that is there serves as well.
_TOOLS = (str(ROOT / ".venv" / "k8s" / "bin" / "kubectl"), "kubectl", "kustomize")

# Who reads the environment of which workload.
SETTINGS: dict[str, type[ServiceSettings]] = {
    "edge": EdgeSettings,
    "ingest-fmp": FmpSettings,
    "ingest-ls": LsSettings,
    "prober": ProberSettings,
    "streams": ServiceSettings,
    "doctor": ServiceSettings,
}

Manifest = dict[str, Any]


def renderer() -> list[str] | None:
    """Return the command that renders a folder, or None if no tool is there."""
    for tool in _TOOLS:
        if found := shutil.which(tool):
            verb = "build" if found.endswith("kustomize") else "kustomize"
            return [found, verb]
    return None


@cache
def rendered(folder: str) -> str:
    """Return what *folder* of k8s/ becomes."""
    command = renderer()
    assert command is not None, "no kustomize: run `make k8s-check`"
    answer = subprocess.run(
        [*command, str(K8S / folder)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def manifests(folder: str) -> list[Manifest]:
    """Return the manifests of *folder*."""
    return [found for found in yaml.safe_load_all(rendered(folder)) if found]


class Cluster:
    """The manifests of one overlay, to be looked up by kind and name."""

    def __init__(self, found: Sequence[Manifest]) -> None:
        self._found = {(m["kind"], m["metadata"]["name"]): m for m in found}

    def of(self, *kinds: str) -> Iterator[Manifest]:
        """Yield those of *kinds*."""
        return (m for (kind, _), m in self._found.items() if kind in kinds)

    def get(self, kind: str, name: str) -> Manifest:
        """Return one by its name; a name with a hash is found without it, too."""
        for (other, full), manifest in self._found.items():
            if other == kind and (full == name or full.rpartition("-")[0] == name):
                return manifest
        raise KeyError(f"{kind} {name}")

    def workloads(self) -> Iterator[Manifest]:
        """Yield everything that has a pod."""
        return self.of("Deployment", "StatefulSet", "Job", "CronJob")

    def environment(self, workload: Manifest) -> dict[str, str]:
        """Return what its container is given; what a cluster fills in has its name."""
        given: dict[str, str] = {}
        container = container_of(workload)
        for source in container.get("envFrom", ()):
            name = source["configMapRef"]["name"]
            if name != "nats-identities":
                given |= self.get("ConfigMap", name)["data"]
        for entry in container.get("env", ()):
            given[entry["name"]] = entry.get("value", entry["name"].lower())
        return given


def pod_of(workload: Manifest) -> Manifest:
    """Return the specification of its pod."""
    outer = workload["spec"]
    spec: Manifest = outer.get("jobTemplate", {}).get("spec", outer)["template"]["spec"]
    return spec


def container_of(workload: Manifest) -> Manifest:
    """Return its container."""
    (container,) = pod_of(workload)["containers"]
    found: Manifest = container
    return found


def prometheus_rule() -> str:
    """Return the rules of k8s/monitoring as the Prometheus operator takes them."""
    groups = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((K8S / "monitoring" / f"{name}.yaml").read_text())[
            "groups"
        ]
    ]
    merged: dict[str, Manifest] = {}
    for group in groups:
        # Names are unique here; both files may have one of the same subject.
        known = merged.setdefault(group["name"], {**group, "rules": []})
        known["rules"].extend(group["rules"])
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "feedmesh"},
        "spec": {"groups": list(merged.values())},
    }
    made = "# Made from k8s/monitoring by `python tests/manifests.py`.\n"
    return made + yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=88
    )


MADE = {
    "base/nats/accounts.conf": accounts_config,
    "operator/rules.yaml": prometheus_rule,
}


if __name__ == "__main__":
    for path, make in MADE.items():
        (K8S / path).write_text(make())
