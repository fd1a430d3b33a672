"""The page in a real browser, on the real edge, behind real ingests."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.page.browser import BrowserPages
from mesh import Mesh, run_mesh
from playwright.async_api import expect


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with run_mesh(tmp_path) as mesh:
        yield mesh


def trade(number: int, price: str) -> dict[str, str]:
    time = 1645216790788174600 + number * 10**9
    return {"text": f'{{"s":"aapl","t":{time},"type":"T","lp":{price},"ls":100}}'}


def item(number: int, title: str) -> dict[str, object]:
    body = {
        "date": "20260715",
        "time": "090130",
        "id": "15",
        "realkey": f"2026071509013001{number:08}",
        "title": title,
        "code": "000000005930",
        "bodysize": "1",
    }
    return {"header": {"tr_cd": "NWS", "tr_key": "NWS001"}, "body": body}


async def test_prices_move_news_appears_and_the_page_outlives_the_edge(
    mesh: Mesh, browser_page: BrowserPages
) -> None:
    page = await browser_page(f"{mesh.url}/")
    await mesh.subscribed("fmp.stocks", "aapl")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    last = page.get_by_test_id("row-AAPL").get_by_test_id("last")

    await mesh.simulator.inject("fmp.stocks", trade(1, "189.450"))
    await expect(last).to_contain_text("189.450")
    await mesh.simulator.inject("fmp.stocks", trade(2, "189.460"))
    await expect(last).to_contain_text("189.460")
    row = page.get_by_test_id("row-AAPL")
    await expect(row).to_have_attribute("data-direction", "up")

    await mesh.simulator.inject("ls.ws", item(1, "<b>첫</b> 공시"))
    titles = page.get_by_test_id("news-title")
    await expect(titles.first).to_have_text("<b>첫</b> 공시")
    await expect(page.get_by_test_id("news-list")).to_contain_text("삼성전자")
    await expect(page.get_by_test_id("feed-fmp")).to_have_attribute(
        "data-state", "live"
    )

    await mesh.services["edge"].stop(signal.SIGKILL)
    await expect(page.get_by_test_id("connection")).not_to_have_attribute(
        "data-state", "live"
    )
    # What is said while nobody serves the page must be there when it is back.
    await mesh.simulator.inject("ls.ws", item(2, "그동안"))
    await mesh.services["edge"].start()
    await expect(page.get_by_test_id("connection")).to_have_attribute(
        "data-state", "live", timeout=30_000
    )
    await expect(page.get_by_test_id("news-list")).to_contain_text(
        "그동안", timeout=30_000
    )
    await mesh.simulator.inject("fmp.stocks", trade(3, "190.125"))
    await expect(last).to_contain_text("190.125")


async def test_a_symbol_that_is_typed_is_subscribed_upstream(
    mesh: Mesh, browser_page: BrowserPages
) -> None:
    page = await browser_page(f"{mesh.url}/")
    await page.get_by_test_id("symbol-input").fill("tsla")
    await page.keyboard.press("Enter")

    await mesh.subscribed("fmp.stocks", "tsla")
    event = json.loads(trade(1, "1.5")["text"]) | {"s": "tsla"}
    await mesh.simulator.inject("fmp.stocks", event)
    last = page.get_by_test_id("row-TSLA").get_by_test_id("last")
    await expect(last).to_contain_text("1.5")


async def test_a_broken_link_shows_on_the_page_while_it_lasts_and_afterwards(
    mesh: Mesh, browser_page: BrowserPages
) -> None:
    page = await browser_page(f"{mesh.url}/")
    await mesh.subscribed("ls.ws", "NWS:NWS001")
    await mesh.simulator.inject("ls.ws", item(1, "앞"))
    await expect(page.get_by_test_id("news-title")).to_have_text("앞")
    gaps = page.get_by_test_id("feed-gap")
    await expect(gaps).to_have_count(0)

    for kind in ("reset_on_connect", "drop"):
        await mesh.simulator.call("POST", "/fault", target="ls.ws", kind=kind)
    await expect(gaps).to_have_attribute("data-state", "open")
    await expect(gaps).to_contain_text("news")
    await expect(page.get_by_test_id("gap-news")).to_have_count(1)
    await mesh.simulator.call("DELETE", "/fault")
    await expect(gaps).to_have_attribute("data-state", "ended", timeout=30_000)

    # Who comes later learns of it, too.
    other = await browser_page(f"{mesh.url}/")
    gaps = other.get_by_test_id("feed-gap")
    await expect(gaps).to_have_attribute("data-state", "ended")
