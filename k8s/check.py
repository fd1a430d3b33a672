"""
Everything about the manifests that can be checked without a cluster: `make k8s-check`.

Renders base and overlays with kustomize; validates each manifest, strictly, against the
schemas of every Kubernetes from 1.30 on that the validator has, or of the Prometheus
operator; has a policy checker look at what a deployment would get. Exit code 1 if
anything is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from cloudcoil.models.prometheus_operator import v1 as operator
from kubernetes_validate import utils


HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
FOLDERS = ("base", "overlays/dev", "overlays/prod")
OLDEST = (1, 30)
MISSPELT: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x"},
        "spec": {"prots": []},
    },
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "x"},
        "spec": {"selector": {}, "podMetricsEndpoints": [{"prot": "ops"}]},
    },
]
# Their schemas come with the Prometheus operator, not with Kubernetes.
CUSTOM = {kind: getattr(operator, kind) for kind in ("PodMonitor", "PrometheusRule")}


def main() -> None:
    """Check, and say what was checked."""
    versions = [
        version
        for version in sorted(utils.all_versions(), key=number)
        if number(version) >= OLDEST
    ]
    if not all(invalid([manifest], versions[-1]) for manifest in MISSPELT):
        sys.exit("the validator does not see a misspelt field; nothing is shown")
    problems = 0
    for folder in FOLDERS:
        text = rendered(folder)
        found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
        wrong = [line for v in versions for line in invalid(found, v)]
        wrong += findings(text)
        print(
            f"k8s/{folder}: {len(found)} manifests, Kubernetes {versions[0]} to"
            f" {versions[-1]}, {len(wrong)} problems"
        )
        print(*(f"  {line}" for line in wrong), sep="\n", end="\n" if wrong else "")
        problems += len(wrong)
    sys.exit(1 if problems else 0)


def number(version: str) -> tuple[int, ...]:
    """Return a version that can be compared."""
    return tuple(int(part) for part in version.split("."))


def rendered(folder: str) -> str:
    """Return what kustomize makes of *folder*."""
    command = [BIN / "kubectl", "kustomize", HERE / folder]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def invalid(found: list[dict[str, Any]], version: str) -> list[str]:
    """Return which of the manifests Kubernetes *version* would not take, and why."""
    wrong = []
    for manifest in found:
        try:
            if manifest["kind"] in CUSTOM:
                validate_custom(manifest)
            else:
                utils.validate(manifest, version, strict=True)
        except (
            ValueError,
            utils.ValidationError,
            utils.SchemaNotFoundError,
            utils.VersionNotSupportedError,
        ) as error:
            # Its first line says what; the rest is the schema.
            what = str(error).splitlines()[0]
            wrong.append(f"{version} {manifest['kind']}: {what}")
    return wrong


def validate_custom(manifest: dict[str, Any]) -> None:
    """Raise ValueError if *manifest* is not one of the Prometheus operator's."""
    model = CUSTOM[manifest["kind"]].model_validate(manifest)
    # Fields that the operator does not have are dropped on the way.
    known = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if known != manifest:
        raise ValueError("some of its fields are not the operator's")


def findings(text: str) -> list[str]:
    """Return what the policy checker has against the manifests in *text*."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rendered.yaml"
        path.write_text(text)
        answer = subprocess.run(
            [BIN / "checkov", "--config-file", HERE / "checkov.yaml", "--file", path],
            # It asks nobody on the network about anything.
            env=dict(os.environ) | {"LOG_LEVEL": "ERROR"},
            capture_output=True,
            text=True,
        )
    said = (answer.stdout + answer.stderr).splitlines()
    if answer.returncode == 0 and any("Passed checks" in line for line in said):
        return []
    return [line.strip() for line in said if line.strip()] or ["checkov said nothing"]


if __name__ == "__main__":
    main()
