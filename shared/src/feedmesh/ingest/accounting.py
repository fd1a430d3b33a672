"""
What became of everything an ingest has received, read from its metrics.

received = published + deduplicated + rejected + quarantined, exactly, whenever nothing
waits to be stored.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families


__all__ = ["Accounts", "accounts_of"]

_PREFIX = "feedmesh_ingest_"


class Accounts(NamedTuple):
    """Events of one ingest since its process began."""

    received: int
    published: int
    deduplicated: int
    rejected: int
    quarantined: int
    waiting: int

    @property
    def missing(self) -> int:
        """How many events nobody can account for; 0 if all is well."""
        return self.received - (
            self.published
            + self.deduplicated
            + self.rejected
            + self.quarantined
            + self.waiting
        )


def accounts_of(exposition: str) -> Accounts:
    """
    Return the accounts of the ingest whose ``/metrics`` said *exposition*.

    News that wait count as waiting; prices count as published before the stream has
    them, since a newer one may replace them. The number of those that wait is looked at
    once a second, so while news come the accounts are only nearly right.
    """
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = sample.name.removeprefix(_PREFIX)
            if name == "backlog" and sample.labels.get("kind") != "news":
                continue
            sums[name] = sums.get(name, 0.0) + sample.value
    names = [f"{name}_total" for name in Accounts._fields[:-1]]
    return Accounts(*(int(sums.get(name, 0.0)) for name in (*names, "backlog")))
