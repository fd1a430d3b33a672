"""Every alert fires when it must, stays silent when it must, and has its section."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from .alert_cases import CASES, MORE_CASES, Case


ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "k8s/monitoring"
RULES = [MONITORING / f"{name}.yaml" for name in ("recording", "alerts")]
# Looked at every 10 s, these would take minutes.
_LONG_MINUTES = 20
RUNBOOK = ROOT / "docs/runbook.md"
_SECTION = re.compile(r"^### (\w+)\n\n(.+?)(?=\n### |\n## |\Z)", re.M | re.S)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is missing: apt-get install prometheus",
)


GROUPS: list[dict[str, Any]] = [
    group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
]


def alerts() -> list[dict[str, Any]]:
    """Return the alerts as the file has them."""
    return [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]


def rules_of(name: str) -> dict[str, Any]:
    """Return the alert *name* with the rules that it builds on, as a file has them."""
    # To evaluate all of them in each test takes most of a minute.
    rules = [rule for group in GROUPS for rule in group["rules"]]
    known = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    needed, look = {name}, [r["expr"] for r in rules if r.get("alert") == name]
    while look:
        expression = look.pop()
        found = {record for record in known if record in expression} - needed
        needed |= found
        look += [known[record] for record in found]
    chosen = [
        group
        | {
            # The files have groups of the same name.
            "name": str(number),
            "rules": [
                rule
                for rule in group["rules"]
                if rule.get("record", rule.get("alert")) in needed
            ],
        }
        for number, group in enumerate(GROUPS)
    ]
    return {"groups": [group for group in chosen if group["rules"]]}


def promtool(*arguments: str) -> None:
    """Run promtool; fail with what it says."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def one_test(name: str, case: Case, series: dict[str, str], count: int) -> object:
    """Return promtool's test that *count* alerts of *name* fire under *series*."""
    expression = (
        f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > 0 or vector(0)'
    )
    return {
        "name": f"{name}: {'fires' if count else 'stays silent'}",
        "interval": "10s",
        "input_series": [{"series": s, "values": v} for s, v in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{case.at}m",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
        ],
    }


def test_every_alert_has_its_cases() -> None:
    assert {alert["alert"] for alert in alerts()} == CASES.keys()


@needs_promtool
def test_rules_are_well_formed() -> None:
    promtool("check", "rules", *map(str, RULES))


@needs_promtool
def test_alerts_fire_and_stay_silent(tmp_path: Path) -> None:
    files = []
    for number, (name, case) in enumerate((*CASES.items(), *MORE_CASES)):
        rules = tmp_path / f"{number}.yaml"
        rules.write_text(yaml.safe_dump(rules_of(name)))
        tests = [
            one_test(name, case, series, count)
            for series, count in ((case.fires, 1), (case.silent, 0))
        ]
        every = "2m" if case.at > _LONG_MINUTES else "10s"
        content = {
            "rule_files": [str(rules)],
            "evaluation_interval": every,
            "tests": tests,
        }
        files.append(tmp_path / f"{number}.test.yaml")
        files[-1].write_text(yaml.safe_dump(content))
    promtool("test", "rules", *map(str, files))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_it_has_its_section_in_the_runbook(alert: dict[str, Any]) -> None:
    page, anchor = alert["annotations"]["runbook"].split("#")
    assert ROOT / page == RUNBOOK
    sections = dict(
        re.findall(
            r"^### (\w+)\n\n(.+?)(?=\n### |\n## |\Z)", RUNBOOK.read_text(), re.M | re.S
        )
    )

    assert anchor == alert["alert"].lower()
    section = sections[alert["alert"]]
    for part in ("**Means**", "**Clients notice**", "**Do**"):
        assert part in section, f"{alert['alert']} does not say {part}"


def test_the_runbook_has_no_section_without_an_alert() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.M)

    assert sorted(sections) == sorted(alert["alert"] for alert in alerts())


def test_inhibitions_name_alerts_that_exist() -> None:
    config = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())
    names = [alert["alert"] for alert in alerts()]
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = matcher.split('"')[1]
            for part in _alternatives(pattern):
                assert any(re.fullmatch(part, name) for name in names), part


def _alternatives(pattern: str) -> list[str]:
    head, bracket, rest = pattern.partition("(")
    if not bracket:
        return pattern.split("|")
    return [head + part for part in rest.rstrip(")").split("|")]
