"""How figures are held to their bounds, and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults.report import report
from faults.results import percentile, record, slope


def test_a_missed_bound_is_kept_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    monkeypatch.setenv("FAULT_RESULTS", str(path))
    record("good", {"lost": 0, "control_lost": 5}, at_most={"lost": 0})
    with pytest.raises(AssertionError, match="lost missed the bound"):
        record("bad", {"lost": 1}, at_most={"lost": 0})
    with pytest.raises(AssertionError, match="control_lost missed the bound"):
        record("toothless", {"control_lost": 0}, at_least={"control_lost": 1})
    with pytest.raises(AssertionError):
        record("unmeasured", {"lost": None}, at_most={"lost": 0})

    lines = path.read_text().splitlines()
    shown = report(lines)

    assert [json.loads(line)["missed"] for line in lines[:2]] == [[], ["lost"]]
    assert "| **good** | run | **short form only**, " in shown
    assert "| | lost | 0 | ≤ 0 | held |" in shown
    assert "| | lost | 1 | ≤ 0 | **missed** |" in shown
    assert "| | control lost | 5 |  |  |" in shown


def test_the_last_run_of_a_suite_counts_and_a_short_one_never_replaces_a_full() -> None:
    lines = [
        json.dumps(
            {
                "suite": "s",
                "scale": scale,
                "cores": 2,
                "memory_gib": 4,
                "load": 0.5,
                "at": "2026-01-02T00:00:00+00:00",
                "figures": {"count": count},
                "bounds": {},
                "missed": [],
            }
        )
        for scale, count in (("short", 1), ("full", 1), ("full", 2000), ("short", 3))
    ]

    shown = report(lines)

    assert "| | count | 2,000 |" in shown
    assert "| | count | 1 |" not in shown
    assert "| | count | 3 |" not in shown
    assert "| **s** | run | full, 2 cores, 4 GiB, load 0.5, 2026-01-02 | | |" in shown


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0, 5), (1, 7), (2, 9)]) == 2
    assert slope([]) == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)]
)
def test_percentiles_are_values_that_were_there(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected
    assert percentile([], share) == 0
