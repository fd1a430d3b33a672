"""The manifests agree with the services: settings, ports, probes, secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.settings import Settings as EdgeSettings
from feedmesh.settings import ServiceSettings
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.settings import Settings as LsSettings


K8S = Path(__file__).parents[2] / "k8s"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "edge": EdgeSettings,
    "ingest-fmp": FmpSettings,
    "ingest-ls": LsSettings,
}


def container(folder: str, name: str) -> dict[str, Any]:
    """Return the container of the Deployment *name*."""
    documents = yaml.safe_load_all((K8S / folder / f"{name}.yaml").read_text())
    deployment = next(d for d in documents if d["kind"] == "Deployment")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def environment(folder: str, name: str) -> dict[str, str]:
    """Return what a container is given; secrets as a value of no meaning."""
    return {
        entry["name"]: entry.get("value", "a-secret")
        for entry in container(folder, name)["env"]
    }


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_environment_is_one_that_the_service_takes(name: str) -> None:
    SETTINGS[name].from_env(environment("base", name))


@pytest.mark.parametrize("name", ["ingest-fmp", "ingest-ls"])
def test_the_development_overlay_leads_to_the_simulator(name: str) -> None:
    patched = environment("base", name) | environment("overlays/dev", name)

    SETTINGS[name].from_env(patched)
    assert all(
        "simulator:" in value
        for key, value in patched.items()
        if key.endswith("_URL") and key != "NATS_URL"
    )


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_probes_and_ports_are_those_of_the_service(name: str) -> None:
    spec = container("base", name)
    ports = {port["name"]: port["containerPort"] for port in spec["ports"]}

    assert str(ports["ops"]) == environment("base", name)["OPS_PORT"]
    assert spec["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "ops"}
    assert spec["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert spec["command"] == ["python", "-m", name.replace("-", "_")]


def test_no_secret_is_in_the_manifests() -> None:
    for name, settings in SETTINGS.items():
        secrets = {
            field.upper()
            for field, info in settings.model_fields.items()
            if "SecretStr" in str(info.annotation)
        }
        for entry in container("base", name)["env"]:
            assert entry["name"] not in secrets or "valueFrom" in entry


def test_every_manifest_is_listed_and_readable() -> None:
    for folder in (K8S / "base", K8S / "overlays/dev"):
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
        names = set(listed["resources"])
        names |= {patch["path"] for patch in listed.get("patches", [])}
        here = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert names - {"../../base"} == here
        for path in here:
            assert all(yaml.safe_load_all((folder / path).read_text()))
