"""Who imports whom, so that a service can be understood, shipped and replaced alone."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SERVICES = {path.name: path for path in ROOT.glob("services/*/src/*") if path.is_dir()}
OURS = {"feedmesh", *SERVICES}
# No test may prove a bug of ours with the same bug, and a launcher needs no service.
ALONE = {"simulator", "launcher"}


def imported(folder: Path) -> dict[str, set[str]]:
    """Return the top-level packages that each file below *folder* imports."""
    found = {}
    for file in folder.rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
        found[str(file.relative_to(ROOT))] = names
    return found


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_imports_no_other(name: str) -> None:
    allowed = {name} if name in ALONE else {name, "feedmesh"}

    for file, names in imported(SERVICES[name]).items():
        assert names & OURS <= allowed, file


def test_the_shared_package_knows_no_service() -> None:
    for file, names in imported(ROOT / "shared/src/feedmesh").items():
        assert names & OURS <= {"feedmesh"}, file


def test_pure_parts_do_no_io() -> None:
    pure = ["messages", "prices", "newest", "news", "digits", "symbols", "subjects"]
    pure += ["backoff", "clock", "errors", "ingest/subscriptions"]
    pure += ["ingest/confirmations"]
    files = imported(ROOT / "shared/src/feedmesh")

    for name in pure:
        names = files[f"shared/src/feedmesh/{name}.py"]
        assert not names & {"asyncio", "nats", "socket", "websockets"}, name


def test_all_services_were_found() -> None:
    assert {"edge", "ingest_fmp", "ingest_ls", "simulator"} <= SERVICES.keys()


# --- hosts: packages come from whatever registry the machine is set up for ---

# Containers and pods by their names, this machine, private addresses, names kept for
# examples; the upstreams; the names of standards.
KNOWN = re.compile(
    r"[\w-]*|(127|10)\.[\d.]+|nats-\d\.nats"
    r"|([\w-]+\.)*(example|example\.(com|org))"
    r"|([\w-]+\.)*(financialmodelingprep\.com|ls-sec\.co\.kr)"
    r"|www\.(w3|apache)\.org"
)
# A registry is often named without a scheme.
REGISTRY = re.compile(
    r"\b(?:(?:deb|files|ftp|mirrors?|proxy|pypi|registry(?:-1)?)\."
    r"(?:[a-z0-9-]+\.)*(?:com|dev|io|net|org)\b|(?:docker|ghcr|quay|gcr)\.io(?=/))"
)


def strangers(text: str) -> set[str]:
    """Return the hosts that *text* names and has no business with."""
    named = set(re.findall(r"\b[a-z]+://(?:[^\s/@\"']+@)?([\w.-]+)", text))
    named |= set(REGISTRY.findall(text))
    return {host for host in named if not KNOWN.fullmatch(host.rstrip("."))}


def test_nothing_names_a_registry_host() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split("\0")
    found: dict[str, set[str]] = {}
    for path in listed:
        file = ROOT / path
        # The schema of a standard names everybody who has a part in it.
        if path.startswith("tests/data/") or not file.is_file():
            continue
        with contextlib.suppress(UnicodeDecodeError):
            if hosts := strangers(file.read_text(encoding="utf-8")):
                found[path] = hosts

    assert len(listed) > 300
    assert found == {}


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("http://deb.", "debian.org/debian"),
        ("https://py", "pi.org/simple"),
        ("deb.", "debian.org"),
        ("docker.", "io/nats"),
        ("registry.", "npmjs.org"),
    ],
)
def test_a_registry_host_would_be_seen(start: str, end: str) -> None:
    # In two parts, or it would be.
    assert strangers(f"run('{start}{end}')")
