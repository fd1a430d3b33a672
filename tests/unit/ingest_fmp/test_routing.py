"""Which link owes data when."""

from __future__ import annotations

from datetime import datetime

import pytest

from feedmesh.trading_hours import Phase
from ingest_fmp.routing import hours_of


SATURDAY = "2026-07-18T12:00:00+00:00"
TRADING = "2026-07-15T12:00:00-04:00"
NIGHT = "2026-07-15T02:00:00-04:00"


@pytest.mark.parametrize(
    ("link", "streams", "at", "phase"),
    [
        ("stocks", (), TRADING, Phase.OPEN),
        ("stocks", (), NIGHT, Phase.CLOSED),
        ("crypto", (), SATURDAY, Phase.OPEN),
        ("forex", (), NIGHT, Phase.OPEN),
        ("forex", (), SATURDAY, Phase.CLOSED),
        ("stream", ("fmp-us-equities-stream",), NIGHT, Phase.CLOSED),
        ("stream", ("fmp-us-equities-stream", "fmp-crypto-stream"), NIGHT, Phase.OPEN),
        ("stream", ("fmp-currency-stream",), SATURDAY, Phase.CLOSED),
        # Nobody has a table of London's hours here.
        ("stream", ("lse-level-1",), TRADING, Phase.UNKNOWN),
    ],
)
def test_a_link_owes_data_while_its_market_is_open(
    link: str, streams: tuple[str, ...], at: str, phase: Phase
) -> None:
    instant = int(datetime.fromisoformat(at).timestamp()) * 1_000_000_000

    assert hours_of(link, streams).at(instant).phase is phase
