"""
Builds the images and says how large they are: `make images`.

Wheels come from the package index into images/wheels first, checked by hash, so that
the builds themselves need no network. BASE names the image to build on; without it, and
where the engine has no ``debian:12-slim``, one is made with debootstrap. A bill of
materials of each image, CycloneDX, goes to images/sbom.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lock import IMAGES, OTHERS
from sbom import bill_of_materials


ROOT = Path(__file__).parents[1]
HERE = ROOT / "images"
PUBLIC_BASE = "debian:12-slim"
OWN_BASE = "feedmesh/base"
SUITE = "bookworm"
PACKAGES = "binutils,python3,python3-venv,ca-certificates,tzdata"
LIMIT = 90_000_000
# A mirror may be away for a moment.
ATTEMPTS = 3


def main() -> None:
    """Build all, or those that are named."""
    names = sys.argv[1:] or ["nats", *IMAGES]
    fetch([*OTHERS, *(name for name in names if name in IMAGES)])
    base = os.environ.get("BASE") or find_base()
    if not docker("images", "--quiet", base):
        docker("pull", "--quiet", base)
    print(f"on {base}, {digest(base)}")
    (HERE / "sbom").mkdir(exist_ok=True)
    # The first makes what all of them begin with.
    build(names[0], base)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: build(name, base), names[1:]))
    too_large = [name for name in names if look_into(name) > LIMIT]
    if too_large:
        sys.exit(f"larger than {LIMIT / 1e6:.0f} MB: {', '.join(too_large)}")


def look_into(name: str) -> int:
    """Write the bill of the image *name*, hold it against its pins; return its size."""
    tag = f"feedmesh/{name}"
    size = int(docker("image", "inspect", "--format", "{{.Size}}", tag))
    bill = bill_of_materials(tag, contents(tag))
    if name in IMAGES and python_packages(bill) != pinned(name):
        sys.exit(f"{tag} does not hold what images/{name}.txt says")
    path = HERE / "sbom" / f"{name}.cdx.json"
    path.write_text(json.dumps(bill, indent=2) + "\n")
    print(f"{tag}: {size / 1e6:.0f} MB, {len(bill['components'])} components")
    return size


def python_packages(bill: dict[str, Any]) -> set[str]:
    """Return the Python packages that *bill* lists, ours left out."""
    found = [c["purl"].removeprefix("pkg:pypi/") for c in bill["components"]]
    return {p for p in found if "/" not in p and not p.startswith("feedmesh")}


def pinned(name: str) -> set[str]:
    """Return what the image *name* should hold, ours left out."""
    text = (HERE / f"{name}.txt").read_text()
    pins = re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE)
    return {f"{name}@{version}" for name, version in pins}


def fetch(names: list[str]) -> None:
    """Bring the wheels of the images *names* to images/wheels."""
    for name in names:
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--require-hashes"),
            *("--requirement", HERE / f"{name}.txt", "--dest", HERE / "wheels"),
        )


def find_base() -> str:
    """Return an image to build on that the engine has, making one if need be."""
    for name in (PUBLIC_BASE, OWN_BASE):
        if docker("images", "--quiet", name):
            return name
    with tempfile.TemporaryDirectory() as folder:
        root = debian(Path(folder))
        archive = Path(folder) / "base.tar"
        run("tar", "-C", root, "-cf", archive, ".")
        docker("import", str(archive), OWN_BASE)
    return OWN_BASE


def debian(folder: Path) -> Path:
    """Return where in *folder* a small Debian is, from the mirror that apt uses."""
    asked = ("Codename: " + SUITE, "Component: main", "Created-By: Packages")
    said = run(
        *("apt-get", "indextargets", "--format", "$(REPO_URI)", *asked),
        stdout=subprocess.PIPE,
    )
    # Without one, debootstrap has a default.
    mirror = said.split()[:1]
    for attempt in range(1, ATTEMPTS + 1):
        root = folder / f"root-{attempt}"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}"]
        with (folder / "log").open("w") as log:
            answer = subprocess.run([*command, SUITE, root, *mirror], stdout=log)
        if answer.returncode == 0:
            return root
        print(f"debootstrap failed, attempt {attempt} of {ATTEMPTS}", file=sys.stderr)
    sys.exit((folder / "log").read_text())


def build(name: str, base: str) -> None:
    """Build the image *name* on *base*, tagged with the version too."""
    tag = f"feedmesh/{name}"
    what = (
        ["--target", "nats"] if name == "nats" else ["--build-arg", f"SERVICE={name}"]
    )
    docker(
        *("build", "--quiet", "--tag", tag, "--tag", f"{tag}:{version()}", *what),
        *(f"--build-arg=BASE={base}", f"--build-arg=BASE_DIGEST={digest(base)}"),
        *(f"--build-arg=REVISION={revision()}", str(ROOT)),
    )


def version() -> str:
    """Return the version that the Dockerfile gives the images."""
    text = (ROOT / "Dockerfile").read_text()
    (found,) = set(re.findall(r"^ARG VERSION=(\S+)", text, re.MULTILINE))
    return found


def digest(base: str) -> str:
    """Return by what *base* is known for ever: its registry's digest, else its own."""
    form = "{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}"
    return docker("image", "inspect", "--format", form, base).rpartition("@")[2]


def revision() -> str:
    """Return of which commit the sources are, as far as somebody knows."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return answer.stdout.strip() or "unknown"


def contents(tag: str) -> bytes:
    """Return the files of the image *tag*, as a tar archive."""
    container = docker("create", tag)
    try:
        return subprocess.run(
            ["docker", "export", container], check=True, stdout=subprocess.PIPE
        ).stdout
    finally:
        docker("rm", container)


def docker(*arguments: str) -> str:
    """Return what the command of Docker says."""
    return run("docker", *arguments, stdout=subprocess.PIPE).strip()


def run(*command: str | Path, stdout: int | None = None) -> str:
    """Return what *command* says on *stdout*; its failure is ours."""
    answer = subprocess.run(command, stdout=stdout, text=True)
    if answer.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{answer.stdout or ''}")
    return answer.stdout or ""


if __name__ == "__main__":
    main()
