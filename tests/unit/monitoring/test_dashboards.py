"""Dashboards are what the code makes, ask what can be asked, and show everything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .catalogue import catalogue
from .dashboards import files
from .panels import Query
from .shown import DASHBOARDS, NOT_SHOWN


RULES = Path(__file__).parents[3] / "k8s/monitoring"
QUERIES: list[Query] = [
    query
    for board in DASHBOARDS.values()
    for panels in board.rows.values()
    for panel in panels
    for query in panel.queries
]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.name))
def test_the_files_are_what_the_code_makes(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path]


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing: apt-get install prometheus",
)
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"q{number}", "expr": query.expr.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_everything_is_shown_or_said_not_to_be() -> None:
    expressions = [query.expr for query in QUERIES]
    for name in ("alerts", "recording"):
        groups = yaml.safe_load((RULES / f"{name}.yaml").read_text())["groups"]
        expressions += [rule["expr"] for group in groups for rule in group["rules"]]
    used = set(re.findall(r"feedmesh_\w+", " ".join(expressions)))
    metrics = {
        family.name: family.series for found in catalogue().values() for family in found
    }
    exported = {series for names in metrics.values() for series in names}

    missing = {name for name, series in metrics.items() if not used & set(series)}
    assert missing == NOT_SHOWN.keys()
    # And nothing is asked for that nobody exports.
    names = {name for name in used if not name.endswith("_")}
    assert names - exported == set()


def test_the_schema_is_that_of_grafana_11() -> None:
    for path, text in files().items():
        if path.suffix == ".json":
            assert json.loads(text)["schemaVersion"] >= 39
