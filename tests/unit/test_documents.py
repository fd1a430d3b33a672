"""What the documents point to is there: files, headings, and the verbs of make."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
)
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
VERB = re.compile(r"`make ([a-z][a-z0-9-]+)[` ]")


def anchors(document: Path) -> set[str]:
    """Return what the headings of *document* can be linked by."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text("utf-8")):
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_verbs_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")

    for verb in VERB.findall(document.read_text("utf-8")):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


def test_the_documents_were_found() -> None:
    assert ROOT / "README.md" in DOCUMENTS
