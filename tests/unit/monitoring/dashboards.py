"""
Makes the dashboards of Grafana, and a picture of the layout of each.

What they show is in ``board_*.py``. ``python -m monitoring.dashboards`` in
``tests/unit`` writes the files that are committed; a test holds them equal to these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, stat, timeseries
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from .panels import Board, Panel
from .shown import DASHBOARDS


__all__ = ["files"]

ROOT = Path(__file__).parents[3]
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLUMNS, _LINES_HIGH, _NUMBER_HIGH = 24, 8, 4


def _thresholds(good: float) -> dashboard.ThresholdsConfig:
    below, above = ("red", "green") if good > 0 else ("green", "red")
    steps = [
        models.Threshold(value=None, color=below),
        models.Threshold(value=abs(good), color=above),
    ]
    absolute = models.ThresholdsMode.ABSOLUTE
    return dashboard.ThresholdsConfig().mode(absolute).steps(steps)


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel
    if panel.kind == "number":
        last = common.ReduceDataOptions().calcs(["lastNotNull"])
        made = stat.Panel().reduce_options(last).height(_NUMBER_HIGH)
        if panel.good is not None:
            made = made.thresholds(_thresholds(panel.good))
    else:
        legend = (
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        made = timeseries.Panel().legend(legend).height(_LINES_HIGH)
    made = made.title(panel.title).unit(panel.unit).span(panel.span)
    made = made.datasource(_SOURCE)
    if panel.about:
        made = made.description(panel.about)
    for number, query in enumerate(panel.queries):
        target = prometheus_builders.Dataquery().expr(query.expr)
        target = target.legend_format(query.legend or "__auto")
        made = made.with_target(target.ref_id(chr(ord("A") + number)))
    return made


def _dashboard(board: Board) -> dict[str, Any]:
    source = dashboard.DatasourceVariable("datasource").type("prometheus")
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["feedmesh"])
        .timezone("utc")
        .time("now-1h", "now")
        .refresh("10s")
        .readonly()
        .with_variable(source.label("Prometheus"))
        .link(
            dashboard.DashboardLink("feedmesh")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["feedmesh"])
            .keep_time(True)
        )
    )
    for title, panels in board.rows.items():
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel))
    encoded = json.dumps(made.build(), cls=JSONEncoder)
    found: dict[str, Any] = json.loads(encoded)
    return found


_SCALE = 36
_ROW = "#e8eaed"
_BOX = "#f8f9fa"


def _picture(made: dict[str, Any]) -> str:
    shapes = list(_shapes(made["panels"]))
    high = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in made["panels"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif"'
        f' viewBox="0 0 {_COLUMNS * _SCALE} {high * 12}">\n'
        f"<title>{escape(made['title'])}</title>\n" + "".join(shapes) + "</svg>\n"
    )


def _shapes(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        at = panel["gridPos"]
        x, y = at["x"] * _SCALE, at["y"] * 12
        wide, high = at["w"] * _SCALE - 4, at["h"] * 12 - 3
        fill = _ROW if panel["type"] == "row" else _BOX
        yield (
            f'<rect x="{x + 2}" y="{y + 1}" width="{wide}" height="{high}"'
            f' fill="{fill}" stroke="#9aa0a6"/>\n'
        )
        size = min(11, 2 * wide // (len(panel["title"]) + 1))
        middle = y + at["h"] * 6 + 4
        yield (
            f'<text x="{x + wide // 2}" y="{middle}" font-size="{size}"'
            f' text-anchor="middle">{escape(panel["title"])}</text>\n'
        )


def _page() -> str:
    parts = [
        "# Dashboards\n\nMade for Grafana 11 and newer; the files are in"
        " `k8s/monitoring/dashboards`, to be\nimported or mounted. Each asks which"
        " Prometheus to use. What the panels are made of is\n"
        "`tests/unit/monitoring`; `make dashboards` writes the files anew.\n"
    ]
    for name, board in DASHBOARDS.items():
        rows = "\n".join(
            f"- **{row}** " + "; ".join(panel.title for panel in panels)
            for row, panels in board.rows.items()
        )
        title = board.title.removeprefix("feedmesh: ")
        title = title[0].upper() + title[1:]
        parts.append(
            f"\n## {title}\n\n![Its layout](dashboards/{name}.svg)\n\n{rows}\n"
        )
    return "".join(parts)


def files() -> dict[Path, str]:
    """Return every file that is made, by path, as text."""
    made = {ROOT / "docs/dashboards.md": _page()}
    for name, board in DASHBOARDS.items():
        built = _dashboard(board)
        text = json.dumps(built, indent=1, ensure_ascii=False, sort_keys=True)
        made[ROOT / f"k8s/monitoring/dashboards/{name}.json"] = text + "\n"
        made[ROOT / f"docs/dashboards/{name}.svg"] = _picture(built)
    return made


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
