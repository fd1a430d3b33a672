"""What all fault suites need: a measuring process that does not stop by itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


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
