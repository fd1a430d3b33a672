"""
What all fault suites need.

A measuring process that does not stop by itself, and a word about what was not run, or
not to its end.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator

import pytest
from faults.results import tell_broken, tell_skipped


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep that a test was skipped, or failed, so that nobody takes it for held."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        module = getattr(item, "module", None)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        tell_skipped(getattr(module, "SUITE", item.path.stem), reason)
    if report.failed and call.excinfo is not None:
        tell_broken(call.excinfo.typename)
    return report


@pytest.fixture(autouse=True)
def unpaused() -> Iterator[None]:
    """
    Keep the garbage collector out of the figures.

    A listener notes every message. With a million notes, the collector stops the
    process that holds the clock for half a second each time it looks at all of them.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()
