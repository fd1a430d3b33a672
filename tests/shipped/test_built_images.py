"""The images that `make images` made: small, without tools, made again the same."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest


ROOT = Path(__file__).parents[2]
SERVICES: list[str] = [*run_path(str(ROOT / "images/lock.py"))["IMAGES"]]
LIMIT = 90_000_000
BASES = [*filter(None, [os.environ.get("BASE")]), "debian:12-slim", "feedmesh/base"]
# What an intruder would look for.
TOOLS = {
    *("sh", "bash", "dash", "busybox", "env", "perl", "apt", "apt-get", "dpkg"),
    *("pip", "pip3", "uv", "ensurepip", "gcc", "cc", "ld", "curl", "wget", "su"),
}
LABELS = {
    *("title", "description", "licenses", "version", "revision"),
    *("base.name", "base.digest"),
}
pytestmark = pytest.mark.timeout(900)


def docker(*arguments: str) -> bytes:
    """Return what the command of Docker says."""
    return subprocess.run(
        ["docker", *arguments], check=True, capture_output=True
    ).stdout


def inspected(tag: str) -> dict[str, Any]:
    """Return what the engine knows of an image."""
    (found,) = json.loads(docker("image", "inspect", tag))
    image: dict[str, Any] = found
    return image


def files(tag: str) -> list[tarfile.TarInfo]:
    """Return the files of an image."""
    container = docker("create", tag, "nothing").decode().strip()
    try:
        with tarfile.open(fileobj=BytesIO(docker("export", container))) as archive:
            return archive.getmembers()
    finally:
        docker("rm", container)


@pytest.fixture(scope="module")
def base() -> str:
    """On what the images were built."""
    return next(name for name in BASES if docker("images", "--quiet", name))


@pytest.mark.parametrize("name", ["nats", *SERVICES])
def test_it_is_small_and_runs_as_nobody_in_particular(name: str) -> None:
    image = inspected(f"feedmesh/{name}")

    assert image["Size"] <= LIMIT
    assert image["Config"]["User"] == "10001:10001"
    labels = image["Config"]["Labels"]
    assert {name.removeprefix("org.opencontainers.image.") for name in labels} == LABELS
    assert all(labels.values())
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    if name != "nats":
        assert image["Config"]["Healthcheck"]["Test"][:2] == ["CMD", "python3"]


@pytest.mark.parametrize("name", ["nats", *SERVICES])
def test_it_holds_no_tools_and_nothing_runs_as_another(name: str) -> None:
    found = files(f"feedmesh/{name}")

    assert len(found) > 5
    assert not {Path(file.name).name for file in found if not file.isdir()} & TOOLS
    assert not [file.name for file in found if file.mode & 0o6000]


def test_tools_would_be_seen(base: str) -> None:
    found = {Path(file.name).name for file in files(base)}

    assert found & TOOLS > {"bash", "dpkg", "sh"}


@pytest.mark.parametrize("name", ["nats", "edge"])
def test_made_again_it_is_the_same(name: str, base: str) -> None:
    """Layers are known by the hash of their bytes: contents, times, owners, modes."""
    again = f"feedmesh-tests/{name}-again"
    docker("rmi", "--force", again)
    built = inspected(f"feedmesh/{name}")
    what = ["--target", "nats"]
    if name != "nats":
        what = ["--build-arg", f"SERVICE={name}"]
    what.append(f"--build-arg=BASE={base}")
    docker("build", "--no-cache", *what, "--tag", again, str(ROOT))
    try:
        assert inspected(again)["RootFS"]["Layers"] == built["RootFS"]["Layers"]
    finally:
        docker("rmi", "--force", again)
