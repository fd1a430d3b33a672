"""What is wrong with a deployment, judged from its facts; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from feedmesh.doctor.facts import Facts, granted
from feedmesh.doctor.findings import Finding, Level
from feedmesh.doctor.grants import may
from feedmesh.doctor.stream_settings import check_stream
from feedmesh.permissions import IDENTITIES
from feedmesh.status import STALE_SECONDS
from feedmesh.streams import STATUS, definitions


__all__ = ["check", "check_server"]

# Atomic batches, which the news log is written with, came with it.
_MIN_VERSION = (2, 12)
# Beyond that, latencies tell nothing; an alert has the same limit.
_MAX_OFFSET_SECONDS = 0.05
_MANY_CONSUMERS = 100
_FAR_BEHIND = 10_000


def check(facts: Facts, replicas: int, role: str | None = None) -> list[Finding]:
    """
    Judge *facts*.

    Args:
        facts: What was gathered.
        replicas: How many copies each stream should have.
        role: The identity, of :data:`~feedmesh.permissions.IDENTITIES`, that ours shall
            be checked for, if any.
    """
    found = [*_check_servers(facts), *_check_connection(facts)]
    if facts.problem is None:
        found += chain(
            _check_streams(facts, replicas),
            _check_sync(facts, replicas),
            _check_permissions(facts, role),
            _check_clock(facts),
            _check_consumers(facts),
            _check_ages(facts),
        )
    return found


def _check_servers(facts: Facts) -> Iterator[Finding]:
    for url, greeting in facts.greetings.items():
        if greeting is None:
            # One of three may be away; that none answers is found further down.
            yield Finding(url, Level.WARN, "does not answer")
        else:
            yield check_server(url, greeting)


def check_server(about: str, greeting: Mapping[str, Any]) -> Finding:
    """Judge what a server says of itself before anybody logs in."""
    version = str(greeting.get("version", ""))
    number = _version(version)
    if number is None:
        return Finding(about, Level.UNKNOWN, f"says version {version!r}")
    if number < _MIN_VERSION:
        needed = ".".join(map(str, _MIN_VERSION))
        return Finding(about, Level.FAIL, f"is {version}; {needed} is needed")
    if not greeting.get("jetstream"):
        return Finding(about, Level.FAIL, f"is {version}, without JetStream")
    return Finding(about, Level.OK, f"is {version}, with JetStream")


def _version(text: str) -> tuple[int, int] | None:
    parts = text.split(".")
    if len(parts) < 2 or not all(p.isascii() and p.isdigit() for p in parts[:2]):
        return None
    return int(parts[0]), int(parts[1])


def _check_connection(facts: Facts) -> Iterator[Finding]:
    if facts.problem is not None:
        yield Finding("connection", Level.FAIL, facts.problem)
    elif facts.account is None:
        yield Finding("JetStream", Level.UNKNOWN, "does not tell this identity")
    elif "error" in facts.account:
        reason = facts.account["error"].get("description", "")
        yield Finding("JetStream", Level.FAIL, f"is not for this account: {reason}")
    else:
        streams = facts.account.get("streams")
        yield Finding("JetStream", Level.OK, f"has {streams} streams in this account")


def _check_streams(facts: Facts, replicas: int) -> Iterator[Finding]:
    for wanted in definitions(replicas):
        yield from check_stream(wanted, facts.streams.get(str(wanted.name)))


def _check_sync(facts: Facts, replicas: int) -> Iterator[Finding]:
    lazy = sorted(server for server, always in facts.sync.items() if not always)
    if lazy:
        text = "stored news are lost when the power fails: set sync_interval: always"
        # Who keeps copies does so to lose nothing. One server alone, as on the machine
        # of a developer, promises less.
        level = Level.FAIL if replicas > 1 else Level.WARN
        yield Finding("sync", level, f"{', '.join(lazy)}: {text}")
    elif len(facts.sync) < max(replicas, len(facts.greetings)):
        told = f"told by {', '.join(sorted(facts.sync)) or 'none'}"
        text = "pass --monitor URL for each server, whose monitoring port tells it"
        yield Finding("sync", Level.UNKNOWN, f"{told}; {text}")
    else:
        yield Finding("sync", Level.OK, "each write goes through to the disk")


def _check_permissions(facts: Facts, role: str | None) -> Iterator[Finding]:
    if facts.user is None or "data" not in facts.user:
        yield Finding("permissions", Level.UNKNOWN, "the server does not tell them")
        return
    who = facts.user["data"].get("user") or "nobody in particular"
    if role is None:
        text = f"connected as {who}; pass --role to check what a service needs"
        yield Finding("permissions", Level.OK, text)
        return
    grants = granted(facts.user)
    refused = [
        f"{verb} {subject}"
        for verb, wanted in IDENTITIES[role]._asdict().items()
        for subject in wanted
        if not may(grants.get(verb) or {}, subject)
    ]
    if refused:
        yield Finding("permissions", Level.FAIL, f"{who} may not {', '.join(refused)}")
    else:
        yield Finding("permissions", Level.OK, f"{who} may do all that {role} needs")


def _check_clock(facts: Facts) -> Iterator[Finding]:
    if facts.clock is None:
        yield Finding("clock", Level.UNKNOWN, "no server told the time")
        return
    offset, error = facts.clock
    text = f"{offset * 1000:+.1f} ms against NATS, ± {error * 1000:.1f} ms one way"
    # Sure of it only when the error cannot explain it.
    late = abs(offset) - error > _MAX_OFFSET_SECONDS
    yield Finding("clock", Level.WARN if late else Level.OK, text)


def _check_consumers(facts: Facts) -> Iterator[Finding]:
    for stream, consumers in facts.consumers.items():
        about = f"consumers {stream}"
        if consumers is None:
            yield Finding(about, Level.UNKNOWN, "no answer; may this identity ask?")
            continue
        behind = max(consumers, key=lambda c: int(c["num_pending"]), default=None)
        if behind is None:
            yield Finding(about, Level.OK, "none")
            continue
        furthest = f"furthest behind is {behind['name']} by {behind['num_pending']}"
        odd = len(consumers) > _MANY_CONSUMERS
        late = int(behind["num_pending"]) > _FAR_BEHIND
        level = Level.WARN if odd or late else Level.OK
        yield Finding(about, level, f"{len(consumers)}; {furthest}")


def _check_ages(facts: Facts) -> Iterator[Finding]:
    if not facts.newest:
        yield Finding("ages", Level.UNKNOWN, "nothing was published, or none is read")
    for feed, stream, published_ns in sorted(facts.newest):
        age = max(0.0, (facts.at_ns - published_ns) / 1e9)
        about = f"{feed} {stream.lower()}"
        if stream == STATUS and age > STALE_SECONDS:
            text = f"newest is {_span(age)} old: its ingest is gone"
            yield Finding(about, Level.WARN, text)
        else:
            # How old prices and news may be, the market decides, not we.
            yield Finding(about, Level.OK, f"newest is {_span(age)} old")


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
