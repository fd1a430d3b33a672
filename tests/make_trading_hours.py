"""
Make the table of trading hours from `exchange_calendars`.

    python tests/make_trading_hours.py

writes ``shared/src/feedmesh/trading_hours_table.py``; a test holds it equal to the
library. What exchanges announce later, special days above all, comes with a newer
version of the library: update it, and make the table anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import exchange_calendars


TABLE = Path(__file__).parents[1] / "shared/src/feedmesh/trading_hours_table.py"
EXCHANGES = ("XNYS", "XKRX")
FIRST, LAST = date(2024, 1, 1), date(2030, 12, 31)
_HEAD = '''\
"""
Hours of exchanges, in UTC. Made by ``python tests/make_trading_hours.py``.

``usual <day> <opens> <closes>`` holds on weekdays from that day on; ``holiday <day>``
is closed all day; ``odd <day> <opens> <closes>`` has hours of its own.
"""

from __future__ import annotations

from typing import Final


__all__ = ["TABLE"]

TABLE: Final = """\\
'''


@cache
def sessions(code: str) -> dict[date, tuple[str, str]]:
    """Return when *code* opens and closes on each of its days, as ``HH:MM``."""
    with warnings.catch_warnings():
        # The library's own way with pandas is not ours to mend.
        warnings.simplefilter("ignore")
        calendar = exchange_calendars.get_calendar(
            code, start=FIRST.isoformat(), end=LAST.isoformat()
        )
    return {
        row.Index.date(): (row.open.strftime("%H:%M"), row.close.strftime("%H:%M"))
        for row in calendar.schedule.itertuples()
    }


def render() -> str:
    """Return the module."""
    lines = [line for code in EXCHANGES for line in _lines(code)]
    return _HEAD + "\n".join(lines) + '\n"""\n'


def _lines(code: str) -> Iterator[str]:
    yield f"exchange {code} {FIRST} {LAST}"
    days = sessions(code)
    # Hours that last for only a day are odd, not the new usual.
    lasting = {day for day, later in pairwise(sorted(days)) if days[day] == days[later]}
    usual = None
    for number in range((LAST - FIRST).days + 1):
        day = FIRST + timedelta(days=number)
        hours = days.get(day)
        if hours is None:
            if day.weekday() < 5:
                yield f"holiday {day}"
            continue
        if day.weekday() >= 5:
            raise ValueError(f"{code} trades on {day}, a weekend")
        if hours == usual:
            continue
        if day in lasting:
            usual = hours
        yield f"{'usual' if day in lasting else 'odd'} {day} {' '.join(hours)}"


if __name__ == "__main__":
    TABLE.write_text(render(), encoding="utf-8")
