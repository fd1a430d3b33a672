"""What a deployment says of itself, as values; None and empty where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


__all__ = ["ClockFacts", "Facts", "Newest", "granted", "usual_replicas"]


class ClockFacts(NamedTuple):
    """
    Offset of this machine's clock against the server's, in seconds.

    Attributes:
        offset: Ours minus theirs, at the middle of the round trip.
        error: How far it may be wrong: half the round trip, if all of the trip was
            spent in one direction.
    """

    offset: float
    error: float


class Newest(NamedTuple):
    """The newest message of one feed in a stream: when it was published, in ns."""

    feed: str
    stream: str
    published_ns: int


@dataclass(frozen=True)
class Facts:
    """
    What the servers said; None and empty where they did not.

    Attributes:
        at_ns: When they were asked.
        greetings: By URL, what each server says of itself before anybody logs in; None
            where nobody answered.
        problem: Why there is no connection, if there is none.
        account: Answer of ``$JS.API.INFO``.
        streams: By name, answer of ``$JS.API.STREAM.INFO.<name>``.
        consumers: By stream, the consumers it has; None where nobody answered.
        user: Answer of ``$SYS.REQ.USER.INFO``: who we are and what we may.
        clock: Our clock against theirs.
        newest: Newest messages by feed and stream.
        sync: By server, whether each write goes through to the disk, where known.
    """

    at_ns: int
    greetings: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    problem: str | None = None
    account: Mapping[str, Any] | None = None
    streams: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    consumers: Mapping[str, Sequence[Mapping[str, Any]] | None] = field(
        default_factory=dict
    )
    user: Mapping[str, Any] | None = None
    clock: ClockFacts | None = None
    newest: Sequence[Newest] = ()
    sync: Mapping[str, bool] = field(default_factory=dict)


def usual_replicas(facts: Facts) -> int:
    """Return how many copies streams should have where nobody says: 3 in a cluster."""
    return 3 if any((g or {}).get("cluster") for g in facts.greetings.values()) else 1


def granted(user: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what the server says we may; empty is everything, as far as it says."""
    found = ((user or {}).get("data") or {}).get("permissions") or {}
    assert isinstance(found, dict)
    return found
