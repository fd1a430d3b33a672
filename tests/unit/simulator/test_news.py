"""News items, and when they come, without any socket."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from datetime import datetime

import pytest

from simulator.clock import KST
from simulator.ls_frames import NEWS_VARIANTS, news_text
from simulator.ls_rest import cut_cp949, fixed_cp949
from simulator.news import NewsDesk, gaps, per_minute
from simulator.universe import companies


NOW = datetime(2026, 11, 20, 10, 30, 0, tzinfo=KST)


def test_items_are_the_same_for_the_same_seed() -> None:
    one, two, other = NewsDesk(3), NewsDesk(3), NewsDesk(4)
    items = [one.write(NOW) for _ in range(200)]

    assert items == [two.write(NOW) for _ in range(200)]
    assert items != [other.write(NOW) for _ in range(200)]


def test_items_are_believable() -> None:
    desk = NewsDesk(1)
    items = [desk.write(NOW) for _ in range(5_000)]
    codes = [item.code for item in items]

    assert all(re.fullmatch("[0-9A-Z]{24}", item.realkey) for item in items)
    assert len({item.realkey for item in items}) == len(items)
    assert any(not item.realkey.isdigit() for item in items)
    assert all(item.realkey[14:16] == item.provider for item in items)
    assert all(len(item.title) <= 300 and len(item.code) <= 240 for item in items)
    assert Counter(item.provider for item in items).most_common(1)[0][0] == "15"
    assert "" in codes
    assert any(len(code) > 24 for code in codes)
    assert any(not code.isdigit() for code in codes if code)
    assert any("<b>" in item.title for item in items)
    assert any("&amp;" in item.title for item in items)
    titles = Counter(item.title for item in items if item.code)
    assert titles.most_common(1)[0][1] > 1


def test_titles_come_again_under_a_new_key() -> None:
    desk = NewsDesk(1)
    items = [desk.write(NOW) for _ in range(500)]
    again = [
        (one, two)
        for one, two in itertools.combinations(items[:200], 2)
        if one.title == two.title and one.code == two.code and one.code
    ]

    assert again
    assert all(one.realkey != two.realkey for one, two in again)


def test_codes_are_left_padded_to_twelve() -> None:
    desk = NewsDesk(1)
    known = {company.code for company in companies()}

    for item in (desk.write(NOW) for _ in range(2_000)):
        units = [item.code[i : i + 12] for i in range(0, len(item.code), 12)]
        assert all(unit[:6] == "000000" and unit[6:] in known for unit in units)


def test_realistic_news_comes_in_bursts_and_silences() -> None:
    pauses = list(itertools.islice(gaps(1, per_minute("realistic")), 20_000))
    times = list(itertools.accumulate(pauses))
    counts = Counter(int(time) for time in times)

    assert 60 / statistics.mean(pauses) == pytest.approx(7.5, rel=0.1)
    assert max(pauses) > 90
    assert max(counts.values()) >= 10


@pytest.mark.parametrize("mean", [1.0, 60.0, 600.0, 6_000.0])
def test_another_mean_is_met(mean: float) -> None:
    pauses = list(itertools.islice(gaps(1, mean), 20_000))

    assert 60 / statistics.mean(pauses) == pytest.approx(mean, rel=0.4)


@pytest.mark.parametrize("setting", ["-1", "often", "inf", "nan"])
def test_refuses_a_rate_that_is_none(setting: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        per_minute(setting)


@pytest.mark.parametrize("variant", NEWS_VARIANTS)
def test_every_variant_differs_from_the_plain_frame(variant: str) -> None:
    item = NewsDesk(1).write(NOW)

    text = news_text(item, variant)

    # Two variants concern the number of frames and the clock, not the frame.
    same = variant in ("same_realkey", "date_yesterday")
    if variant not in ("code_empty",):
        assert (text == news_text(item)) is same


def test_a_name_field_is_cut_in_bytes() -> None:
    long = fixed_cp949("TIGER 엔비디아미국채커버드콜밸런스(합성)", 20)
    short = fixed_cp949("동화약품", 20)

    assert short == "동화약품" + " " * 12
    assert long.startswith("TIGER 엔비디아미국채")
    assert len(long.encode("cp949", "replace")) <= 21


def test_a_name_may_be_cut_inside_a_character() -> None:
    assert "\ufffd" in fixed_cp949("A" + "가" * 12, 20)


def test_body_chunks_are_damaged_at_their_edges_only() -> None:
    text = "a" + "가나다라마바사" * 60

    damaged, clean = cut_cp949(text), cut_cp949(text, damaged=False)

    assert "".join(clean) == text
    assert any(chunk.endswith("？") for chunk in damaged)
    assert all("？" not in chunk[1:-1] for chunk in damaged)
    assert all(len(chunk.encode("cp949")) <= 102 for chunk in damaged)
