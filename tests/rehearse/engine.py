"""
Runs pods as containers, as far as Kubernetes would do more than start them.

Probes are asked from outside; a pod is ready, or its liveness fails and it is started
again; one that is deleted gets its preStop, then SIGTERM, and SIGKILL when its grace is
over. All of it is written down.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from pathlib import Path

import httpx
from rehearse.pods import Mount, Pod, Probe


class Running:
    """
    A pod that was started.

    Attributes:
        address: Of its container.
        ready: Whether its readiness probe passes; it gets clients then.
        ready_after: How long that took the first time, in seconds; 0 before.
    """

    def __init__(self, pod: Pod, container: str, address: str) -> None:
        self.pod = pod
        self.container = container
        self.address = address
        self.ready = False
        self.started = time.monotonic()
        self.ready_after = 0.0
        self.watch: asyncio.Task[None] | None = None


class Engine:
    """
    One network of containers.

    Attributes:
        pods: What runs now.
        killed: Pods that were not gone when their grace was over.
        restarts: Pods whose container was started again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"feedmesh-rehearsal-{os.getpid()}"
        self.pods: dict[str, Running] = {}
        self.killed: list[str] = []
        self.restarts: list[str] = []

    async def __aenter__(self) -> Engine:
        await docker("network", "create", self._name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self.pods.values():
            if running.watch:
                running.watch.cancel()
            await docker("rm", "--force", running.container, check=False)
        await docker("network", "rm", self._name, check=False)

    def of(self, app: str) -> list[Running]:
        """Return the pods of *app*."""
        return [running for running in self.pods.values() if running.pod.app == app]

    async def start(self, pod: Pod) -> Running:
        """Start *pod*."""
        container = (
            await docker(
                *("run", "--detach", "--network", self._name, "--hostname", pod.name),
                *(f"--network-alias={name}" for name in pod.names),
                *("--user", f"{pod.user}:{pod.user}", "--read-only"),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
                *("--memory", pod.memory, "--cpus", pod.cpus, "--no-healthcheck"),
                *(f"--env={name}={value}" for name, value in pod.env.items()),
                *(f"--volume={self._volume(pod, mount)}" for mount in pod.mounts),
                *("--entrypoint", pod.command[0]),
                _image(pod.image),
                *pod.command[1:],
            )
        ).strip()
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = (await docker("inspect", "--format", form, container)).strip()
        running = Running(pod, container, address)
        self.pods[pod.name] = running
        if pod.ready:
            running.watch = asyncio.create_task(self._watch(running))
        return running

    async def until_ready(self, *pods: Running, seconds: float = 60.0) -> None:
        """Wait until all of *pods* are ready."""
        try:
            async with asyncio.timeout(seconds):
                while not all(running.ready for running in pods):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            late = [running for running in pods if not running.ready]
            said = "\n".join([await self.logs(running) for running in late])
            raise AssertionError(f"never ready:\n{said}") from None

    async def finished(
        self, running: Running, again: int, seconds: float
    ) -> int | None:
        """
        Wait for a pod that ends by itself, starting it again when it fails.

        Returns:
            How often it had to be started again; None if *again* times were too few.
        """
        async with asyncio.timeout(seconds):
            for attempt in range(again + 1):
                if int(await docker("wait", running.container)) == 0:
                    return attempt
                await asyncio.sleep(min(2**attempt, 10))
                await docker("start", running.container)
        return None

    async def delete(self, name: str) -> float:
        """Delete a pod as Kubernetes does; return how long it took, in seconds."""
        running = self.pods.pop(name)
        pod = running.pod
        running.ready = False
        if running.watch:
            running.watch.cancel()
        began = time.monotonic()
        if pod.stop_first:
            await docker("exec", running.container, *pod.stop_first)
        await asyncio.sleep(pod.wait_first)
        await docker("kill", "--signal", "TERM", running.container, check=False)
        try:
            async with asyncio.timeout(pod.grace - (time.monotonic() - began)):
                await docker("wait", running.container)
        except TimeoutError:
            self.killed.append(name)
        took = time.monotonic() - began
        await docker("rm", "--force", running.container)
        return took

    async def logs(self, running: Running) -> str:
        """Return what a pod has said lately."""
        return await docker("logs", "--tail", "40", running.container, both=True)

    def write(self, pod: Pod, mount: Mount) -> Path:
        """Make the files of *mount* what they should be; a file changes in one step."""
        folder = self._folder / (pod.name + mount.path.replace("/", "_"))
        if mount.files is None:
            if not mount.keeps:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, pod.user, pod.user)
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in mount.files.items():
            fresh = folder / f".{name}.new"
            fresh.write_text(text)
            # As with fsGroup and defaultMode 0440.
            os.chown(fresh, 0, pod.user)
            fresh.chmod(0o440)
            fresh.replace(folder / name)
        return folder

    def _volume(self, pod: Pod, mount: Mount) -> str:
        rights = "rw" if mount.files is None else "ro"
        return f"{self.write(pod, mount)}:{mount.path}:{rights}"

    async def _watch(self, running: Running) -> None:
        pod = running.pod
        assert pod.ready is not None
        async with httpx.AsyncClient() as http:
            if pod.startup and not await _passes(
                http, running, pod.startup, wanted=True
            ):
                self.restarts.append(pod.name)
            asked, failed = 0.0, 0
            while True:
                running.ready = await _passes(http, running, pod.ready)
                if running.ready and not running.ready_after:
                    running.ready_after = time.monotonic() - running.started
                if pod.alive and time.monotonic() - asked >= pod.alive.period:
                    asked = time.monotonic()
                    failed = 0 if await _once(http, running, pod.alive) else failed + 1
                    if failed >= pod.alive.failures:
                        self.restarts.append(pod.name)
                        await docker("restart", running.container)
                        failed = 0
                await asyncio.sleep(pod.ready.period if running.ready else 0.2)


def _image(name: str) -> str:
    # From whatever registry: what was built here has the last part of the name.
    return "feedmesh/" + name.rpartition("/")[2].partition(":")[0]


async def _once(http: httpx.AsyncClient, running: Running, probe: Probe) -> bool:
    url = f"http://{running.address}:{probe.port}{probe.path}"
    try:
        return (await http.get(url, timeout=probe.timeout)).status_code < 400
    except httpx.TransportError:
        return False


async def _passes(
    http: httpx.AsyncClient, running: Running, probe: Probe, *, wanted: bool = False
) -> bool:
    """Return whether *probe* passes, or does not fail as often as it may."""
    for _ in range(probe.failures):
        if await _once(http, running, probe):
            return True
        if not running.ready and not wanted:
            return False
        await asyncio.sleep(probe.period)
    return False


async def docker(*arguments: str, check: bool = True, both: bool = False) -> str:
    """Return what the command of Docker says; with *both*, on stderr too."""
    process = await create_subprocess_exec(
        "docker",
        *arguments,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT if both or check else DEVNULL,
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    if check and process.returncode:
        raise AssertionError(f"docker {' '.join(arguments[:3])}: {text}")
    return text
