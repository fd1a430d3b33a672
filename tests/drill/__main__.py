"""Run the faults that are named, or all; print and keep what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from drill.alerts import Watch
from drill.faults import FAULTS, Fault
from drill.rig import Rig, run_rig
from unit.monitoring.shown import DASHBOARDS


FOLDER = Path(__file__).parent
_WARM_SECONDS = 120.0
_TOLD_SECONDS = 90.0
_BUSY = 2.0 * (os.cpu_count() or 1)
_RESOLVED_SECONDS = 120.0
# A fault is left alone until both have had their time.
_PATIENCE = 30.0
_QUIET_SECONDS = 300.0
# Panels that may stay empty in a drill, by what is in their queries.
_EMPTY = {
    "feedmesh_edge_auth_": "the edge of the drill asks nobody for a token",
    "feedmesh_ingest_flagged_total": "the simulator sends nothing odd",
    "feedmesh_ingest_quarantined_total": "only while frames are broken (`letters`)",
}


# They look half an hour back, so they go on, rightly, about the faults before this one.
_LOOKING_BACK = {"FeedmeshFreshnessBurnSlow", "FeedmeshAvailabilityBurnSlow"}


class Outcome(NamedTuple):
    """
    What came of a fault; times in seconds, None if it never came.

    `load` is the machine's, for what others did on it meanwhile.
    """

    fault: str
    what: str
    right: str
    told_after: float | None
    also: list[str]
    wrong: list[str]
    resolved_after: float | None
    load: float
    at: str

    @property
    def passed(self) -> bool:
        """Whether it was told in time, alone, and was over in time."""
        return (
            self.told_after is not None
            and self.told_after <= _TOLD_SECONDS
            and not self.wrong
            and self.resolved_after is not None
            and self.resolved_after <= _RESOLVED_SECONDS
        )


async def _until(condition: object, seconds: float) -> float | None:
    assert callable(condition)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if condition():
            return time.monotonic() - began
        await asyncio.sleep(0.2)
    return None


async def run_fault(rig: Rig, fault: Fault, panels: Panels) -> Outcome:
    """Break, wait, look at the panels, repair, wait."""
    watch = rig.watch

    def all_well() -> bool:
        return not watch.firing() - _LOOKING_BACK

    if await _until(all_well, _QUIET_SECONDS) is None:
        for service in (*rig.fmp, rig.ls, rig.edge, rig.prober):
            print(service.module, *service.lines[-25:], sep="\n")
        raise AssertionError(f"something else is wrong: {watch.firing()}")
    start = len(watch.told)
    began = time.monotonic()
    async with fault.broken(rig):
        await _until(lambda: fault.right in watch.firing(), _TOLD_SECONDS + _PATIENCE)
        told = next((t.at for t in watch.told[start:] if t.name == fault.right), None)
        # What comes with it comes soon after.
        await asyncio.sleep(10)
        await panels.ask(rig.watch)
    resolved = await _until(all_well, _RESOLVED_SECONDS + 2 * _PATIENCE)
    names = {t.name for t in watch.told[start:] if t.firing} - {fault.right}
    also = fault.also | _LOOKING_BACK
    return Outcome(
        fault=fault.name,
        what=fault.what,
        right=fault.right,
        told_after=None if told is None else round(told - began, 1),
        also=sorted(names & also),
        wrong=sorted(names - also),
        resolved_after=None if resolved is None else round(resolved, 1),
        load=round(os.getloadavg()[1], 1),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class Panels:
    """
    What the panels ask, and which of it Prometheus has never answered.

    Attributes:
        count: Queries of all panels.
        empty: Those that had no answer so far.
    """

    def __init__(self) -> None:
        self.empty = [
            (f"{name}: {panel.title}: {query.expr}", query.expr)
            for name, board in DASHBOARDS.items()
            for panels in board.rows.values()
            for panel in panels
            for query in panel.queries
        ]
        self.count = len(self.empty)

    async def ask(self, watch: Watch) -> None:
        """Ask what had no answer yet; fails if a query is not understood."""
        self.empty = [
            (name, expression)
            for name, expression in self.empty
            if not await watch.query(expression.replace("$__rate_interval", "1m"))
        ]

    def found(self) -> dict[str, object]:
        """Return what is kept of it."""
        return {"queries": self.count, "empty": [name for name, _ in self.empty]}


def write_results(outcomes: list[Outcome], panels: Panels) -> None:
    """Keep *outcomes*, in place of older ones of the same faults."""
    file = FOLDER / "results.json"
    kept = json.loads(file.read_text()) if file.exists() else {"faults": {}}
    kept["faults"] |= {o.fault: o._asdict() | {"passed": o.passed} for o in outcomes}
    kept["panels"] = panels.found()
    file.write_text(json.dumps(kept, indent=1) + "\n")
    (FOLDER / "RESULTS.md").write_text(table(kept))


def table(kept: dict[str, dict[str, dict[str, object]]]) -> str:
    """Return the page that shows what is kept."""
    rows = []
    for fault in FAULTS:
        one = kept["faults"].get(fault.name)
        if one is None:
            rows.append(f"| {fault.what} | {fault.right} | not run yet | | | | |")
            continue
        lists = (", ".join(one[key]) for key in ("also", "wrong"))  # type: ignore[arg-type]
        also, wrong = (text.replace("Feedmesh", "") for text in lists)
        rows.append(
            f"| {fault.what} | {fault.right} | {one['told_after']} | {also} | {wrong}"
            f" | {one['resolved_after']} | {'yes' if one['passed'] else '**no**'} |"
        )
    panels = kept.get("panels", {})
    empty: list[str] = panels.get("empty", [])  # type: ignore[assignment]
    lines = "\n".join(f"- {line}: {_why_empty(line)}" for line in empty)
    return (
        "# What the drill has found\n\n"
        f"`make drill`; told within {_TOLD_SECONDS:g} s, nothing wrong, resolved within"
        f" {_RESOLVED_SECONDS:g} s of the repair.\nOn two shared cores, with everything"
        " on the same machine.\n\n"
        "| fault | the right alert | told after s | also right | wrong |"
        " resolved after s | passed |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n"
        f"Of {panels.get('queries', 0)} queries of the dashboards, all were"
        f" understood and {len(empty)} had no answer:\n\n{lines}\n"
    )


def _why_empty(line: str) -> str:
    for part, reason in _EMPTY.items():
        if part in line:
            return reason
    return "**for no reason that is known**"


async def main(names: list[str]) -> int:
    """Run the faults called *names*, or all; return the exit code."""
    for tool in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(tool) is None:
            print(f"{tool} is missing: apt-get install {tool}", file=sys.stderr)
            return 1
    running = asyncio.current_task()
    assert running is not None
    # In the background too, whatever was started ends with us.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    outcomes = []
    with contextlib.suppress(PermissionError):
        # What shares the machine shall not pass for a fault.
        os.nice(-10)
    with tempfile.TemporaryDirectory() as folder:
        async with run_rig(Path(folder)) as rig:
            print(f"warming up for {_WARM_SECONDS:g} s", flush=True)
            await asyncio.sleep(_WARM_SECONDS)
            panels = Panels()
            await panels.ask(rig.watch)
            print(json.dumps(panels.found()), flush=True)
            for fault in chosen:
                outcome = await run_fault(rig, fault, panels)
                if not outcome.passed and outcome.load > _BUSY:
                    # On a machine that is short of time, what is late is not ours.
                    print(json.dumps(outcome._asdict()), flush=True)
                    outcome = await run_fault(rig, fault, panels)
                print(json.dumps(outcome._asdict()), flush=True)
                outcomes.append(outcome)
                write_results([outcome], panels)
                # What is left of a fault must not be taken for the next one's.
                await asyncio.sleep(20)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except asyncio.CancelledError:
        sys.exit("the drill was stopped; what it had found is kept")
