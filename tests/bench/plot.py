"""The results as SVG, readable on light and dark ground; no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.findings import Results
from bench.plan import LOADS
from bench.servers import CONTENDERS
from bench.session import Crowd
from bench.targets import per_cpu_second


__all__ = ["latency_svg", "throughput_svg"]

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.quiet { fill: #57606a; }
.rule { stroke: #d0d7de; stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.gateway { --c: #bc4c00; } .edge-legacy { --c: #0969da; } .edge-array { --c: #1a7f37; }
.edge-latest { --c: #8250df; } .floor { --c: #6e7781; } .other { --c: #9a6700; }
.bar, .dot { fill: var(--c); } .line { stroke: var(--c); } .pale { opacity: 0.55; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .quiet { fill: #9198a1; } .rule { stroke: #3d444d; }
  .gateway { --c: #f0883e; } .edge-legacy { --c: #58a6ff; }
  .edge-array { --c: #3fb950; } .edge-latest { --c: #bc8cff; }
  .floor { --c: #9198a1; } .other { --c: #d29922; }
}
"""
_COMPARED = [each for each in CONTENDERS if each.compared]
_WIDTH = 860


def throughput_svg(results: Results) -> str:
    """Return bars: deliveries for each second of the server's CPU, at full load."""
    fan_outs = list(dict.fromkeys(fan_out for fan_out, _ in results.maxima))
    bars = [
        (each.title, each.key, fan_out, per_cpu_second(peak))
        for each in CONTENDERS
        for fan_out in fan_outs
        if (peak := results.peak(fan_out, each.key))
    ]
    most = max((value for *_, value in bars), default=1.0)
    left, right, row = 270, 90, 22
    parts, y, before = [], 66.0, ""
    for title, key, fan_out, value in bars:
        if key != before:
            y += 8
            parts.append(_text(left - 10, y + 13, title, "end"))
        before = key
        length = value / most * (_WIDTH - left - right)
        pale = " pale" if fan_out == fan_outs[0] else ""
        parts.append(
            f'<rect class="bar {_colour(key)}{pale}" x="{left}" y="{y:.0f}"'
            f' width="{max(length, 1):.1f}" height="{row - 5}" rx="2"/>'
        )
        label = f"{_short(value)}"
        parts.append(_text(left + length + 6, y + 13, label, "start", "quiet"))
        y += row
    heading = "Deliveries for each second of CPU, at full load"
    pair = " and ".join(str(fan_out) for fan_out in fan_outs)
    note = f"1,000 clients; an update reaches {pair} of them (pale, full)"
    return _picture(y + 16, heading, note, parts)


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: load to the right, latency upwards, both logarithmic."""

    left: float
    top: float
    width: float
    height: float
    loads: tuple[float, float]
    latencies: tuple[float, float]

    def x(self, load: float) -> float:
        return self.left + self.width * _part(load, self.loads)

    def y(self, latency: float) -> float:
        return self.top + self.height * (1 - _part(latency, self.latencies))


def latency_svg(results: Results) -> str:
    """Return lines: p99 latency over load, a panel for each crowd of clients."""
    crowds = list(dict.fromkeys(crowd for crowd, _, _ in results.loads))
    steps = [step for found in results.loads.values() for step in found]
    if not steps:
        return _picture(80, "Latency", "not measured", [])
    latencies = (
        min(step.p99_ms for step in steps) / 1.3,
        max(step.p99_ms for step in steps) * 1.3,
    )
    parts = list(_legend())
    height, gap, columns = 190.0, 70.0, 2
    width = (_WIDTH - 60 - gap) / columns
    for number, crowd in enumerate(crowds):
        asked = [
            step.asked
            for (one, _, _), found in results.loads.items()
            if one == crowd
            for step in found
        ]
        panel = _Panel(
            left=50 + number % columns * (width + gap),
            top=130 + number // columns * (height + gap),
            width=width,
            height=height,
            loads=(min(asked) / 1.2, max(asked) * 1.2),
            latencies=latencies,
        )
        parts += _panel(panel, crowd, results)
    rows = -(-len(crowds) // columns)
    return _picture(
        130 + rows * (height + gap),
        "Latency from publishing to the client, p99",
        "at 10, 30 and 70 % of what the gateway sustains; milliseconds over"
        " deliveries a second",
        parts,
    )


def _legend() -> Iterator[str]:
    x = 20.0
    for each in _COMPARED:
        yield (
            f'<rect class="bar {each.key}" x="{x}" y="70" width="12" height="12"'
            ' rx="2"/>'
        )
        yield _text(x + 17, 80, each.key, "start")
        x += 130


def _panel(panel: _Panel, crowd: Crowd, results: Results) -> Iterator[str]:
    yield _text(panel.left, panel.top - 10, str(crowd), "start")
    for power in range(-2, 5):
        latency = 10.0**power
        if panel.latencies[0] <= latency <= panel.latencies[1]:
            y = panel.y(latency)
            yield (
                f'<line class="rule" x1="{panel.left}" x2="{panel.left + panel.width}"'
                f' y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            yield _text(panel.left - 6, y + 4, f"{latency:g}", "end", "quiet")
    for each in _COMPARED:
        found = [
            step for part in LOADS if (step := results.load(crowd, part, each.key))
        ]
        points = [(panel.x(step.asked), panel.y(step.p99_ms)) for step in found]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline class="line {each.key}" points="{path}"/>'
        for x, y in points:
            yield f'<circle class="dot {each.key}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    bottom = panel.top + panel.height
    for part in LOADS:
        step = results.load(crowd, part, "gateway")
        if step:
            x = panel.x(step.asked)
            yield _text(x, bottom + 18, _short(step.asked), "middle", "quiet")


def _picture(height: float, heading: str, note: str, parts: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img"'
            f' viewBox="0 0 {_WIDTH} {height:.0f}" aria-label="{escape(heading)}">',
            f"<style>{_STYLE}</style>",
            _text(20, 28, heading, "start", "title"),
            _text(20, 48, note, "start", "quiet"),
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return (
        f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _part(value: float, bounds: tuple[float, float]) -> float:
    low, high = (math.log(bound) for bound in bounds)
    return (math.log(value) - low) / (high - low)


def _colour(key: str) -> str:
    return key if any(each.key == key for each in _COMPARED) else "other"


def _short(number: float) -> str:
    return f"{number / 1e6:.2f}M" if number >= 1e6 else f"{number / 1e3:.0f}k"
