"""
Pages in a real browser, for every test that needs one.

A page that writes an error to its console, or breaks its content security policy, fails
the test that opened it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect


__all__ = ["BrowserPages", "browser_page", "pages_of", "run_browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The browser itself writes these when a server is away, whatever a page does about it.
_SERVER_IS_AWAY = re.compile(
    r"^WebSocket connection to .* failed|^Failed to load resource: "
    r"(net::ERR_|the server responded with a status of 503)"
)
_WAIT_MS = 15_000

expect.set_options(timeout=_WAIT_MS)


class BrowserPages:
    """
    Opens pages; each in a context, and so with a memory, of its own.

    Attributes:
        problems: What the pages complained of.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.problems: list[str] = []

    async def __call__(self, url: str, **options: Any) -> Page:
        """Open *url*; *options* are those of a browser context."""
        page = await self.blank(**options)
        await page.goto(url)
        return page

    async def blank(self, **options: Any) -> Page:
        """Return a page that is at no address yet."""
        options.setdefault("viewport", {"width": 1280, "height": 800})
        context = await self._browser.new_context(**options)
        context.set_default_timeout(_WAIT_MS)
        page = await context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        # For who wonders why a test failed: a page lives without some answers.
        page.on("requestfailed", lambda lost: print("lost:", lost.url, lost.failure))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        serious = message.type in ("error", "warning")
        if serious and not _SERVER_IS_AWAY.match(message.text):
            self.problems.append(message.text)


@asynccontextmanager
async def run_browser() -> AsyncIterator[Browser]:
    """Run a browser while the context is open; skips the test if there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(
            "browser tests left out: no Chromium found;"
            " install it with: apt-get install chromium"
        )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=_ARGUMENTS
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def pages_of(browser: Browser) -> AsyncIterator[BrowserPages]:
    """Open pages in *browser*; fails at the end if one of them complained."""
    pages = BrowserPages(browser)
    yield pages
    for context in browser.contexts:
        await context.close()
    assert not pages.problems, pages.problems


@pytest.fixture
async def browser_page() -> AsyncIterator[BrowserPages]:
    """Pages in a browser of the test's own."""
    async with run_browser() as browser, pages_of(browser) as pages:
        yield pages
