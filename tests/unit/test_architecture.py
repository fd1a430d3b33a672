"""Who imports whom, so that a service can be understood, shipped and replaced alone."""

from __future__ import annotations

import ast
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
    pure = ["messages", "prices", "news", "digits", "symbols", "subjects"]
    pure += ["backoff", "clock", "errors", "ingest/subscriptions"]
    pure += ["ingest/confirmations"]
    files = imported(ROOT / "shared/src/feedmesh")

    for name in pure:
        names = files[f"shared/src/feedmesh/{name}.py"]
        assert not names & {"asyncio", "nats", "socket", "websockets"}, name


def test_all_services_were_found() -> None:
    assert {"edge", "ingest_fmp", "ingest_ls", "simulator"} <= SERVICES.keys()


def test_nothing_names_a_registry_host() -> None:
    """Packages come from whatever registry the machine is set up for."""
    text = (ROOT / "requirements.txt").read_text()

    assert "://" not in text
    assert "index-url" not in text
