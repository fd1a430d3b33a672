"""The WebSocket frames of LS Securities: acknowledgements, news and equities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from simulator.news import NewsItem
from simulator.universe import companies_by_code
from simulator.wire import compact


ACCEPTED = "00000"
_MESSAGES = {
    ACCEPTED: "정상처리되었습니다",
    # The texts of the rejects are not public; these are invented.
    "IGW00121": "유효하지 않은 token 입니다.",
    "IGW00123": "기간이 만료된 token 입니다.",
    "10001": "계좌 구분이 서버와 맞지 않습니다.",
    "10009": "종목코드가 올바르지 않습니다.",
}
_KOSPI_TRS = frozenset({"S3_", "H1_"})
_KOSDAQ_TRS = frozenset({"K3_", "HA_"})
_PLAIN_TRS = _KOSPI_TRS | _KOSDAQ_TRS | {"VI_"}
_UNIFIED_TRS = {"US3": "U", "UH1": "U", "NS3": "N"}
_OVERSEAS_TRS = frozenset({"GSC", "GSH"})
EQUITY_TRS = _PLAIN_TRS | frozenset(_UNIFIED_TRS) | _OVERSEAS_TRS


def data_text(tr_cd: str, tr_key: str, body: object) -> str:
    """Return a data frame."""
    return compact({"header": {"tr_cd": tr_cd, "tr_key": tr_key}, "body": body})


def message_text(code: str) -> str:
    """Return the text that goes with a result *code*."""
    return _MESSAGES.get(code, "처리할 수 없습니다.")


def ack_text(
    code: str,
    message: str,
    tr_cd: str | None,
    tr_type: str,
    variant: str = "normal",
    tr_key: str | None = None,
) -> str:
    """Return an acknowledgement in one of the shapes that clients have met."""
    header: dict[str, object] = {"rsp_cd": code, "rsp_msg": message}
    match variant:
        case "null_tr_cd":
            return compact({"header": {"tr_cd": None, **header}})
        case "with_tr_key":
            head = {"tr_cd": tr_cd, "tr_key": tr_key, "tr_type": tr_type}
            return compact({"header": {**head, **header}})
        case "no_body":
            return compact({"header": {**header, "tr_cd": tr_cd, "tr_type": tr_type}})
        case _:
            header |= {"tr_cd": tr_cd, "tr_type": tr_type}
            return compact({"header": header, "body": None})


def split_key(tr_cd: str, tr_key: str) -> tuple[str, ...]:
    """
    Return the keys under which data will come; none means silence for ever.

    LS Open API portal: plain codes of 6 may be concatenated; unified keys are padded
    to 10 and overseas keys to 18. What is not padded is acknowledged and never served.
    """
    if tr_cd in _PLAIN_TRS:
        codes = [tr_key[i : i + 6] for i in range(0, len(tr_key), 6)]
        return tuple(dict.fromkeys(code for code in codes if _listed(tr_cd, code)))
    if tr_cd in _UNIFIED_TRS:
        padded = len(tr_key) == 10 and tr_key[0] == _UNIFIED_TRS[tr_cd]
        known = tr_key[1:7] in companies_by_code() and tr_key.endswith("   ")
        return (tr_key,) if padded and known else ()
    if tr_cd in _OVERSEAS_TRS:
        padded = len(tr_key) == 18 and tr_key[:2] in ("81", "82")
        return (tr_key,) if padded and tr_key[2:].strip() else ()
    if (tr_cd, tr_key) in {("NWS", "NWS001"), ("JIF", "0")}:
        return (tr_key,)
    return ()


def _listed(tr_cd: str, code: str) -> bool:
    if tr_cd == "VI_" and code == "000000":
        return True
    company = companies_by_code().get(code)
    if company is None:
        return False
    if tr_cd in _KOSPI_TRS:
        return company.market == "1"
    return tr_cd == "VI_" or company.market == "2"


def news_text(item: NewsItem, variant: str | None = None) -> str:
    """Return the NWS frame of *item*, bent by a *variant* of a fault."""
    body = item.body()
    if variant == "body_null":
        return data_text("NWS", "NWS001", None)
    if variant == "body_missing":
        return compact({"header": {"tr_cd": "NWS", "tr_key": "NWS001"}})
    if variant is not None:
        NEWS_VARIANTS[variant](body)
    return data_text("NWS", "NWS001", body)


def _set(**values: object) -> Callable[[dict[str, object]], None]:
    return lambda body: body.update(values)


def _without(*names: str) -> Callable[[dict[str, object]], None]:
    def remove(body: dict[str, object]) -> None:
        for name in names:
            body.pop(name, None)

    return remove


def _nothing(body: dict[str, object]) -> None:
    """Leave the body alone: the variant is about the whole frame."""


_TWENTY = "".join(code.rjust(12, "0") for code in list(companies_by_code())[:20])
NEWS_VARIANTS: Mapping[str, Callable[[dict[str, object]], None]] = {
    "body_null": _nothing,
    "body_missing": _nothing,
    "same_realkey": _nothing,
    "no_category": _without("categoryid", "codeaccu"),
    "no_bodysize": _without("bodysize"),
    "no_title": _without("title"),
    "no_realkey": _without("realkey"),
    "no_code": _without("code"),
    "no_date": _without("date", "time"),
    "null_fields": _set(code=None, bodysize=None, categoryid=None, codeaccu=None),
    "null_title": _set(title=None),
    "unknown_fields": _set(newfield="x", nested={"a": [1, 2]}),
    "wrong_types": _set(bodysize=4841, id=27, code=["005930"]),
    "title_300": _set(title="가" * 300),
    "title_5000": _set(title="긴 제목 " * 1000),
    "title_empty": _set(title=""),
    "title_control": _set(title="제어\u0000문자\u0007\u001b[31m\t제목\r\n둘째 줄"),
    "title_html": _set(title="<b>굵은</b> <script>alert(1)</script> &amp; &lt;꺾쇠"),
    "provider_unknown": _set(id="88"),
    "provider_letters": _set(id="AB"),
    "code_empty": _set(code=""),
    "code_12": _set(code="000000005930"),
    "code_multi": _set(code="000000005930000000000660"),
    "code_20": _set(code=_TWENTY),
    "code_bare": _set(code="005930000660005930"),
    "code_zeros": _set(code="000000000000000000005930000000"),
    "code_alphanumeric": _set(code="0000000017J0"),
    "code_unlisted": _set(code="000000999999"),
    "code_odd": _set(code="00000000593"),
    "date_invalid": _set(date="20261341", time="256199"),
    "date_text": _set(date="today", time=""),
    "date_yesterday": _nothing,
}


def shift(item: NewsItem, seconds: float, now: Any) -> NewsItem:
    """Return *item* with its provider's clock off by *seconds* from *now*."""
    moment = now + timedelta(seconds=seconds)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    key = f"{date}{time}{item.realkey[14:]}"
    return NewsItem(**{**vars(item), "date": date, "time": time, "realkey": key})


# jangubun and jstatus of one ordinary day and of a bad one, in order.
# LS Open API portal, the tables of JIF: futures ("5") reuse the codes 61 to 77.
JIF_DAY: tuple[tuple[str, str], ...] = (
    ("6", "A5"), ("6", "A4"), ("6", "A3"), ("6", "A2"), ("6", "55"),
    ("1", "11"), ("2", "11"), ("6", "C4"), ("6", "C3"), ("6", "C2"), ("6", "57"),
    ("1", "25"), ("2", "25"), ("1", "24"), ("2", "24"), ("1", "23"), ("2", "23"),
    ("1", "22"), ("2", "22"), ("1", "21"), ("2", "21"), ("5", "21"), ("6", "21"),
    ("1", "64"), ("1", "65"), ("2", "66"), ("2", "67"),
    ("1", "61"), ("1", "62"), ("1", "63"), ("1", "68"), ("1", "70"), ("1", "71"),
    ("5", "61"), ("5", "62"), ("5", "63"), ("5", "70"), ("5", "71"), ("5", "72"),
    ("5", "73"), ("5", "74"), ("5", "75"), ("5", "76"), ("5", "77"), ("2", "69"),
    ("E", "21"), ("A", "21"), ("C", "21"), ("A", "41"), ("C", "41"), ("E", "41"),
    ("F", "21"), ("B", "21"), ("D", "21"), ("F", "41"), ("B", "41"), ("D", "41"),
    ("1", "44"), ("1", "43"), ("1", "31"), ("2", "31"), ("1", "42"),
    ("1", "41"), ("2", "41"), ("5", "41"), ("1", "51"), ("2", "51"),
    ("6", "B5"), ("6", "B4"), ("6", "B3"), ("6", "B2"), ("6", "56"),
    ("1", "52"), ("2", "52"), ("1", "54"), ("2", "54"), ("8", "21"),
    ("6", "D4"), ("6", "D3"), ("6", "D2"), ("6", "58"), ("9", "21"), ("9", "41"),
    ("8", "41"),
)  # fmt: skip
