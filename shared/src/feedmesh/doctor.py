"""
Check a deployment against what feedmesh needs: ``python -m feedmesh doctor``.

:func:`gather` asks the servers and returns :class:`Facts`; everything else is pure and
judges them. What this identity is not told is *unknown*, and said to be: a check that
could not be made is not a check that passed.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from nats.js.api import StreamConfig

from feedmesh import subjects
from feedmesh.bus import Bus, connect_bus
from feedmesh.clock import from_iso, now_ns
from feedmesh.errors import BusError
from feedmesh.messages import decode_head
from feedmesh.settings import ServiceSettings
from feedmesh.status import STALE_SECONDS
from feedmesh.stored import read_from
from feedmesh.streams import NEWS, PRICES, STATUS, definitions
from feedmesh.symbols import MARKETS


__all__ = [
    "ROLES",
    "ClockFacts",
    "Facts",
    "Finding",
    "Level",
    "Needs",
    "Newest",
    "check",
    "exit_code",
    "gather",
    "table",
    "usual_replicas",
]

# Atomic batches, which the news log is written with, came with it.
_MIN_VERSION = (2, 12)
_MAX_OFFSET_SECONDS = 5.0
_MANY_CONSUMERS = 100
_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 3.0
_GREETING_SECONDS = 3.0
_USER_INFO = "$SYS.REQ.USER.INFO"

# Settings whose change breaks a promise, and those that only move a limit.
_BINDING = (
    "subjects",
    "retention",
    "storage",
    "discard",
    "max_msgs_per_subject",
    "num_replicas",
    "allow_direct",
    "allow_atomic",
)
_LIMITS = ("max_age", "max_bytes", "duplicate_window")


class Level(Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Finding(NamedTuple):
    """What one check found: about what, how it is, and in words."""

    about: str
    level: Level
    text: str


class Needs(NamedTuple):
    """What an identity must be allowed to do; subjects, which may have wildcards."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


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
        consumers: By stream, the consumers it has.
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
    consumers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    user: Mapping[str, Any] | None = None
    clock: ClockFacts | None = None
    newest: Sequence[Newest] = ()
    sync: Mapping[str, bool] = field(default_factory=dict)


def _reads(*streams: str) -> tuple[str, ...]:
    # The last message of a subject is asked for with the subject at the end.
    api = "$JS.API"
    return tuple(
        subject
        for name in streams
        for subject in (
            f"{api}.STREAM.INFO.{name}",
            f"{api}.DIRECT.GET.{name}",
            f"{api}.DIRECT.GET.{name}.>",
        )
    )


def _ingest(feed: str, *more: str) -> Needs:
    return Needs(
        publish=(
            subjects.ALL_PRICES,
            subjects.status(feed),
            subjects.epoch(feed),
            subjects.dead_letters(f"ingest-{feed}"),
            subjects.gaps(feed),
            subjects.leader(feed),
            subjects.left_overs(feed),
            subjects.DEMAND_ASK,
            *more,
            *_reads(NEWS, PRICES),
        ),
        subscribe=(
            subjects.leader(feed),
            subjects.left_overs(feed),
            subjects.ALL_DEMAND,
            subjects.ALL_PINS,
            "_INBOX.>",
        ),
    )


ROLES: Final[Mapping[str, Needs]] = {
    "ingest-fmp": _ingest("fmp"),
    "ingest-ls": _ingest("ls", subjects.ALL_NEWS),
    "edge": Needs(
        publish=(
            subjects.ALL_DEMAND,
            subjects.ALL_PINS,
            *_reads(PRICES, NEWS, STATUS),
        ),
        subscribe=(
            subjects.ALL_PRICES,
            subjects.ALL_NEWS_ITEMS,
            subjects.ALL_STATUS,
            subjects.DEMAND_ASK,
            "_INBOX.>",
        ),
    ),
    "streams": Needs(
        publish=("$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*"),
        subscribe=("_INBOX.>",),
    ),
}


def check(facts: Facts, replicas: int, role: str | None = None) -> list[Finding]:
    """
    Judge *facts*.

    Args:
        facts: What was gathered.
        replicas: How many copies each stream should have.
        role: One of :data:`ROLES`, if the identity shall be checked for what it needs.
    """
    found = [*_check_servers(facts), *_check_connection(facts)]
    if facts.problem is None:
        found += chain(
            _check_streams(facts, replicas),
            _check_sync(facts),
            _check_permissions(facts, role),
            _check_clock(facts),
            _check_consumers(facts),
            _check_ages(facts),
        )
    return found


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if something failed; what is unknown or merely odd does not count."""
    return int(any(finding.level is Level.FAIL for finding in findings))


def table(findings: Sequence[Finding]) -> str:
    """Return *findings* for people, one a line."""
    width = max((len(finding.about) for finding in findings), default=0)
    return "\n".join(
        f"{finding.level.value:<8}{finding.about:<{width}}  {finding.text}"
        for finding in findings
    )


def _check_servers(facts: Facts) -> Iterator[Finding]:
    for url, greeting in facts.greetings.items():
        if greeting is None:
            # One of three may be away; that none answers is found further down.
            yield Finding(url, Level.WARN, "does not answer")
            continue
        version = str(greeting.get("version", ""))
        number = _version(version)
        if number is None:
            yield Finding(url, Level.UNKNOWN, f"says version {version!r}")
        elif number < _MIN_VERSION:
            needed = ".".join(map(str, _MIN_VERSION))
            yield Finding(url, Level.FAIL, f"is {version}; {needed} is needed")
        elif not greeting.get("jetstream"):
            yield Finding(url, Level.FAIL, f"is {version}, without JetStream")
        else:
            yield Finding(url, Level.OK, f"is {version}, with JetStream")


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
        name = str(wanted.name)
        about = f"stream {name}"
        answer = facts.streams.get(name)
        if answer is None:
            yield Finding(about, Level.UNKNOWN, "no answer; may this identity ask?")
        elif "error" in answer:
            yield Finding(about, Level.FAIL, str(answer["error"].get("description")))
        else:
            yield from _check_stream(about, wanted, answer)


def _check_stream(
    about: str, wanted: StreamConfig, answer: Mapping[str, Any]
) -> Iterator[Finding]:
    should, has = wanted.as_dict(), answer["config"]
    wrong = [name for name in _BINDING if _differs(should, has, name)]
    moved = [name for name in _LIMITS if _differs(should, has, name)]
    for level, names in ((Level.FAIL, wrong), (Level.WARN, moved)):
        if names:
            told = (f"{n} is {has.get(n)}, should be {should[n]}" for n in names)
            yield Finding(about, level, "; ".join(told))
    missing = _replicas_missing(answer.get("cluster") or {})
    if missing:
        yield Finding(about, Level.WARN, f"without its copy on {', '.join(missing)}")
    if not (wrong or moved or missing):
        state = answer["state"]
        yield Finding(
            about,
            Level.OK,
            f"{state['messages']} messages, {has['num_replicas']} replicas",
        )


def _differs(should: Mapping[str, Any], has: Mapping[str, Any], name: str) -> bool:
    # The server leaves out what is off, and so do we.
    wanted, found = should.get(name), has.get(name)
    if wanted in (None, False):
        return False
    if isinstance(wanted, list):
        return sorted(wanted) != sorted(found or ())
    return bool(wanted != found)


def _replicas_missing(cluster: Mapping[str, Any]) -> list[str]:
    return [
        str(replica["name"])
        for replica in cluster.get("replicas") or ()
        if replica.get("offline") or not replica.get("current")
    ]


def _check_sync(facts: Facts) -> Iterator[Finding]:
    lazy = sorted(server for server, always in facts.sync.items() if not always)
    if lazy:
        text = "stored news are lost when the power fails: set sync_interval: always"
        yield Finding("sync", Level.WARN, f"{', '.join(lazy)}: {text}")
    elif facts.sync:
        yield Finding("sync", Level.OK, "each write goes through to the disk")
    else:
        text = "servers tell it on their monitoring port only; pass --monitor URL"
        yield Finding("sync", Level.UNKNOWN, text)


def _check_permissions(facts: Facts, role: str | None) -> Iterator[Finding]:
    if facts.user is None or "data" not in facts.user:
        yield Finding("permissions", Level.UNKNOWN, "the server does not tell them")
        return
    who = facts.user["data"].get("user") or "nobody in particular"
    if role is None:
        text = f"connected as {who}; pass --role to check what a service needs"
        yield Finding("permissions", Level.OK, text)
        return
    granted = _granted(facts.user)
    refused = [
        f"{verb} {subject}"
        for verb, wanted in ROLES[role]._asdict().items()
        for subject in wanted
        if not _allows(granted.get(verb) or {}, subject)
    ]
    if refused:
        yield Finding("permissions", Level.FAIL, f"{who} may not {', '.join(refused)}")
    else:
        yield Finding("permissions", Level.OK, f"{who} may do all that {role} needs")


def _granted(user: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what the server says we may; empty is everything, as far as it says."""
    found = ((user or {}).get("data") or {}).get("permissions") or {}
    assert isinstance(found, dict)
    return found


def _allows(grant: Mapping[str, Any], subject: str) -> bool:
    allowed = _listed(grant.get("allow"))
    if allowed and not any(_covers(pattern, subject) for pattern in allowed):
        return False
    # Even a part that is denied is a part that is missing.
    return not any(_overlap(pattern, subject) for pattern in _listed(grant.get("deny")))


def _listed(value: object) -> list[str]:
    if not value:
        return []
    found = value if isinstance(value, list) else [value]
    # A queue group may follow the subject; it restricts nothing that we do.
    return [str(pattern).split(" ")[0] for pattern in found]


def _covers(pattern: str, subject: str) -> bool:
    """Return whether everything that *subject* matches is matched by *pattern*."""
    have, wanted = pattern.split("."), subject.split(".")
    for position, token in enumerate(have):
        if token == ">":
            return len(wanted) > position
        if position >= len(wanted) or wanted[position] == ">":
            return False
        if token != "*" and token != wanted[position]:
            return False
    return len(have) == len(wanted)


def _overlap(one: str, other: str) -> bool:
    """Return whether a subject could match both."""
    first, second = one.split("."), other.split(".")
    for a, b in zip(first, second, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(first) == len(second)


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
        behind = max(consumers, key=lambda c: int(c["num_pending"]), default=None)
        if behind is None:
            yield Finding(about, Level.OK, "none")
            continue
        furthest = f"furthest behind is {behind['name']} by {behind['num_pending']}"
        level = Level.WARN if len(consumers) > _MANY_CONSUMERS else Level.OK
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


def usual_replicas(facts: Facts) -> int:
    """Return how many copies streams should have where nobody says: 3 in a cluster."""
    return 3 if any((g or {}).get("cluster") for g in facts.greetings.values()) else 1


async def gather(settings: ServiceSettings, monitors: Sequence[str] = ()) -> Facts:
    """
    Ask the servers; what they do not answer is missing in the facts, and no error.

    Args:
        settings: Where NATS is and who we are there.
        monitors: URLs of the servers' monitoring ports, as far as they can be reached.
    """
    greetings = dict(
        zip(
            settings.nats_url,
            await asyncio.gather(*map(_greeting, settings.nats_url)),
            strict=True,
        )
    )
    sync: dict[str, bool] = {}
    for found in await asyncio.gather(*map(_read_sync, monitors)):
        sync |= found
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connecting = connect_bus(settings, "feedmesh-doctor")
                bus = await stack.enter_async_context(connecting)
        except TimeoutError:
            problem = "no server answers"
            if any(greetings.values()):
                problem = "servers answer, but do not let us in"
            return Facts(now_ns(), greetings, problem, sync=sync)
        return await _ask_all(bus, greetings, sync)


async def _greeting(url: str) -> dict[str, Any] | None:
    """Return what a server says of itself to everybody who connects."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_GREETING_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 4222
            )
            try:
                line = await reader.readline()
            finally:
                writer.close()
        greeting = json.loads(line.removeprefix(b"INFO "))
    except (OSError, ValueError):
        return None
    return greeting if isinstance(greeting, dict) else None


async def _read_sync(monitor: str) -> dict[str, bool]:
    """Return whether a server writes everything through, by its name; {} if unknown."""

    def read() -> Any:
        with urllib.request.urlopen(
            f"{monitor.rstrip('/')}/varz", timeout=_REQUEST_SECONDS
        ) as answer:
            return json.load(answer)

    with suppress(OSError, ValueError):
        varz = await asyncio.to_thread(read)
        config = varz.get("jetstream", {}).get("config", {})
        return {str(varz["server_name"]): bool(config.get("sync_always"))}
    return {}


async def _ask_all(
    bus: Bus,
    greetings: Mapping[str, Mapping[str, Any] | None],
    sync: Mapping[str, bool],
) -> Facts:
    names = [str(stream.name) for stream in definitions()]
    user = await _Asking(bus, {}).json(_USER_INFO)
    asking = _Asking(bus, _granted(user))
    account, newest, *answers = await asyncio.gather(
        asking.json("$JS.API.INFO"),
        _newest(asking),
        *(asking.json(f"$JS.API.STREAM.INFO.{name}") for name in names),
        *(asking.json(f"$JS.API.CONSUMER.LIST.{name}") for name in names),
    )
    streams, consumers = answers[: len(names)], answers[len(names) :]
    return Facts(
        at_ns=now_ns(),
        greetings=greetings,
        account=account,
        streams=dict(zip(names, streams, strict=True)),
        consumers={
            name: answer["consumers"]
            for name, answer in zip(names, consumers, strict=True)
            if answer and answer.get("consumers")
        },
        user=user,
        # Alone, after all other requests, so that the round trip is a short one.
        clock=await _clock(asking),
        newest=newest,
        sync=sync,
    )


class _Asking:
    """Asks what we may ask: a refused request would only be waited for in vain."""

    def __init__(self, bus: Bus, granted: Mapping[str, Any]) -> None:
        self._bus = bus
        self._publish = granted.get("publish") or {}

    async def raw(self, subject: str, payload: bytes = b"") -> bytes:
        """Return the answer; empty if there is none."""
        if _allows(self._publish, subject):
            with suppress(BusError):
                return await self._bus.request(subject, payload, _REQUEST_SECONDS)
        return b""

    async def json(self, subject: str) -> dict[str, Any] | None:
        with suppress(ValueError):
            answer = json.loads(await self.raw(subject))
            if isinstance(answer, dict):
                return answer
        return None

    async def last_values(self, stream: str) -> list[bytes]:
        """Return all payloads of a stream with one message a subject."""
        found: list[bytes] = []
        if _allows(self._publish, f"$JS.API.DIRECT.GET.{stream}"):
            with suppress(BusError):
                async for message in read_from(self._bus, stream, 1):
                    found.append(message.payload)
        return found


async def _clock(asking: _Asking) -> ClockFacts | None:
    for subject in (f"$JS.API.STREAM.INFO.{STATUS}", _USER_INFO):
        before = now_ns()
        answer = await asking.json(subject) or {}
        trip = now_ns() - before
        stamp = answer.get("ts") or answer.get("server", {}).get("time")
        with suppress(ValueError, TypeError):
            offset = before + trip // 2 - from_iso(stamp)
            return ClockFacts(offset / 1e9, trip / 2e9)
    return None


async def _newest(asking: _Asking) -> list[Newest]:
    asked = [(PRICES, f"prices.{market}.*") for market in MARKETS]
    asked.append((NEWS, subjects.ALL_NEWS_ITEMS))
    payloads = await asyncio.gather(
        *(
            asking.raw(
                f"$JS.API.DIRECT.GET.{stream}",
                json.dumps({"last_by_subj": pattern}).encode(),
            )
            for stream, pattern in asked
        )
    )
    found: dict[tuple[str, str], int] = {}
    for (stream, _), payload in zip(asked, payloads, strict=True):
        _note(found, stream, payload)
    for payload in await asking.last_values(STATUS):
        _note(found, STATUS, payload)
    return [Newest(feed, stream, at) for (feed, stream), at in found.items()]


def _note(found: dict[tuple[str, str], int], stream: str, payload: bytes) -> None:
    with suppress(ValueError):
        known, _ = decode_head(payload)
        key = known.source, stream
        found[key] = max(found.get(key, 0), from_iso(known.published_at))
