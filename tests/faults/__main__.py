"""
Run the fault suites one after the other and write RESULTS.md: ``make faults``.

``python tests/faults [--short] [suite …]``; each suite is a process with a time limit.
The lines that they tell are kept in ``results.jsonl``, so a suite can be run alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from faults.report import not_tested, report  # noqa: E402 - found only now


# By suite, in minutes: what it may take at its full length.
LIMITS = {
    "power": 10,
    "partition": 15,
    "nats_away": 8,
    "replicas": 45,
    "nodes": 15,
    "edges": 15,
    "upstream": 45,
    "soak": 90,
}
# Takes an hour by itself, so it is only run if it is named.
LONG = "soak"


def main() -> int:
    """Run what was asked for; return 1 if a suite failed."""
    parser = argparse.ArgumentParser(prog="tests/faults", description=__doc__)
    parser.add_argument("suite", nargs="*", help=", ".join(LIMITS))
    parser.add_argument("--short", action="store_true", help="the form of make test")
    arguments = parser.parse_args()
    if unknown := set(arguments.suite) - set(LIMITS):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    path = FOLDER / "results.jsonl"
    before = len(path.read_text(encoding="utf-8").splitlines())
    failed = [
        suite
        for suite in arguments.suite or [name for name in LIMITS if name != LONG]
        if not run(suite, short=arguments.short)
    ]
    lines = path.read_text(encoding="utf-8").splitlines()
    (FOLDER / "RESULTS.md").write_text(report(lines), encoding="utf-8")
    print(f"\nRESULTS.md is written; {last_words(failed, lines[before:])}")
    return int(bool(failed))


def last_words(failed: Sequence[str], told: Sequence[str]) -> str:
    """Return what has failed, and what was not tested as the lines *told* say."""
    words = f"failed: {', '.join(failed) or 'none'}"
    for suite, reason in not_tested(told).items():
        words += f"; NOT TESTED here: {suite} ({reason})"
    return words


def run(suite: str, *, short: bool) -> bool:
    """Run one suite; return whether it held its bounds."""
    print(f"\n{suite}: at most {LIMITS[suite]} minutes", flush=True)
    file = FOLDER / ("soak.py" if suite == LONG else f"test_{suite}.py")
    scale = {"FAULT_RESULTS": str(FOLDER / "results.jsonl")}
    scale["FAULT_SCALE"] = "short" if short else "full"
    process = subprocess.Popen(
        (sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", str(file)),
        cwd=FOLDER.parents[1],
        env=os.environ | scale,
    )
    try:
        return process.wait(60 * LIMITS[suite]) == 0
    except subprocess.TimeoutExpired:
        # As Ctrl+C does, so that what it has started is ended, too.
        process.send_signal(signal.SIGINT)
        process.wait()
        return False


if __name__ == "__main__":
    sys.exit(main())
