"""One browser for all tests of the page; each has pages and an edge of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from e2e.page.browser import BrowserPages, pages_of, run_browser
from e2e.page.stub_edge import StubEdge, run_stub_edge
from playwright.async_api import Browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with run_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser_page(browser: Browser) -> AsyncIterator[BrowserPages]:
    async with pages_of(browser) as pages:
        yield pages


@pytest_asyncio.fixture(loop_scope="module")
async def edge() -> AsyncIterator[StubEdge]:
    async with run_stub_edge() as edge:
        yield edge
