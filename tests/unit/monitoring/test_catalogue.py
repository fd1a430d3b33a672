"""docs/metrics.md is what the code exports, and its names are well chosen."""

from __future__ import annotations

import re

import pytest

from .catalogue import PAGE, Family, catalogue, page


ALL = [family for found in catalogue().values() for family in found]
# Labels whose values anybody but us could make up would multiply without end.
UNBOUNDED = {"symbol", "client", "user", "subject", "address", "id"}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_no_name_is_used_twice() -> None:
    names = [family.name for family in ALL]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", ALL, ids=lambda family: str(family.name))
def test_a_metric_is_well_named(family: Family) -> None:
    assert re.fullmatch(r"feedmesh_[a-z0-9_]+", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", family.name)
    assert family.text.endswith(".")
    assert not UNBOUNDED & set(family.labels)
