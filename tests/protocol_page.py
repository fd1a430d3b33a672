"""The manual of protocol v3, docs/protocol-v3.md, in its parts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


PAGE = (Path(__file__).parents[1] / "docs/protocol-v3.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the code blocks of the page in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def messages() -> list[dict[str, Any]]:
    """Return every JSON example; each is a line."""
    return [json.loads(line) for block in blocks("json") for line in block.splitlines()]


def rows(*columns: str) -> dict[str, str]:
    """Return the first cells of all tables with these columns, and what is beside."""
    found: dict[str, str] = {}
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        head, _, *lines = (
            [cell.strip() for cell in line.strip("|\n").split("|")]
            for line in table.splitlines()
        )
        if tuple(head[: len(columns)]) == columns:
            found |= {line[0].strip("`"): line[1] for line in lines}
    return found
