"""The pure parts of the benchmark: the search, the results, what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from bench import programs
from bench.findings import Results, median_step
from bench.measure import Maximum
from bench.plan import FULL, LOADS, MEDIUM, QUICK
from bench.plot import latency_svg, throughput_svg
from bench.report import markdown, summary
from bench.search import RateSearch
from bench.session import Crowd, Step
from bench.targets import verdicts
from hypothesis import given
from hypothesis import strategies as st


STEP = Step(
    asked=1000.0,
    delivered=1000.0,
    server_cpu=0.5,
    alien_cpu=0.0,
    rig_cpu=0.3,
    loadgen_cpu=0.1,
    frames=100.0,
    p50_ms=1.0,
    p99_ms=2.0,
    p999_ms=3.0,
    wrong=0,
    closed=0,
)
CROWD = Crowd(1000, 20)


def results() -> Results:
    """Return what a run finds in which the edge is four times the gateway."""
    found = Results(about={"cores": "2"})
    for key, times in (("gateway", 1.0), ("edge-array", 4.0), ("floor", 8.0)):
        step = replace(STEP, delivered=1000 * times)
        for fan_out in (20, 200):
            found.maxima[fan_out, key] = [Maximum(step, step), Maximum(None, step)]
        for part in LOADS:
            found.loads[CROWD, part, key] = [STEP]
        found.idle[key] = [STEP]
        found.memory[key] = [8192.0]
    found.warm[20_000] = [0.4, 0.6, 0.3]
    found.growth["symbols", 100] = [STEP]
    found.growth["symbols", 10_000] = [replace(STEP, server_cpu=1.0)]
    found.ingest = {"published": 30_000}
    found.missing["node"] = "Node is not installed"
    return found


@given(st.floats(2_000, 5_000_000), st.floats(1_000, 10_000_000))
def test_a_search_ends_near_the_limit(limit: float, start: float) -> None:
    search = RateSearch(start, factor=1.6, precision=0.1)
    held = 0.0
    for _ in range(60):
        if search.done:
            break
        if search.rate <= limit:
            held = max(held, search.rate)
        search.tell(search.rate <= limit)

    assert search.done
    assert limit / 1.11 <= held <= limit


def test_a_search_for_what_nothing_holds_ends() -> None:
    search = RateSearch(1000.0)
    tries = 0
    while not search.done:
        search.tell(False)
        tries += 1

    assert tries < 30


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(STEP, wrong=1),
        replace(STEP, closed=1),
        replace(STEP, delivered=960.0),
        replace(STEP, p99_ms=300.0),
    ],
)
def test_a_rate_is_held_only_if_every_delivery_is_right(spoilt: Step) -> None:
    assert STEP.held
    assert not spoilt.held


def test_the_median_is_of_each_field() -> None:
    steps = [replace(STEP, p99_ms=p99) for p99 in (9.0, 1.0, 5.0)]

    assert median_step(steps) == replace(STEP, p99_ms=5.0)
    with pytest.raises(ValueError, match="no steps"):
        median_step([])


def test_results_survive_their_file() -> None:
    found = results()

    read = Results.from_json(json.loads(json.dumps(found.as_json())))

    assert read == found
    assert markdown(read) == markdown(found)


def test_a_part_that_is_measured_again_replaces_only_itself() -> None:
    stored, again = results(), Results()
    again.maxima[20, "gateway"] = [Maximum(None, replace(STEP, delivered=9.0))]

    stored.update(again)

    peak = stored.peak(20, "gateway")
    assert peak is not None
    assert peak.delivered == 9.0
    assert stored.peak(200, "gateway") is not None
    assert stored.warm_after(20_000) == 0.4
    assert stored.missing == {}


def test_targets_are_judged_and_what_was_not_measured_is_not_met() -> None:
    found = {verdict.target: verdict for verdict in verdicts(results())}

    def met(words: str) -> list[bool]:
        return [it.met for target, it in found.items() if words in target]

    assert met("edge-array, fan-out 20:") == [True]
    assert met("edge-array, fan-out 200:") == [False]
    assert met("within 20%") == [False]
    assert met("symbols warm") == [True]
    assert met("ingest") == [True]
    nothing = verdicts(Results())
    assert not any(verdict.met or verdict.found for verdict in nothing)


def test_reports_say_what_was_found() -> None:
    report, front = markdown(results()), summary(results())

    assert "| edge, v3 arrays, every update | 8,000 | 4.00 |" in report
    assert "Node is not installed" in report
    assert "4.00" in front
    assert markdown(Results()).startswith("# Benchmark")


@pytest.mark.parametrize("found", [results(), Results()])
def test_plots_are_well_formed(found: Results) -> None:
    for plot in (throughput_svg(found), latency_svg(found)):
        assert ElementTree.fromstring(plot).tag.endswith("svg")


def test_without_a_compiler_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(programs.MissingToolError) as caught:
        programs.build(tmp_path)  # type: ignore[arg-type]

    assert "gcc" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_form_ends_by_itself() -> None:
    assert QUICK.minutes < MEDIUM.minutes < FULL.minutes
