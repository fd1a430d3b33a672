"""One run: every server in turn, again and again, so that all see the same machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from bench.edge_costs import GROWTH, warm_up_seconds
from bench.findings import Results
from bench.measure import (
    idle_latency,
    measure_loads,
    measure_maximum,
    memory_per_connection,
)
from bench.mesh import Mesh, run_mesh
from bench.plan import LOADS, Plan
from bench.programs import Programs
from bench.search import RateSearch
from bench.servers import CONTENDERS, Contender, NotHereError
from bench.session import Crowd, Step


__all__ = ["FAN_OUTS", "Run"]

FAN_OUTS = (20, 200)
_CLIENTS = 1000
_GATEWAY = "gateway"
# Where to begin looking for a maximum, in deliveries a second.
_FIRST_GUESS = 40_000.0
_FIRST_GUESS_COALESCING = 300_000.0
_KNOWN_FACTOR = 1.15
_INGEST = Path(__file__).parent / "ingest_bench.py"
_INGEST_SECONDS = 120.0


class Run:
    """
    Measures what it is told to, and collects the results.

    Args:
        plan: How much.
        programs: What was built.
        folder: For files of the run.
        only: Keys of the servers to measure.
        parts: Which measurements, of :data:`bench.plan.PARTS`.
        known: Results of earlier runs: where to begin looking, and what the gateway
            sustains if this run does not ask.
        keep: Called with the results after each part.
    """

    def __init__(
        self,
        plan: Plan,
        programs: Programs,
        folder: Path,
        only: Collection[str],
        parts: Collection[str],
        known: Results,
        keep: Callable[[Results], None],
    ) -> None:
        self._plan = plan
        self._programs = programs
        self._folder = folder
        self._parts = parts
        self._contenders = [each for each in CONTENDERS if each.key in only]
        self._known = known
        self._keep = keep
        self.results = Results()

    async def all(self) -> Results:
        """Measure everything and return the results; what there is when time is up."""
        try:
            async with asyncio.timeout(self._plan.minutes * 60):
                await self._all()
        except TimeoutError:
            self.results.missing["the rest"] = f"{self._plan.minutes:g} minutes were up"
        self._keep(self.results)
        return self.results

    async def _all(self) -> None:
        parts: dict[str, Callable[[Mesh], Awaitable[None]]] = {
            "maximum": self._maxima,
            "loads": self._loads,
            "idle": self._idle,
            "memory": self._memory,
            "growth": self._growth,
        }
        async with run_mesh(self._folder, self._programs, 10_000) as mesh:
            for name, measure in parts.items():
                if name in self._parts:
                    await measure(mesh)
                    self._keep(self.results)
        if "warm" in self._parts:
            await self._warm()
            self._keep(self.results)
        if "ingest" in self._parts:
            await asyncio.to_thread(self._ingest)

    async def _maxima(self, mesh: Mesh) -> None:
        for _ in range(self._plan.repetitions):
            for fan_out in FAN_OUTS:
                for contender in self._contenders:
                    # Servers that write for each client and update are the same at any
                    # fan-out.
                    if contender.compared or fan_out == FAN_OUTS[0]:
                        await self._maximum(mesh, contender, fan_out)

    async def _maximum(self, mesh: Mesh, contender: Contender, fan_out: int) -> None:
        plan = self._plan
        known = self._sustained(fan_out, contender.key)
        if known:
            search = RateSearch(known.delivered, _KNOWN_FACTOR, plan.precision)
        else:
            guess = _FIRST_GUESS_COALESCING if contender.compared else _FIRST_GUESS
            search = RateSearch(guess, plan.factor, plan.precision)

        async def measure() -> None:
            maximum = await measure_maximum(
                mesh, contender, Crowd(_CLIENTS, fan_out), search, plan.step_seconds
            )
            self.results.maxima[fan_out, contender.key].append(maximum)
            if maximum.best:
                _say(f"max, fan-out {fan_out}", contender.key, maximum.best)
            _say(f"peak, fan-out {fan_out}", contender.key, maximum.peak)

        await self._guarded(contender, measure)

    async def _loads(self, mesh: Mesh) -> None:
        for _ in range(self._plan.load_repetitions):
            for crowd in self._plan.crowds:
                gateway = self._sustained(crowd.fan_out, _GATEWAY)
                if gateway is None:
                    self.results.missing[f"loads, {crowd}"] = "no gateway's maximum"
                    continue
                loads = [part * gateway.delivered for part in LOADS]
                for contender in self._contenders:
                    if contender.compared:
                        await self._load(mesh, contender, crowd, loads)

    async def _load(
        self, mesh: Mesh, contender: Contender, crowd: Crowd, loads: list[float]
    ) -> None:
        async def measure() -> None:
            steps = await measure_loads(
                mesh, contender, crowd, loads, self._plan.step_seconds
            )
            for part, step in zip(LOADS, steps, strict=True):
                self.results.loads[crowd, part, contender.key].append(step)
                _say(f"{part:.0%}, {crowd}", contender.key, step)

        await self._guarded(contender, measure)

    def _sustained(self, fan_out: int, key: str) -> Step | None:
        found = self.results.sustained(fan_out, key)
        return found or self._known.sustained(fan_out, key)

    async def _idle(self, mesh: Mesh) -> None:
        for contender in self._contenders * self._plan.load_repetitions:

            async def measure(contender: Contender = contender) -> None:
                step = await idle_latency(mesh, contender, self._plan.idle_seconds)
                self.results.idle[contender.key].append(step)
                _say("alone and idle", contender.key, step)

            if contender.compared:
                await self._guarded(contender, measure)

    async def _memory(self, mesh: Mesh) -> None:
        for contender in self._contenders * self._plan.load_repetitions:

            async def measure(contender: Contender = contender) -> None:
                each = await memory_per_connection(
                    mesh, contender, self._plan.connections
                )
                self.results.memory[contender.key].append(each)
                print(f"memory, {contender.key}: {each / 1024:.1f} KiB", flush=True)

            await self._guarded(contender, measure)

    async def _growth(self, mesh: Mesh) -> None:
        edge = next(
            (
                each
                for each in self._contenders
                if each.key in ("edge-array", "edge-legacy")
                and each.key not in self.results.missing
            ),
            None,
        )
        if edge is None:
            return
        for what, size, crowd, updates in GROWTH * self._plan.load_repetitions:

            async def measure(
                what: str = what,
                size: int = size,
                crowd: Crowd = crowd,
                deliveries: float = updates * crowd.fan_out,
            ) -> None:
                (step,) = await measure_loads(
                    mesh, edge, crowd, [deliveries], self._plan.step_seconds
                )
                self.results.growth[what, size].append(step)
                _say(f"growth, {what} {size}", edge.key, step)

            await self._guarded(edge, measure)

    async def _warm(self) -> None:
        for symbols in self._plan.warm_symbols * self._plan.load_repetitions:
            seconds = await warm_up_seconds(self._folder, self._programs, symbols)
            self.results.warm[symbols].append(seconds)
            print(f"warm with {symbols} symbols after {seconds:.3f} s", flush=True)

    def _ingest(self) -> None:
        """Run the benchmark of the ingest; its last line is its result."""
        if not _INGEST.exists():
            return
        try:
            done = subprocess.run(
                [sys.executable, str(_INGEST), *self._plan.ingest],
                capture_output=True,
                text=True,
                timeout=_INGEST_SECONDS,
                check=True,
            )
            self.results.ingest = json.loads(done.stdout.strip().splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            self.results.missing["ingest"] = str(error)[:200]

    async def _guarded(
        self, contender: Contender, measure: Callable[[], Awaitable[None]]
    ) -> None:
        """Measure, or note why that was not possible."""
        try:
            await measure()
        except (NotHereError, RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            self.results.missing[contender.key] = reason
            print(f"not run: {contender.key}: {error}", flush=True)


def _say(what: str, key: str, step: Step) -> None:
    per_second = step.delivered / step.server_cpu if step.server_cpu else 0.0
    print(
        f"{what}, {key}: {step.delivered:,.0f}/s of {step.asked:,.0f};"
        f" server {step.server_cpu:.0%}, {step.cpu_us:.2f} us each"
        f" = {per_second:,.0f} per CPU second;"
        f" p50 {step.p50_ms:.1f} p99 {step.p99_ms:.1f} p99.9 {step.p999_ms:.1f} ms;"
        f" rig {step.rig_cpu:.0%}, others {step.alien_cpu:.0%},"
        f" wrong {step.wrong}, closed {step.closed}",
        flush=True,
    )
