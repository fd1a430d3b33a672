"""What frames of LS mean, bad ones included."""

from __future__ import annotations

import json
import sys
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedmesh.errors import FrameError
from feedmesh.news import Stock
from ingest_ls.korea import KST, in_kst, next_time_of_day, parse_codes, stamp_ns
from ingest_ls.master import Company, Master
from ingest_ls.normalize import News, Rejected, Trade, normalize
from ingest_ls.repeats import Repeats, SeenIds
from ingest_ls.trades import Trades


RECEIVED = int(datetime(2026, 7, 15, 0, 1, 40, tzinfo=UTC).timestamp()) * 10**9
MASTER = Master()
MASTER.replace(
    {"005930": Company("삼성전자", "KOSPI"), "011810": Company("STX", "KOSPI")}
)
OFFICIAL = (
    '{"header":{"tr_cd":"NWS","tr_key":"NWS001"},"body":{"date":"20230614",'
    '"code":"000000011810","realkey":"202306140952172704000165","bodysize":"4841",'
    '"time":"095217","id":"27",'
    '"title":"STX, ‘2차전지 핵심’ 수산화리튬 사업 박차…中 영정리튬과 MOU"}}'
)
OFFICIAL_TRADE = (
    '{"header":{"tr_cd":"S3_","tr_key":"005930"},"body":{"mdchecnt":"23","sign":"2",'
    '"mschecnt":"96","mdvolume":"946","w_avrg":"55448","cpower":"332.56",'
    '"offerho":"55600","cvolume":"1","high":"55800","bidho":"55500","low":"55500",'
    '"price":"55550","cgubun":"+","value":"604","change":"1050","shcode":"005930",'
    '"chetime":"090140","opentime":"090030","lowtime":"090030","volume":"10887",'
    '"drate":"1.93","hightime":"090504","jnilvolume":"2508350","msvolume":"3146",'
    '"exchname":"KRX","open":"55600","status":"00"}}'
)


def read(frame: str | bytes) -> list[News | Trade | Rejected]:
    data = frame.encode() if isinstance(frame, str) else frame
    return normalize(data, RECEIVED, MASTER)


def news(**fields: Any) -> News:
    (item,) = read(news_frame(**fields))
    assert isinstance(item, News), item
    return item


def news_frame(**fields: Any) -> str:
    body = {
        "date": "20260715",
        "time": "090130",
        "id": "23",
        "realkey": "202607150901300100000003",
        "title": "제목",
        "code": "",
        "bodysize": "1",
    }
    header = {"tr_cd": "NWS", "tr_key": "NWS001"}
    return json.dumps({"header": header, "body": body | fields}, ensure_ascii=False)


def trade(**fields: Any) -> Trade | Rejected | News:
    frame = json.loads(OFFICIAL_TRADE)
    frame["body"] |= fields
    (found,) = read(json.dumps(frame))
    return found


def test_the_official_news_frame_field_by_field() -> None:
    (found,) = read(OFFICIAL)
    assert isinstance(found, News)
    item = found.item

    assert item.title == "STX, ‘2차전지 핵심’ 수산화리튬 사업 박차…中 영정리튬과 MOU"
    assert (item.date, item.time, item.id) == ("20230614", "095217", "27")
    assert (item.bodysize, item.code) == ("4841", "000000011810")
    assert item.realkey == "202306140952172704000165"
    assert (item.provider, item.news_type) == ("헤럴드경제", "article")
    assert item.stocks == (Stock("011810", "STX"),)
    assert item.published_at == "2023-06-14T09:52:17+09:00"
    assert item.received_at == "2026-07-15T00:01:40.000000Z"
    assert found.flags == ()


def test_the_official_trade_field_by_field() -> None:
    (found,) = read(OFFICIAL_TRADE)

    assert found == Trade(
        code="005930",
        event_ns=RECEIVED,
        price="55550",
        size="1",
        ask="55600",
        bid="55500",
        volume=10887,
        flags=(),
    )


def test_disclosures_have_a_type_of_their_own() -> None:
    assert news(id="15").item.news_type == "disclosure"
    assert news(id="15").item.provider == "공시"


def test_unknown_providers_are_kept_without_a_name() -> None:
    assert news(id="X9").item.id == "X9"
    assert news(id="X9").item.provider is None


def test_fields_that_we_do_not_know_are_kept_beside() -> None:
    found = news(categoryid="99", codeaccu="C", frame={"a": 1})

    assert found.extra == (
        ("categoryid", '"99"'),
        ("codeaccu", '"C"'),
        ("frame", '{"a": "1"}'),
    )


@pytest.mark.parametrize(
    ("text", "codes", "odd"),
    [
        ("", (), False),
        ("000000011810", ("011810",), False),
        ("000000005930000000000660", ("005930", "000660"), False),
        ("0000000017J0", ("0017J0",), False),
        ("005930000660005930", ("005930", "000660"), False),
        ("005930", ("005930",), False),
        ("000000000000", (), False),
        ("000000      ", (), False),
        ("00000001181", (), True),
        ("0059301", ("005930",), True),
        ("00000*005930", ("005930",), False),
        ("".join(f"000000{n:06}" for n in range(1, 26)), None, True),
    ],
)
def test_codes_are_read_in_steps_of_six(
    text: str, codes: tuple[str, ...] | None, odd: bool
) -> None:
    found = parse_codes(text)

    assert found.odd is odd
    if codes is not None:
        assert found.codes == codes
    assert len(found.codes) <= 20


def test_a_code_that_the_master_lacks_is_kept_without_a_name() -> None:
    assert news(code="0000000017J0").item.stocks == (Stock("0017J0", None),)


def test_markup_is_text() -> None:
    title = "<script>alert(1)</script> &amp; <b>굵게</b>"

    assert news(title=title).item.title == title


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"date": "20261332"}, "bad_time"),
        ({"time": "256199"}, "bad_time"),
        ({"date": None, "time": None}, "bad_time"),
        ({"date": "00010101", "time": "000000"}, "bad_time"),
        ({"date": "19691231", "time": "235959"}, "bad_time"),
        ({"time": "090200"}, "ahead"),
        ({"realkey": ""}, "no_realkey"),
        ({"title": ""}, "no_title"),
        ({"title": None}, "no_title"),
        ({"title": "가" * 5000}, "title_cut"),
        ({"code": "12345"}, "odd_code"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_odd_is_kept_with_a_flag(fields: dict[str, Any], flag: str) -> None:
    assert flag in news(**fields).flags


def test_yesterdays_date_is_no_problem() -> None:
    assert news(date="20260714").flags == ()


def test_the_same_content_has_the_same_id_and_other_content_another() -> None:
    assert news().id == news(categoryid="1").id
    assert news().id != news(title="other").id
    assert news().id.startswith("202607150901300100000003-")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{}{}", "not_json"),
        (b'"text"', "not_an_object"),
        (b"1", "not_an_object"),
        (b"null", "not_an_object"),
        (b"true", "not_an_object"),
        (b"\x00\x01", "not_json"),
        (OFFICIAL.encode("cp949", errors="replace"), "not_utf8"),
        (b'{"header":{"tr_cd":"NWS"},"body":{"title":"\\ud800"}}', "lone_surrogate"),
        (b'{"header":{"tr_cd":"NWS"},"body":{"title":NaN}}', "not_json"),
        (b"[" * 100_000, "not_json"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_frame_at_all_is_quarantined(frame: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as raised:
        read(frame)

    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ('{"header":{"tr_cd":"NWS"},"body":null}', "no_body"),
        ('{"header":{"tr_cd":"NWS"}}', "no_body"),
        ('{"header":{"tr_cd":"NWS"},"body":7}', "bad_body"),
        ('{"header":null,"body":{}}', "no_header"),
        ('{"header":{"tr_cd":null},"body":{}}', "no_header"),
        ("{}", "no_header"),
        ('{"header":{"tr_cd":"H1_"},"body":{"shcode":"005930"}}', "unsubscribed"),
        ('{"header":{"tr_cd":"JIF"},"body":{"jstatus":"21"}}', "unsubscribed"),
        (news_frame(title={"a": 1}), "bad_field"),
        (news_frame(realkey=["x"]), "bad_field"),
        ("[7]", "not_an_object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_taken_is_rejected(frame: str, reason: str) -> None:
    assert read(frame) == [Rejected(reason)]


def test_a_bad_frame_in_an_array_hurts_no_other() -> None:
    found = read(f"[{OFFICIAL},7,{OFFICIAL_TRADE}]")

    assert [type(part) for part in found] == [News, Rejected, Trade]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"price": "0"}, "bad_price"),
        ({"price": "-5"}, "bad_price"),
        ({"price": ""}, "bad_price"),
        ({"price": "x"}, "bad_price"),
        ({"price": "1e999"}, "bad_price"),
        ({"price": "1e-999"}, "bad_price"),
        ({"volume": "1e999999"}, "bad_field"),
        ({"cvolume": "-1"}, "bad_size"),
        ({"cvolume": "x"}, "bad_field"),
        ({"shcode": "*"}, "bad_symbol"),
        ({"shcode": "9" * 10_000}, "bad_symbol"),
        ({"shcode": ""}, "bad_symbol"),
        ({"price": {}}, "bad_field"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_trade_is_rejected(fields: dict[str, Any], reason: str) -> None:
    assert trade(**fields) == Rejected(reason)


def test_blanks_and_zeros_are_no_quotes() -> None:
    found = trade(offerho="0", bidho=" ", volume=" ")
    assert isinstance(found, Trade)

    assert (found.ask, found.bid, found.volume) == (None, None, None)


def test_a_unified_code_is_the_code() -> None:
    found = trade(shcode="U005930   ")
    assert isinstance(found, Trade)

    assert found.code == "005930"


def test_what_can_just_be_read_is_taken_or_rejected() -> None:
    """Between what is too deep to be read and what is not lies what cannot be kept."""
    found = set()
    for depth in range(1, sys.getrecursionlimit()):
        deep = f'"new": {"[" * depth}{"]" * depth}'
        frame = news_frame().replace('"title"', f'{deep}, "title"')
        try:
            (part,) = read(frame)
        except FrameError:
            break
        found.add(type(part))

    assert News in found
    assert found <= {News, Rejected}


def test_a_time_in_the_future_was_yesterday() -> None:
    late = trade(chetime="235959")
    near = trade(chetime="090600")
    assert isinstance(late, Trade)
    assert isinstance(near, Trade)

    assert in_kst(late.event_ns).isoformat() == "2026-07-14T23:59:59+09:00"
    assert in_kst(near.event_ns).isoformat() == "2026-07-15T09:06:00+09:00"


@given(st.binary())
def test_any_bytes_are_understood_or_a_frame_error(frame: bytes) -> None:
    try:
        found = read(frame)
    except FrameError:
        return
    assert all(isinstance(part, News | Trade | Rejected) for part in found)


@given(
    st.dictionaries(
        st.sampled_from(["date", "time", "id", "realkey", "title", "code", "x"]),
        st.none() | st.text() | st.integers() | st.lists(st.text(), max_size=2),
    )
)
def test_any_body_is_an_item_or_rejected(body: dict[str, Any]) -> None:
    frame = {"header": {"tr_cd": "NWS"}, "body": body}
    try:
        (found,) = read(json.dumps(frame))
    except FrameError:
        return
    assert isinstance(found, News | Rejected)


def test_a_stamp_is_korean_time() -> None:
    assert stamp_ns("20230614", "095217") == 1686703937 * 10**9
    assert stamp_ns("2023061", "4095217") is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-07-15T06:59:59", "2026-07-15T07:00:00"),
        ("2026-07-15T07:00:00", "2026-07-16T07:00:00"),
        ("2026-07-15T23:59:00", "2026-07-16T07:00:00"),
        ("2026-07-15T00:00:00", "2026-07-15T07:00:00"),
    ],
)
def test_the_next_seven_in_the_morning(now: str, expected: str) -> None:
    moment = next_time_of_day(
        datetime.fromisoformat(now).replace(tzinfo=KST),
        datetime.fromisoformat("2000-01-01T07:00:00").time(),
    )

    assert moment == datetime.fromisoformat(expected).replace(tzinfo=KST)


def test_a_repeat_names_the_first_item_of_its_day() -> None:
    repeats = Repeats()

    assert repeats.first_of("<b>삼성</b> 급등", "20260715", "a") is None
    assert repeats.first_of("삼성  급등", "20260715", "b") == "a"
    assert repeats.first_of("삼성 급등", "20260716", "c") is None
    assert repeats.first_of("삼성 급등", "20260715", "a") is None
    assert repeats.first_of("", "20260715", "d") is None
    assert repeats.first_of("", "20260715", "e") is None


def test_what_is_remembered_of_news_is_bounded() -> None:
    repeats, seen = Repeats(capacity=10), SeenIds(capacity=10)
    for number in range(100):
        repeats.first_of(str(number), "20260715", str(number))
        seen.add(str(number), str(number))

    assert repeats.first_of("95", "20260715", "x") == "95"
    assert repeats.first_of("5", "20260715", "x") is None
    assert seen.add("99", "99") == (True, False)
    assert seen.add("other", "99") == (False, True)
    assert seen.add("0", "0") == (False, False)


def test_what_is_remembered_takes_no_more_memory_once_it_is_full() -> None:
    repeats, seen = Repeats(capacity=2000), SeenIds(capacity=2000)

    def note(numbers: range) -> None:
        for number in numbers:
            repeats.first_of(f"{number:020}", "20260715", f"{number:020}")
            seen.add(f"{number:020}a", f"{number:020}")

    tracemalloc.start()
    try:
        note(range(2200))
        full, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        note(range(2200, 20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak <= 1.1 * full


def test_trades_of_one_second_are_ordered_by_their_volume() -> None:
    trades = Trades()
    first, second = trade(volume="10"), trade(volume="20", price="60000")
    assert isinstance(first, Trade)
    assert isinstance(second, Trade)

    assert trades.take(second) == (second, ())
    assert trades.take(second) is None
    assert trades.take(first) == (second, ("late",))


def test_a_master_that_has_shrunk_is_refused() -> None:
    master = Master()
    companies = {f"{n:06}": Company("x", "KOSPI") for n in range(10)}
    assert master.replace(companies)

    assert not master.replace(dict(list(companies.items())[:4]))
    assert not master.replace({})
    assert len(master) == 10
