"""How figures are held to their bounds, and how they are shown."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import test_partition
from faults.report import report
from faults.results import commit_of, percentile, record, slope, tell_broken


FOLDER = Path(__file__).parent


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
                "commit": "abc1234",
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
    run = "full, 2 cores, 4 GiB, load 0.5, 2026-01-02, abc1234"
    assert f"| **s** | run | {run} | | |" in shown


def test_a_suite_that_is_skipped_says_so_in_the_table_and_in_the_last_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.jsonl"
    suite = test_partition.SUITE
    # Its short form leaves out what takes long.
    command = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", "costs_no_news")
    own = {"FAULT_RESULTS": str(path), "FAULT_SCALE": "short"}
    subprocess.run(
        (*command, str(FOLDER / "test_partition.py")),
        cwd=FOLDER.parents[1],
        env=os.environ | own,
        capture_output=True,
        check=True,
    )

    lines = path.read_text().splitlines()
    reason = json.loads(lines[0])["skipped"]
    last_words = runpy.run_path(str(FOLDER / "__main__.py"))["last_words"]

    assert len(lines) == 1
    assert "elections after silence take long" in reason
    assert f"| **{suite}** | **NOT TESTED** here: {reason} | " in report(lines)
    assert last_words([], lines) == f"failed: none; NOT TESTED here: {suite} ({reason})"
    assert last_words(["edges"], []) == "failed: edges"
    # What was held once is not held by a run that did not take place.
    outcome = {"figures": {"lost": 0}, "bounds": {"lost": "≤ 0"}, "missed": []}
    held = json.dumps(json.loads(lines[0].replace("skipped", "was")) | outcome)
    assert "| held |" in report([held])
    assert "| held |" not in report([held, *lines])


def test_a_test_that_breaks_off_is_not_held_until_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    monkeypatch.setenv("FAULT_RESULTS", str(path))
    shown = []
    for test, outcome in (("x", "told"), ("y", "told"), ("x", "broken"), ("x", "told")):
        monkeypatch.setenv("PYTEST_CURRENT_TEST", f"tests/a.py::test_{test} (call)")
        if outcome == "told":
            record(f"suite {test}", {"lost": 0}, at_most={"lost": 0})
        else:
            tell_broken("TimeoutError")
        shown.append(report(path.read_text().splitlines()))

    assert ["**suite x**" in table for table in shown] == [True, True, False, True]
    assert ["**suite y**" in table for table in shown] == [False, True, True, True]
    broken = "| **test_x** | **FAILED** before it told its figures: TimeoutError | "
    assert [broken in table for table in shown] == [False, False, True, False]


def test_a_test_that_has_told_of_a_missed_bound_needs_no_more_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    monkeypatch.setenv("FAULT_RESULTS", str(path))
    with pytest.raises(AssertionError):
        record("suite", {"lost": 1}, at_most={"lost": 0})
    tell_broken("AssertionError")

    assert len(path.read_text().splitlines()) == 1


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_inside_a_repository_the_commit_is_named(tmp_path: Path) -> None:
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run((*git, "init", "--quiet"), check=True)
    commit = ("commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "a")
    subprocess.run((*git, *commit), check=True)

    int(commit_of(tmp_path), 16)

    (tmp_path / "tests").mkdir()
    for name, told in (("RESULTS.md", ""), ("results.jsonl", ""), ("code.py", "+")):
        (tmp_path / "tests" / name).touch()
        subprocess.run((*git, "add", "."), check=True)
        assert commit_of(tmp_path).lstrip("0123456789abcdef") == told


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0, 5), (1, 7), (2, 9)]) == 2
    assert slope([]) == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)]
)
def test_percentiles_are_values_that_were_there(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected
    assert percentile([], share) == 0
