"""What checks find, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


__all__ = ["Finding", "Level", "exit_code", "table"]


class Level(Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """What one check found: about what, how it is, and in words."""

    about: str
    level: Level
    text: str


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if something failed; what is unknown or merely odd does not count."""
    return int(any(finding.level is Level.FAIL for finding in findings))


def table(findings: Sequence[Finding]) -> str:
    """Return *findings* for people, one a line."""
    width = max((len(finding.about) for finding in findings), default=0)
    return "\n".join(
        f"{finding.level.value:<8}{finding.about:<{width}}  {finding.text}"
        for finding in findings
    )
