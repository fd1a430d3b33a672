"""
Make RESULTS.md from the lines that the suites have added to FAULT_RESULTS.

``python tests/faults/report.py results.jsonl > tests/faults/RESULTS.md``; of several
runs of a suite, the last one counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


_COMMAND = "make faults"


def report(lines: Iterable[str]) -> str:
    """Return the document for *lines*, one JSON object each."""
    runs: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.strip():
            run = json.loads(line)
            runs[run["suite"]] = run
    rows = [row for run in runs.values() for row in _rows(run)]
    return "\n".join(
        [
            "# Faults, and what they cost",
            "",
            f"Made by `{_COMMAND}`; see [README.md](README.md). Lines without a bound",
            "tell how large the run was, or what is not promised. *Control* is what",
            "the same fault does to a program without the means that are tested.",
            "",
            "| what was done | figure | value | bound | |",
            "|---|---|---:|---:|---|",
            *rows,
            "",
            _machine(runs.values()),
            "",
        ]
    )


def _rows(run: dict[str, Any]) -> Iterable[str]:
    suite = run["suite"]
    for name, value in run["figures"].items():
        bound = run["bounds"].get(name, "")
        verdict = ("**missed**" if name in run["missed"] else "held") if bound else ""
        shown = f"{value:,}" if isinstance(value, int | float) else str(value)
        label = name.replace("_", " ")
        yield f"| {suite} | {label} | {shown} | {bound} | {verdict} |"
        suite = ""


def _machine(runs: Iterable[dict[str, Any]]) -> str:
    found = sorted({(r["scale"], str(r["cores"]), r["at"][:10]) for r in runs})
    told = (f"{scale} run, {cores} cores, {day}" for scale, cores, day in found)
    return "Machine: " + "; ".join(told) + "."


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        print(report(file), end="")
