"""
Names of news providers by their id (LS Open API portal, NWS, field ``id``).

Names age, and ids come that nobody has listed: an unknown id is kept and has no name.
"""

from __future__ import annotations

from collections.abc import Mapping


__all__ = ["DISCLOSURES", "PROVIDERS"]

DISCLOSURES = "15"

PROVIDERS: Mapping[str, str] = {
    "11": "연합뉴스",
    "14": "이데일리",
    "15": "공시",
    "20": "머니투데이",
    "21": "인포스탁",
    "22": "LS증권",
    "23": "아시아경제",
    "24": "뉴스핌",
    "25": "매일경제",
    "26": "한국경제",
    "27": "헤럴드경제",
    "28": "로이터",
    "29": "코리아헤럴드",
    "30": "파이낸셜뉴스",
    "31": "이투데이",
    "32": "조선비즈",
    "33": "데이터투자",
    "34": "연합인포맥스",
    "35": "서울경제",
    "36": "포춘코리아",
    "37": "뉴스웨이",
}
