"""The page in a real browser, in front of an edge that says what the test wants."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from e2e.page.browser import BrowserPages
from e2e.page.stub_edge import StubEdge, news_item
from playwright.async_api import Locator, Page, expect


# One browser, and so one event loop, serves them all.
pytestmark = pytest.mark.asyncio(loop_scope="module")
UP_AND_DOWN = re.compile("up|down")


def row(page: Page, symbol: str) -> Locator:
    return page.get_by_test_id(f"row-{symbol}")


def part(page: Page, symbol: str, name: str) -> Locator:
    return row(page, symbol).get_by_test_id(name)


def stories(page: Page) -> Locator:
    return page.get_by_test_id("news-item").filter(visible=True)


def titles(page: Page) -> Locator:
    return page.get_by_test_id("news-title").filter(visible=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something on the side of the edge, where nothing tells of changes."""
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def add(page: Page, symbol: str) -> None:
    await page.get_by_test_id("symbol-input").fill(symbol)
    await page.get_by_test_id("symbol-add").click()


async def is_live(page: Page) -> None:
    connection = page.get_by_test_id("connection")
    await expect(connection).to_have_attribute("data-state", "live")


@pytest_asyncio.fixture(loop_scope="module")
async def page(edge: StubEdge, browser_page: BrowserPages) -> Page:
    """The page in front of the edge, once it hears it."""
    page = await browser_page(edge.url)
    await is_live(page)
    return page


async def on_a_clock_of_its_own(edge: StubEdge, browser_page: BrowserPages) -> Page:
    """Open the page and have it show a price; its time passes only when told to."""
    await edge.price("AAPL", last_price="1.10")
    page = await browser_page.blank()
    await page.clock.install()
    await page.goto(edge.url)
    await page.clock.run_for(100)
    await expect(part(page, "AAPL", "last")).to_have_text("1.10")
    return page


def now_ms() -> int:
    return int(time.time() * 1000)


def seconds_ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


async def test_a_price_appears_from_the_cache_and_moves(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price(
        "AAPL",
        last_price="189.450",
        last_size=1000,
        ask_price="189.460",
        ask_size=5000,
        bid_price="189.440",
        bid_size=3000,
    )
    page = await browser_page(edge.url)

    await expect(part(page, "AAPL", "last")).to_have_text("189.450")
    await expect(part(page, "AAPL", "last-size")).to_have_text("1000")
    await expect(part(page, "AAPL", "bid")).to_have_text("189.440")
    await expect(part(page, "AAPL", "bid-size")).to_have_text("3000")
    await expect(part(page, "AAPL", "ask")).to_have_text("189.460")
    await expect(part(page, "AAPL", "ask-size")).to_have_text("5000")

    await edge.price("AAPL", last_price="189.500")

    await expect(part(page, "AAPL", "last")).to_have_text("189.500")
    await expect(part(page, "AAPL", "bid")).to_have_text("–")


async def test_up_and_down_are_told_by_sign_and_arrow(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="189.450")
    page = await browser_page(edge.url)
    await expect(part(page, "AAPL", "last")).to_have_text("189.450")
    await expect(row(page, "AAPL")).not_to_have_attribute("data-direction", UP_AND_DOWN)

    await edge.price("AAPL", last_price="189.550")
    await expect(row(page, "AAPL")).to_have_attribute("data-direction", "up")
    await expect(row(page, "AAPL").locator(".arrow")).to_have_text("▲")
    await expect(part(page, "AAPL", "change-by")).to_have_text("+0.100")
    await expect(part(page, "AAPL", "change-share")).to_have_text("+0.05 %")

    await edge.price("AAPL", last_price="189.400")
    await expect(row(page, "AAPL")).to_have_attribute("data-direction", "down")
    await expect(row(page, "AAPL").locator(".arrow")).to_have_text("▼")
    await expect(part(page, "AAPL", "change-by")).to_have_text("−0.050")


async def test_digits_are_those_of_the_server(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("BTCUSD", last_price="67123.00000001", last_size="0.10")
    await edge.price("ETHUSD", last_price="0.00001234")
    await edge.price("005930", last_price="71500")
    page = await browser_page(edge.url)

    await expect(part(page, "BTCUSD", "last")).to_have_text("67123.00000001")
    await expect(part(page, "BTCUSD", "last-size")).to_have_text("0.10")
    await expect(part(page, "ETHUSD", "last")).to_have_text("0.00001234")
    await expect(part(page, "005930", "last")).to_have_text("71500")


async def test_where_trades_are_not_told_the_exact_middle_is_shown(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("EURUSD", data_type="Q", bid_price="1.07864", ask_price="1.07867")
    page = await browser_page(edge.url)

    await expect(part(page, "EURUSD", "last")).to_have_text("1.078655")
    await expect(part(page, "EURUSD", "kind")).to_have_text("mid")
    await expect(part(page, "EURUSD", "bid")).to_have_text("1.07864")


async def test_a_trade_that_was_taken_back_is_marked(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", data_type="B", last_price="189.1")
    page = await browser_page(edge.url)

    await expect(part(page, "AAPL", "kind")).to_have_text("trade break")


async def test_arithmetic_on_digits_is_exact(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    expected = {
        "difference('189.450', '189.4')": "0.050",
        "difference('1', '1.5')": "-0.5",
        "difference('1e-8', '0')": "0.00000001",
        "midpoint('1.07864', '1.07866')": "1.078650",
        "midpoint('-0.2', '0.1')": "-0.05",
        "midpoint('9007199254740993', '9007199254740993')": "9007199254740993.0",
        "percent('-0.050', '189.450')": "-0.03",
        "percent('1', '0')": None,
        "compare('1.10', '1.1')": 0,
        "compare('2', '10')": -1,
        "signed('0.00')": "0.00",
        "signed('-1')": "−1",
        "thousands('1234567.12345')": ["1", "234", "567.12345"],
        "thousands('9999.5')": ["9999.5"],
        """parseKeepingDigits('{"a": 1.10, "b": "2.0"}')""": {"a": "1.10", "b": "2.0"},
        r"""parseKeepingDigits('["say \\"1.0\\" 2"]')""": ['say "1.0" 2'],
        "parseKeepingDigits('[null, true, -1E+5]')": [None, True, "-1E+5"],
    }
    page = await browser_page(edge.url)

    results = {
        call: await page.evaluate(f"import('/page/digits.js').then((d) => d.{call})")
        for call in expected
    }

    assert results == expected


async def test_of_many_frames_the_last_one_is_shown(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1.0")
    page = await browser_page(edge.url)
    await expect(part(page, "AAPL", "last")).to_have_text("1.0")

    for number in range(2000):
        await edge.price("AAPL", last_price=f"2.{number:04}")

    await expect(part(page, "AAPL", "last")).to_have_text("2.1999")


async def test_an_old_value_is_marked_as_stale(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1", timestamp=now_ms() - 5 * 60_000)
    await edge.price("MSFT", last_price="1", timestamp=now_ms())
    page = await browser_page(edge.url)

    await expect(part(page, "AAPL", "age")).to_have_text("5 min")
    await expect(part(page, "AAPL", "stale")).to_be_visible()
    await expect(part(page, "MSFT", "age")).to_have_text(re.compile(r"^[1-9]\d? s$"))
    await expect(part(page, "MSFT", "stale")).to_be_hidden()


async def test_ages_are_right_where_the_clock_of_the_browser_is_not(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1", timestamp=now_ms() - 5 * 60_000)
    page = await browser_page.blank()
    await page.clock.install(time=time.time() + 7200)
    await page.goto(edge.url)
    await is_live(page)
    await page.clock.run_for(1000)

    await expect(part(page, "AAPL", "age")).to_have_text("5 min")


async def test_symbols_are_added_removed_and_remembered(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("TSLA", last_price="251.30")
    page = await browser_page(edge.url)
    await expect(page.locator("[data-symbol]")).to_have_count(8)

    await add(page, " tsla ")
    await expect(part(page, "TSLA", "last")).to_have_text("251.30")
    await row(page, "MSFT").get_by_test_id("remove").click()
    await expect(row(page, "MSFT")).to_have_count(0)
    await until(lambda: "TSLA" in edge.subscribed and "MSFT" not in edge.subscribed)
    await page.reload()

    await expect(part(page, "TSLA", "last")).to_have_text("251.30")
    await expect(page.locator("[data-symbol]")).to_have_count(8)
    await expect(row(page, "MSFT")).to_have_count(0)


async def test_an_empty_watchlist_says_what_to_do(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    page = await browser_page(edge.url)
    for _ in range(8):
        await page.get_by_test_id("remove").first.click()

    await expect(page.get_by_test_id("watchlist-empty")).to_be_visible()
    await page.get_by_test_id("restore").click()
    await expect(page.locator("[data-symbol]")).to_have_count(8)


async def test_an_illegal_symbol_is_refused_in_plain_words(page: Page) -> None:
    await add(page, "foo$")

    error = page.get_by_test_id("symbol-error")
    await expect(error).to_have_text('Not added: "FOO$" is not a legal symbol.')
    await expect(row(page, "FOO$")).to_have_count(0)
    await page.get_by_test_id("symbol-input").fill("TSLA")
    await expect(error).to_be_empty()


async def test_an_illegal_symbol_in_memory_does_not_harm_the_others(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="189.450")
    page = await browser_page.blank()
    kept = json.dumps(json.dumps(["AAPL", "A B", "EURUSD"]))
    await page.add_init_script(f"localStorage['feedmesh.watchlist'] ??= {kept}")
    await page.goto(edge.url)

    await expect(part(page, "AAPL", "last")).to_have_text("189.450")
    await expect(row(page, "A B")).to_have_count(0)
    await until(lambda: edge.subscribed == {"AAPL", "EURUSD"})


async def test_news_appears_on_top_with_its_facts(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.append(news_item("1", "먼저 온 뉴스"))
    page = await browser_page(edge.url)
    await expect(titles(page)).to_have_text(["먼저 온 뉴스"])

    await edge.tell(
        news_item("2", "나중에 온 뉴스", provider=None, published_at=seconds_ago(125))
    )

    await expect(titles(page)).to_have_text(["나중에 온 뉴스", "먼저 온 뉴스"])
    new, old = stories(page).nth(0), stories(page).nth(1)
    await expect(new.get_by_test_id("news-provider")).to_have_text("provider unknown")
    await expect(new.get_by_test_id("news-age")).to_have_text("2 min ago")
    await expect(old.get_by_test_id("news-time")).to_have_text("09:52:17 KST")
    await expect(old.locator(".day")).to_have_text("2023-06-14")
    await expect(old.get_by_test_id("news-provider")).to_have_text("헤럴드경제")
    await expect(old.get_by_test_id("news-title")).to_have_attribute("lang", "ko")
    await expect(old.get_by_test_id("news-stock")).to_have_text("STX011810")


async def test_news_is_filtered_by_code_company_and_type(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    samsung = [{"code": "005930", "name": "삼성전자"}, {"code": "000660", "name": None}]
    edge.news.append(news_item("1", "one", stocks=samsung))
    edge.news.append(news_item("2", "two", news_type="disclosure"))
    edge.news.append(news_item("3", "three", stocks=[]))
    page = await browser_page(edge.url)
    query = page.get_by_test_id("news-query")
    await expect(titles(page)).to_have_text(["three", "two", "one"])

    await page.get_by_role("button", name="Show only news on 삼성전자 005930").click()
    await expect(titles(page)).to_have_text(["one"])
    await expect(query).to_have_value("005930")
    await edge.tell(news_item("4", "four", stocks=samsung))
    await edge.tell(news_item("5", "five"))
    await expect(titles(page)).to_have_text(["four", "one"])
    await expect(page.get_by_test_id("news-count")).to_have_text("2 of 5")

    await query.fill("stx")
    await expect(titles(page)).to_have_text(["five", "two"])
    await page.get_by_label("Disclosures").check()
    await expect(titles(page)).to_have_text(["two"])
    await expect(stories(page).get_by_test_id("news-badge")).to_have_text("Disclosure")

    await query.fill("nothing like it")
    await expect(page.get_by_text("No news matches this filter.")).to_be_visible()
    await page.get_by_test_id("news-clear").click()
    await expect(titles(page)).to_have_count(5)
    await expect(page.get_by_test_id("news-badge")).to_have_count(1)


async def test_a_code_in_the_news_can_be_watched(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("011810", last_price="1234")
    edge.news.append(news_item("1", "one"))
    page = await browser_page(edge.url)
    await is_live(page)

    await page.get_by_test_id("news-watch").click()

    await expect(part(page, "011810", "last")).to_have_text("1234")


async def test_repeats_are_folded_into_the_first_item(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.append(news_item("1", "same"))
    edge.news.append(news_item("2", "same", repeat_of="1"))
    page = await browser_page(edge.url)
    await expect(page.get_by_test_id("news-repeats")).to_have_text("1 repeat")
    await edge.tell(news_item("3", "other"))
    await edge.tell(news_item("4", "same", repeat_of="1", provider="이데일리"))
    await edge.tell(news_item("6", "unknown first", repeat_of="5"))

    await expect(titles(page)).to_have_text(["unknown first", "other", "same"])
    await expect(page.get_by_test_id("news-repeats")).to_have_text("2 repeats")
    await page.get_by_test_id("news-repeats").click()
    await expect(page.get_by_test_id("news-repeat")).to_have_count(2)
    await expect(page.get_by_test_id("news-repeat").first).to_contain_text("이데일리")


async def test_markup_in_texts_is_shown_and_never_interpreted(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    evil = "<b>굵게</b> <img src=x onerror='window.harmed=1'><script>harmed=1</script>"
    await edge.status(evil, links={evil: {"reason": evil}})
    edge.news.append(
        news_item("1", evil, provider=evil, stocks=[{"code": evil, "name": evil}])
    )
    page = await browser_page(edge.url)

    await expect(titles(page)).to_have_text([evil])
    await expect(page.get_by_test_id("news-provider")).to_have_text(evil)
    await expect(page.locator(".feed .reason")).to_have_text(evil)
    assert await page.evaluate("window.harmed") is None
    assert await page.locator("main :is(script, img, b:not(.empty b))").count() == 0


async def test_the_reader_keeps_the_place_while_news_comes(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.extend(news_item(str(number), f"old {number}") for number in range(40))
    page = await browser_page(edge.url)
    await expect(titles(page)).to_have_count(40)
    watched = page.get_by_text("old 20", exact=True)
    await watched.scroll_into_view_if_needed()
    place = await watched.bounding_box()

    await edge.tell(news_item("a", "new 1"))
    await edge.tell(news_item("b", "new 2"))

    button = page.get_by_test_id("news-new")
    await expect(button).to_have_text("2 new items")
    assert await watched.bounding_box() == place
    await button.click()
    await expect(titles(page).first).to_have_text("new 2")
    await expect(titles(page).first).to_be_in_viewport()
    await expect(button).to_be_hidden()


async def test_the_news_list_is_bounded(edge: StubEdge, page: Page) -> None:
    for number in range(530):
        await edge.tell(news_item(str(number), f"item {number}"))

    await expect(titles(page).first).to_have_text("item 529")
    await expect(page.get_by_test_id("news-item")).to_have_count(500)
    await expect(page.get_by_test_id("news-title").last).to_have_text("item 30")


async def test_everything_recovers_after_the_edge_was_restarted(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1.10")
    edge.news.append(news_item("1", "before"))
    page = await browser_page(edge.url)
    await is_live(page)
    await add(page, "TSLA")
    await until(lambda: "TSLA" in edge.subscribed)

    await edge.stop()
    connection = page.get_by_test_id("connection")
    await expect(connection).to_have_attribute("data-state", "reconnecting")
    await expect(page.get_by_test_id("banner")).to_be_visible()
    await expect(page.get_by_test_id("feeds-note")).to_contain_text("not connected")
    await expect(part(page, "AAPL", "last")).to_have_text("1.10")
    edge.news.extend(news_item(f"2-{number}", f"{number}") for number in range(250))
    await edge.price("AAPL", last_price="1.20")
    edge.requests.clear()
    await edge.start()

    await is_live(page)
    await expect(page.get_by_test_id("banner")).to_be_hidden()
    await expect(part(page, "AAPL", "last")).to_have_text("1.20")
    meanwhile = [str(number) for number in reversed(range(250))]
    await expect(titles(page)).to_have_text([*meanwhile, "before"])
    await expect(page.get_by_test_id("gap-news")).to_have_count(0)
    assert {"AAPL", "TSLA"} <= edge.subscribed
    since = [r["subscriptions"][0].get("since") for r in edge.requests]
    assert since == [["stub.1.1.0000"], "1", None]
    await edge.price("TSLA", last_price="251.30")
    await edge.tell(news_item("3", "after"))
    await expect(part(page, "TSLA", "last")).to_have_text("251.30")
    await expect(titles(page).first).to_have_text("after")


async def test_news_that_may_be_missing_is_told_plainly(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.append(news_item("1", "before"))
    page = await browser_page(edge.url)
    await expect(titles(page)).to_have_text(["before"])
    edge.forgotten = "expired"
    edge.news.append(news_item("2", "snapshot"))

    await edge.hang_up()

    told = re.compile(
        r"News (around|between) [\d:]+ (and [\d:]+ )?KST may be missing"
        r" \(what came then is no longer kept\)\."
    )
    note = page.get_by_test_id("gap-news")
    await expect(note).to_have_text(told)
    await expect(titles(page)).to_have_text(["snapshot", "before"])
    # The line stands where the hole is.
    above = page.locator("[data-testid=gap-line] + [data-realkey='1']")
    await expect(above).to_have_count(1)
    await note.get_by_test_id("gap-dismiss").focus()
    await page.keyboard.press("Enter")
    await expect(note).to_have_count(0)
    await expect(page.get_by_test_id("gap-line")).to_have_count(1)


async def test_a_gap_while_connected_is_told_too(edge: StubEdge, page: Page) -> None:
    await edge.say(type="gap", channel="prices", reason="slow_client", missed=12)
    await edge.say(type="gap", channel="news", reason="removed", after="1", to="2")
    await edge.say(type="gap", channel="news", reason="unheard_of", after="1", to="2")

    prices = page.get_by_test_id("gap-prices")
    await expect(prices).to_contain_text("You see the newest values")
    await expect(page.get_by_test_id("gap-news")).to_contain_text(
        ["unheard_of", "items were removed from the log"]
    )


async def test_an_edge_that_goes_away_says_when_to_come_back(
    edge: StubEdge, page: Page
) -> None:
    await edge.say(type="going_away", reconnect_after_ms=2500)
    await is_live(page)
    gone = time.monotonic()
    await edge.hang_up(4200)

    connection = page.get_by_test_id("connection")
    await expect(connection).to_contain_text("edge restarts")
    await until(lambda: edge.connections == 2)
    assert time.monotonic() - gone > 2
    await is_live(page)


async def test_an_edge_that_wants_no_more_is_left_alone(
    edge: StubEdge, page: Page
) -> None:
    await edge.hang_up(4000)

    await expect(page.get_by_test_id("connection")).to_have_text("ended (4000)")
    await expect(page.get_by_test_id("banner")).to_contain_text("code 4000")
    await asyncio.sleep(1)
    assert edge.connections == 1
    await page.get_by_test_id("reconnect").click()
    await is_live(page)


async def test_closed_sockets_are_opened_again(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1.10")
    page = await browser_page(edge.url)
    await is_live(page)

    await edge.hang_up()
    await until(lambda: edge.connections == 2 and "AAPL" in edge.subscribed)

    await is_live(page)
    await edge.price("AAPL", last_price="1.20")
    await expect(part(page, "AAPL", "last")).to_have_text("1.20")


async def test_a_connection_that_is_dead_and_looks_open_is_replaced(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    page = await on_a_clock_of_its_own(edge, browser_page)

    edge.mute = True
    await page.clock.run_for(15_000)
    assert edge.connections == 1
    await page.clock.run_for(20_000)

    await until(lambda: edge.connections >= 2)


async def test_a_token_is_asked_for_where_the_edge_wants_one(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.token = "good"
    await edge.price("AAPL", last_price="1.10")
    page = await browser_page(edge.url)
    field = page.get_by_test_id("token")
    await expect(field).to_be_focused()
    await expect(page.get_by_test_id("connection")).to_have_text("needs a token")
    await expect(page.get_by_test_id("token-error")).to_be_empty()

    await page.keyboard.type("bad")
    await page.keyboard.press("Enter")
    error = page.get_by_test_id("token-error")
    await expect(error).to_have_text("The token was not accepted, or has expired.")
    connections = edge.connections
    await asyncio.sleep(1)
    assert edge.connections == connections

    await field.fill("good")
    await page.keyboard.press("Enter")
    await is_live(page)
    await until(lambda: edge.tokens == ["Bearer good"])
    await expect(page.get_by_test_id("token-form")).to_be_hidden()
    await expect(part(page, "AAPL", "last")).to_have_text("1.10")
    await page.reload()
    await expect(part(page, "AAPL", "last")).to_have_text("1.10")
    assert "good" not in page.url


async def test_a_token_in_the_address_is_taken_and_taken_out(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.token = "good"
    page = await browser_page.blank()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))

    await page.goto(f"{edge.url}#token=good")

    await is_live(page)
    assert page.url == edge.url
    assert not [url for url in asked if "good" in url.partition("#")[0]]
    await expect(page.get_by_test_id("token-form")).to_be_hidden()


async def test_what_a_token_does_not_allow_is_told_where_it_is_missed(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.denied = {"news", "status"}
    page = await on_a_clock_of_its_own(edge, browser_page)

    await expect(page.get_by_text("Your token does not allow news.")).to_be_visible()
    note = page.get_by_test_id("feeds-note")
    await expect(note).to_contain_text("your token does not allow it")
    # To ask again and again would end the connection.
    await page.clock.run_for(15_000)
    assert [r["id"] for r in edge.requests] == ["prices", "news", "status"]


async def test_the_state_of_feeds_and_links_is_told(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    link: dict[str, Any] = {
        "state": "live",
        "since": seconds_ago(600),
        "last_message_at": seconds_ago(70),
        "reconnects": 1,
        "reason": None,
        "desired": 10,
        "confirmed": 9,
    }
    down = {**link, "state": "down", "reason": "closed by the peer"}
    await edge.status("fmp", state="down", links={"stocks": link, "crypto": down})
    await edge.status("ls")
    page = await browser_page(edge.url)

    await expect(page.get_by_test_id("feed-fmp")).to_contain_text("down")
    await expect(page.get_by_test_id("feed-ls")).to_contain_text("unknown")
    stocks = page.get_by_test_id("link-stocks")
    await expect(stocks).to_contain_text("live")
    await expect(stocks).to_contain_text("9 of 10 subscribed · 1 min ago · 1 reconnect")
    await expect(page.get_by_test_id("link-crypto")).to_contain_text(
        "closed by the peer"
    )
    await edge.status("fmp", state="live", links={"stocks": link})
    await expect(page.get_by_test_id("link-crypto")).to_have_count(0)


async def test_gaps_of_a_feed_are_told_while_they_last_and_when_they_end(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.status("ls", state="down")
    await edge.feed_gap("old", "2026-01-05T01:03:03Z", reason="closed_1000")
    page = await browser_page(edge.url)
    lines = page.get_by_test_id("feed-gap")
    await expect(lines).to_have_text(
        "news: what came between 2026-01-05 10:01 and 2026-01-05 10:03 KST may be"
        " missing (the feed closed the connection)"
    )
    note = page.get_by_test_id("gap-news")
    await expect(note).to_have_count(0)

    started = datetime.now(UTC).isoformat()
    await edge.feed_gap("new", None, **{"from": started})
    await expect(note).to_have_text(
        re.compile(
            r"News since [\d:]+ KST may be missing"
            r" \(the connection to the feed was lost\)\."
        )
    )
    await expect(page.get_by_test_id("gap-line")).to_have_count(1)
    await expect(lines.first).to_have_attribute("data-state", "open")
    # While nobody was connected it ended.
    await edge.stop()
    ended = datetime.now(UTC).isoformat()
    await edge.feed_gap("new", ended, **{"from": started})
    await edge.start()

    await expect(note).to_have_text(re.compile("News (between|around)"))
    await expect(page.get_by_test_id("gap-line")).to_have_count(1)
    await expect(lines.first).to_have_attribute("data-state", "ended")
    await expect(lines).to_have_count(2)


async def test_everything_can_be_done_with_the_keyboard(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.append(news_item("1", "one"))
    edge.news.append(news_item("2", "two", news_type="disclosure", stocks=[]))
    page = await browser_page(edge.url)
    await expect(titles(page)).to_have_count(2)
    press = page.keyboard.press

    await press("/")
    await expect(page.get_by_test_id("symbol-input")).to_be_focused()
    await page.keyboard.type("tsla")
    await press("Enter")
    await expect(row(page, "TSLA")).to_be_visible()
    await press("Tab")
    await press("Tab")
    await expect(row(page, "AAPL").get_by_test_id("remove")).to_be_focused()
    await press("Enter")
    await expect(row(page, "AAPL")).to_have_count(0)
    await expect(row(page, "MSFT").get_by_test_id("remove")).to_be_focused()

    await press("n")
    await expect(page.get_by_test_id("news-query")).to_be_focused()
    await page.keyboard.type("n")
    await press("Tab")
    await press("ArrowRight")
    await press("ArrowRight")
    await expect(page.get_by_test_id("news-type-disclosure")).to_be_checked()
    await expect(page.get_by_text("No news matches this filter.")).to_be_visible()
    await press("ArrowLeft")
    await expect(titles(page)).to_have_text(["one"])
    await press("Tab")
    await expect(page.get_by_test_id("news-stock")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "2px" in outline
    await press("Tab")
    await press("Enter")
    await expect(row(page, "011810")).to_be_visible()


async def test_nothing_is_wider_than_the_screen(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price(
        "BTCUSD",
        last_price="1234567.00001234",
        last_size="12345.00001234",
        bid_price="1234567.00001234",
        bid_size="12345.00001234",
        ask_price="1234567.00001234",
        ask_size="12345.00001234",
        timestamp=now_ms(),
    )
    long = {"code": "0" * 30, "name": "긴이름" * 20}
    edge.news.append(news_item("1", "W" * 300, provider="P" * 100, stocks=[long] * 9))
    link = {
        "state": "connecting",
        "desired": 1000,
        "confirmed": 1000,
        "reason": "W" * 99,
    }
    await edge.status("fmp", links={"stocks": link})
    page = await browser_page(edge.url)
    await add(page, "W" * 20)
    await expect(part(page, "BTCUSD", "last")).to_have_text("1234567.00001234")
    await expect(titles(page)).to_have_count(1)
    await expect(page.get_by_test_id("link-stocks")).to_be_visible()
    await edge.feed_gap("1", None, feed="fmp", reason="W" * 99)
    await edge.say(type="gap", channel="prices", reason="W" * 99)
    await expect(page.get_by_test_id("gap-prices")).to_be_visible()

    for width in (360, 412, 640, 768, 1024, 1280, 1920):
        await page.set_viewport_size({"width": width, "height": 780})

        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await page.evaluate(_TOO_WIDE) == []


_TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((element) => !element.closest(".unseen, .skip"))
  .filter((element) => element.checkVisibility())
  .filter((element) => !element.closest("thead, .stock-filter > *"))
  .filter((element) => {
    const box = element.getBoundingClientRect();
    const panel = element.closest(".panel")?.getBoundingClientRect();
    return box.right > Math.min(innerWidth, panel?.right ?? innerWidth) + 1;
  })
  .map((element) => element.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_texts_have_enough_contrast(
    edge: StubEdge, browser_page: BrowserPages, scheme: str
) -> None:
    await edge.price("AAPL", last_price="1.10", timestamp=now_ms())
    await edge.price("MSFT", last_price="1.10")
    edge.news.append(news_item("1", "one", news_type="disclosure"))
    edge.news.append(news_item("2", "one", repeat_of="1"))
    link = {"state": "connecting", "reason": "why"}
    await edge.status("fmp", state="down", links={"stocks": link})
    page = await browser_page(edge.url, color_scheme=scheme, reduced_motion="reduce")
    await expect(titles(page)).to_have_count(1)
    await edge.price("AAPL", last_price="1.20", timestamp=now_ms())
    await expect(row(page, "AAPL")).to_have_attribute("data-direction", "up")
    await add(page, "foo$")
    await expect(page.get_by_test_id("symbol-error")).not_to_be_empty()
    await edge.feed_gap("1", None, feed="fmp")
    await edge.feed_gap("2", "2026-01-05T01:03:03Z", feed="fmp")
    await edge.say(type="gap", channel="prices", reason="slow_client")
    await expect(page.get_by_test_id("gap-prices")).to_be_visible()
    await edge.hang_up(4001)
    await expect(page.get_by_test_id("token-error")).to_be_visible()
    assert await page.evaluate(_LOW_CONTRAST) == []
    await page.get_by_test_id("token").fill("x")
    await page.keyboard.press("Enter")
    await is_live(page)
    await edge.stop()
    await expect(page.get_by_test_id("banner")).to_be_visible()

    assert await page.evaluate(_LOW_CONTRAST) == []


_LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {
    willReadFrequently: true,
  });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 200) return color;
    }
    return [255, 255, 255];
  };
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest(".unseen, script, noscript"))
      continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const [a, b] = [rgba(getComputedStyle(element).color), ground(element)].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) low.push([walker.currentNode.data, contrast]);
  }
  return low;
}"""


async def test_the_theme_follows_the_system_until_the_reader_chooses(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = await browser_page(edge.url, color_scheme="dark")
    dark = await page.evaluate(ground)
    await page.emulate_media(color_scheme="light")
    light = await page.evaluate(ground)
    assert dark != light

    await page.get_by_role("button", name="Switch to the dark theme").click()
    assert await page.evaluate(ground) == dark
    await page.reload()
    await expect(page.get_by_test_id("theme")).to_have_accessible_name(
        "Switch to the light theme"
    )
    assert await page.evaluate(ground) == dark


async def test_nothing_flashes_for_those_who_want_calm(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    await edge.price("AAPL", last_price="1.10")
    page = await browser_page(edge.url, reduced_motion="reduce")
    await expect(part(page, "AAPL", "last")).to_have_text("1.10")

    await edge.price("AAPL", last_price="1.20")

    await expect(row(page, "AAPL")).to_have_attribute("data-direction", "up")
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_every_control_has_a_name(
    edge: StubEdge, browser_page: BrowserPages
) -> None:
    edge.news.append(news_item("1", "one"))
    page = await browser_page(edge.url)
    await expect(titles(page)).to_have_count(1)

    controls = page.locator("button:visible, input:visible, a:visible")
    for control in await controls.all():
        await expect(control).to_have_accessible_name(re.compile("."))
