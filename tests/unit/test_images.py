"""What goes into the images is what is pinned, and what compose.yaml says works."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.settings import Settings as EdgeSettings
from feedmesh.settings import ServiceSettings
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.settings import Settings as LsSettings
from prober.settings import Settings as ProberSettings


ROOT = Path(__file__).parents[2]
IMAGES = {
    "edge": ("shared", "services/edge"),
    "ingest-fmp": ("shared", "services/ingest-fmp"),
    "ingest-ls": ("shared", "services/ingest-ls"),
    "prober": ("shared", "services/prober"),
    "simulator": ("services/simulator",),
}
SETTINGS: dict[str, type[ServiceSettings]] = {
    "edge": EdgeSettings,
    "ingest-fmp": FmpSettings,
    "ingest-ls": LsSettings,
    "prober": ProberSettings,
    "streams": ServiceSettings,
}


def pins(path: str) -> dict[str, str]:
    """Return the versions that a file of requirements pins."""
    text = (ROOT / path).read_text()
    found = re.findall(r"^([a-z0-9-]+)(?:\[\w+\])?==([^ ;]+)", text, re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", ["build", "nats", *IMAGES])
def test_images_hold_the_versions_that_were_tested(name: str) -> None:
    tested = pins("requirements.txt")
    image = pins(f"images/{name}.txt")

    assert image
    assert {package: tested.get(package) for package in image} == image


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_images_hold_what_their_packages_ask_for(name: str) -> None:
    image = pins(f"images/{name}.txt")
    for folder in IMAGES[name]:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
        for asked in project["project"]["dependencies"]:
            package = asked.partition("[")[0]
            assert package in image or package == "feedmesh"
    assert not {"pytest", "mypy", "ruff", "uv", "setuptools"} & image.keys()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_compose_gives_settings_that_services_take(
    compose: dict[str, Any], name: str
) -> None:
    SETTINGS[name].from_env(compose["services"][name]["environment"])


def test_compose_shows_itself_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [p for s in compose["services"].values() for p in s.get("ports", ())]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_files_that_are_there(compose: dict[str, Any]) -> None:
    mounts = [v for s in compose["services"].values() for v in s.get("volumes", ())]
    local = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]

    assert len(local) >= 6
    assert [path for path in local if not (ROOT / path).exists()] == []
