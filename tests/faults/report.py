"""
Make RESULTS.md from the lines that the suites have told.

Of several runs of a suite the last one counts, but a short one never replaces a full
one. That a suite could not be run counts as a run of it; so does a test that failed
before it could tell its figures, until it tells them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


_HEAD = """\
# Faults, and what they cost

Made by `make faults` and `make soak`; see [README.md](README.md). Lines without a bound
tell how large the run was, or what is not promised. *Control* is what the same fault
does to a program without the means that are tested.

*Run* says how much of the suite was run, on how many cores, how many processes wanted
one of them at its end (the load average of a minute), and of which commit. Counts of
what was lost do not depend on that; times do: with more load than cores they are upper
bounds.

| what was done | figure | value | bound | |
|---|---|---:|---:|---|
"""


def newest(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the run of each suite that counts, in the order of the suites' first."""
    runs: dict[str, dict[str, Any]] = {}
    for line in lines:
        if not line.strip():
            continue
        run = json.loads(line)
        known = runs.get(run["suite"])
        if known is None or run["scale"] == "full" or known["scale"] != "full":
            _forget_others(runs, run)
            runs[run["suite"]] = run
    return list(runs.values())


def _forget_others(runs: dict[str, dict[str, Any]], run: dict[str, Any]) -> None:
    """Forget what the test of *run* has told before, if one of both was broken off."""
    for name, known in list(runs.items()):
        same = all(known.get(key) == run.get(key) for key in ("test", "scale"))
        if same and ("broken" in run or "broken" in known):
            del runs[name]


def not_tested(lines: Iterable[str]) -> dict[str, str]:
    """Return why each suite was not run that *lines* say so of, by its name."""
    runs = [json.loads(line) for line in lines if line.strip()]
    return {run["suite"]: run["skipped"] for run in runs if "skipped" in run}


def report(lines: Iterable[str]) -> str:
    """Return the document for *lines*, one JSON object each."""
    return _HEAD + "".join(f"{row}\n" for run in newest(lines) for row in _rows(run))


def _rows(run: dict[str, Any]) -> Iterable[str]:
    first = f"**{run['suite']}**"
    if "skipped" in run:
        yield f"| {first} | **NOT TESTED** here: {run['skipped']} | {_how(run)} | | |"
        return
    if "broken" in run:
        reason = f"**FAILED** before it told its figures: {run['broken']}"
        yield f"| {first} | {reason} | {_how(run)} | | |"
        return
    yield f"| {first} | run | {_how(run)} | | |"
    for name, value in run["figures"].items():
        bound = run["bounds"].get(name, "")
        verdict = ("**missed**" if name in run["missed"] else "held") if bound else ""
        shown = f"{value:,}" if isinstance(value, int | float) else str(value)
        yield f"| | {name.replace('_', ' ')} | {shown} | {bound} | {verdict} |"


def _how(run: dict[str, Any]) -> str:
    scale = "full" if run["scale"] == "full" else "**short form only**"
    machine = f"{run['cores']} cores, {run['memory_gib']} GiB, load {run['load']}"
    return f"{scale}, {machine}, {run['at'][:10]}, {run.get('commit', 'unknown')}"
