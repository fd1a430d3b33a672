"""The page on a real edge: tokens, and a log that is lost."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from e2e.page.browser import BrowserPages
from edge_harness import EdgeProcess, Writer, run_edge
from nats_process import open_bus, run_nats
from playwright.async_api import expect

from feedmesh.bus import Bus
from feedmesh.streams import NEWS, ensure_streams


pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = b"shared between issuer and edge.."
# The edge allows for clocks that are so far apart.
LEEWAY_SECONDS = 5


def token(seconds: float) -> str:
    """Return a token that the edge takes for *seconds*."""
    expires = time.time() + seconds - LEEWAY_SECONDS
    claims = {"sub": "ann", "aud": "feedmesh", "exp": expires}
    return jwt.encode(claims, SECRET, "HS256")


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[EdgeProcess, Bus]]:
    """An edge that asks for tokens, and its bus."""
    key = base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"kty": "oct", "k": key}]}))
    async with (
        run_nats(tmp_path / "nats") as nats,
        open_bus(nats) as bus,
        run_edge(nats, EDGE_AUTH_KEYS_FILE=str(keys)) as edge,
    ):
        yield edge, bus


async def test_a_token_opens_everything_and_ends(
    guarded: tuple[EdgeProcess, Bus], browser_page: BrowserPages
) -> None:
    edge, bus = guarded
    writer = Writer(bus)
    await writer.price("AAPL", last_price="189.450")
    await writer.news("1", "with a token")
    page = await browser_page(f"{edge.url}/#token={token(12)}")

    last = page.get_by_test_id("row-AAPL").get_by_test_id("last")
    await expect(last).to_have_text("189.450")
    await expect(page.get_by_test_id("news-title")).to_have_text("with a token")
    error = page.get_by_test_id("token-error")
    await expect(error).to_have_text(re.compile("has expired"), timeout=30_000)
    await page.get_by_test_id("token").fill(token(60))
    await page.keyboard.press("Enter")
    await writer.news("2", "with another")
    titles = page.get_by_test_id("news-title")
    await expect(titles).to_have_text(["with another", "with a token"])
    await expect(page.get_by_test_id("gap-news")).to_have_count(0)


async def test_a_log_that_is_lost_is_told(
    guarded: tuple[EdgeProcess, Bus], browser_page: BrowserPages
) -> None:
    edge, bus = guarded
    writer = Writer(bus)
    await writer.news("1", "before")
    page = await browser_page(f"{edge.url}/#token={token(60)}")
    titles = page.get_by_test_id("news-title")
    await expect(titles).to_have_text("before")

    js = bus.nc.jetstream()
    await js.delete_stream(NEWS)
    await ensure_streams(js)
    await writer.news("2", "after")

    note = page.get_by_test_id("gap-news")
    await expect(note).to_contain_text("the log was lost and begins anew")
    await expect(titles).to_have_text(["after", "before"])
