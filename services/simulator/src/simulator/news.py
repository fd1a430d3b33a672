"""
News titles that could be real: who says what about whom, and when.

LS Open API portal and its public clients: a mixed firehose of 7 to 8 items a minute,
90 seconds of silence and then ten within one second; the same title comes again under a
new `realkey`; most general items name no company.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulator.universe import Company, companies


DISCLOSURES = "15"
REALISTIC_PER_MINUTE = 7.5
_STRESS_PER_MINUTE = 120_000.0
_PROVIDERS = {
    "15": 26, "11": 9, "14": 9, "20": 8, "21": 5, "22": 1, "23": 6, "24": 7,
    "25": 7, "26": 7, "27": 3, "28": 4, "29": 1, "30": 5, "31": 3, "32": 3,
    "33": 2, "34": 4, "35": 4, "36": 1, "37": 2,
}  # fmt: skip
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_REPEAT_SHARE = 0.06
_DISCLOSURE_TITLES = (
    "{a}, 단일판매·공급계약 체결",
    "{a}, 분기보고서 제출",
    "[공시]{a}, 최대주주 등 소유주식 변동신고서",
    "[공시]{a}, 현금·현물배당 결정",
    "{a}, 자기주식 취득 결정",
    "{a}, 주식등의 대량보유상황보고서",
    "{a}, 임원ㆍ주요주주 특정증권등 소유상황보고서",
    "{a}, 유상증자 결정",
    "{a}, 전환사채권 발행 결정",
    "{a}, 기업설명회(IR) 개최",
    "{a}, <b>지분</b> 변동",
    "{a}, 매출액 또는 손익구조 30% 이상 변동",
)
_COMPANY_TITLES = (
    "{a}, 3분기 영업이익 {n}억…전년比 {p}%↑",
    "{a}, 3분기 영업손실 {n}억…적자 전환",
    "[특징주] {a}, 대규모 수주 소식에 {p}%대 강세",
    "[특징주] {a}, 외국인 매도에 {p}% 약세",
    "{a}, {n}억 규모 공급계약 체결",
    "{a}·{b}, 차세대 소재 공동개발 MOU",
    "증권가 “{a}, 목표주가 {n},000원으로 상향”",
    "{a}, 美 현지 공장 증설 검토…{n}억 투자",
    "‘AI 수혜’ {a}·{b} 나란히 신고가",
    "{a}, 신임 대표이사 내정",
    "[클릭 e종목] “{a}, 실적 바닥 통과…{p}% 상승 여력”",
    "{a} &amp; {b} 전략적 제휴 추진",
    "{a}, 자사주 {n}억원 소각 결정",
    "<b>{a}</b> 상한가 진입",
    "{a} &quot;올해 매출 {n}억 목표&quot;",
)
_GENERAL_TITLES = (
    "코스피, 외국인 매수에 {p}% 상승 출발",
    "코스닥, 기관 매도에 약보합 마감",
    "원·달러 환율, {p}원 내린 1,39{d}원 마감",
    "뉴욕증시, 연준 의사록 앞두고 혼조 마감",
    "국제유가, 중동 긴장에 {p}% 급등",
    "[오늘의 날씨] 전국 대체로 맑음…아침 기온 ‘뚝’",
    "서울 아파트값 {d}주 연속 상승…거래량은 감소",
    "美 10월 소비자물가 2.{d}% 상승…예상 부합",
    "로이터: Oil settles higher on supply worries",
    "비트코인, 9만{d}천달러 돌파…사상 최고가",
    "한은 금통위, 기준금리 동결 전망 우세",
    "[인사] 금융위원회",
    "국고채 금리 일제히 하락…3년물 2.{d}5%",
    "정부, 반도체 특별법 연내 처리 추진",
    "中 인민은행, 대출우대금리 동결",
)


@dataclass(frozen=True)
class NewsItem:
    """One item; its fields are those of the NWS body."""

    date: str
    time: str
    provider: str
    realkey: str
    title: str
    code: str
    bodysize: str
    category: str
    accumulation: str

    def body(self) -> dict[str, object]:
        """Return the body of the NWS frame, in the order of the official sample."""
        return {
            "date": self.date,
            "code": self.code,
            "realkey": self.realkey,
            "bodysize": self.bodysize,
            "time": self.time,
            "id": self.provider,
            "title": self.title,
            "categoryid": self.category,
            "codeaccu": self.accumulation,
        }


class NewsDesk:
    """Writes items; the k-th depends on the seed alone, its times on the clock."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"{seed}/news")
        self._recent: deque[NewsItem] = deque(maxlen=40)
        self._serial = 0

    def write(self, now: datetime) -> NewsItem:
        """Write one item that its provider stamped shortly before *now*."""
        rand = self._random
        stamped = now - timedelta(seconds=rand.choice((0, 1, 3, 8, 12, 19, 30, 45)))
        date, time = stamped.strftime("%Y%m%d"), stamped.strftime("%H%M%S")
        if self._recent and rand.random() < _REPEAT_SHARE:
            old = rand.choice(self._recent)
            key = self._realkey(date, time, old.provider)
            return NewsItem(**{**vars(old), "date": date, "time": time, "realkey": key})
        item = self._compose(date, time)
        self._recent.append(item)
        return item

    def _compose(self, date: str, time: str) -> NewsItem:
        rand = self._random
        provider = rand.choices(list(_PROVIDERS), list(_PROVIDERS.values()))[0]
        title, named = self._headline(provider)
        return NewsItem(
            date=date,
            time=time,
            provider=provider,
            realkey=self._realkey(date, time, provider),
            title=title,
            code="".join(company.code.rjust(12, "0") for company in named),
            bodysize=str(rand.randrange(120, 9000)),
            category="99" if named else rand.choice(("06", "05", "42")),
            accumulation="C" if len(named) > 1 else "",
        )

    def _headline(self, provider: str) -> tuple[str, list[Company]]:
        rand = self._random
        if provider == DISCLOSURES:
            template = rand.choice(_DISCLOSURE_TITLES)
        elif provider == "28" or rand.random() < 0.45:
            template = rand.choice(_GENERAL_TITLES)
        else:
            template = rand.choice(_COMPANY_TITLES)
        first, second = rand.sample(companies(), 2)
        title = template.format(
            a=first.name,
            b=second.name,
            n=rand.randrange(10, 900),
            p=f"{rand.uniform(0.3, 24):.1f}",
            d=rand.randrange(1, 10),
        )
        if "{a}" not in template:
            return title, []
        named = [first, second] if "{b}" in template else [first]
        if len(named) == 2 and rand.random() < 0.15:
            named += rand.sample(companies(), rand.randrange(1, 19))
        return title, named

    def _realkey(self, date: str, time: str, provider: str) -> str:
        self._serial += 1
        if self._random.random() < 0.2:
            serial = "".join(self._random.choices(_LETTERS, k=4))
            return f"{date}{time}{provider}{serial}{self._serial % 10_000:04d}"
        return f"{date}{time}{provider}{self._serial % 100_000_000:08d}"


def gaps(seed: int, per_minute: float) -> Iterator[float]:
    """
    Yield the seconds before each item, *per_minute* of them on average.

    At the realistic mean the pauses are those that were observed; for another mean
    they are all stretched or shrunk alike. Above a few hundred a minute, bursts mean
    nothing any more and the items simply follow one another.
    """
    rand = random.Random(f"{seed}/gaps")
    if per_minute > 600:
        while True:
            yield rand.expovariate(per_minute / 60)
    stretch = REALISTIC_PER_MINUTE / per_minute
    while True:
        # 2.77 items a cluster and 22.2 s between clusters make 7.5 a minute.
        quiet = rand.random() < 0.05
        pause = rand.uniform(90, 130) if quiet else rand.expovariate(1 / 17.5)
        yield pause * stretch
        draw = rand.random()
        extra = 0 if draw < 0.6 else rand.randint(1, 3) if draw < 0.9 else None
        for _ in range(rand.randint(10, 14) if extra is None else extra):
            yield rand.uniform(0.0, 0.07)


def per_minute(setting: str) -> float:
    """
    Return the mean that a --news-rate *setting* asks for.

    Raises:
        ValueError: If it is neither a word we know nor a number of 0 or more.
    """
    words = {"realistic": REALISTIC_PER_MINUTE, "stress": _STRESS_PER_MINUTE}
    rate = words[setting] if setting in words else float(setting)
    if not 0 <= rate < float("inf"):
        raise ValueError(f"news rate was {setting!r}")
    return rate
