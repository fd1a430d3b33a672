from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from e2e.page.browser import browser, browser_page
from e2e.page.stub_edge import StubEdge, run_stub_edge


__all__ = ["browser", "browser_page", "edge"]


@pytest.fixture
async def edge() -> AsyncIterator[StubEdge]:
    async with run_stub_edge() as edge:
        yield edge
