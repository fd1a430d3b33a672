"""What must be built or fetched before anything can be measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


__all__ = ["MissingToolError", "Programs", "build"]

_HERE = Path(__file__).parent
_NPM_SECONDS = 60.0


class MissingToolError(Exception):
    """Something that the benchmark cannot do without is not on this machine."""


class Programs:
    """
    Where the finished programs are.

    Attributes:
        loadgen: The load generator.
        publisher: Publishes updates onto NATS.
        floor: The server in C.
        node_modules: Where Node finds ``ws``; None if it cannot be had.
        node_missing: Why it cannot be had; empty if it can.
    """

    def __init__(self, folder: Path) -> None:
        self.loadgen = folder / "loadgen"
        self.publisher = folder / "publisher"
        self.floor = folder / "floor"
        self.node_modules: Path | None = None
        self.node_missing = ""


def build(folder: Path) -> Programs:
    """
    Compile the C programs into *folder* and install ``ws`` there if Node is present.

    Raises:
        MissingToolError: If there is no C compiler, or it fails.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MissingToolError(
            "the benchmark needs gcc for its load generator, and there is none"
            " (Debian: apt-get install gcc libc6-dev)"
        )
    programs = Programs(folder)
    for target in (programs.loadgen, programs.publisher, programs.floor):
        source = _HERE / f"{target.name}.c"
        command = [compiler, "-O2", "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingToolError(f"gcc cannot compile {source.name}: {done.stderr}")
    _fetch_ws(programs, folder / "node")
    return programs


def _fetch_ws(programs: Programs, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        programs.node_missing = "Node is not installed"
        return
    folder.mkdir()
    command = [
        npm,
        "install",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        "ws@8",
    ]
    try:
        subprocess.run(command, capture_output=True, timeout=_NPM_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        programs.node_missing = "npm could not install ws"
        return
    programs.node_modules = folder / "node_modules"
