"""
Who may say and hear what on NATS: declared here, and nowhere else.

Each process has an identity with the least subjects that work. The configuration of the
servers is made from this table (:func:`accounts_config`), and so is what
``python -m feedmesh doctor --role`` expects. Three rules hold for all of them:

* what is not listed is denied, by the server
* answers come below a prefix of one's own, so nobody hears another's
* nobody may change or delete a stream; only ``streams`` may create those of ours
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from feedmesh import canary, subjects
from feedmesh.streams import GAPS, NEWS, PINS, PRICES, SERVED, STATUS, definitions
from feedmesh.symbols import Market


__all__ = [
    "IDENTITIES",
    "Permissions",
    "accounts_config",
    "allows",
    "inbox_prefix",
    "key_variable",
]

_API = "$JS.API"
_ALL_STREAMS = tuple(str(stream.name) for stream in definitions())
_ALL_DEAD_LETTERS = "dlq.*"


class Permissions(NamedTuple):
    """
    What one identity may do; subjects, with the wildcards of NATS.

    Attributes:
        publish: What it may send; requests and answers are sent, too.
        subscribe: What it may hear.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(identity: str) -> str:
    """Return below which subject the answers to *identity* come: ``_INBOX.edge``."""
    return f"_INBOX.{identity}"


def _inbox(identity: str) -> str:
    return f"{inbox_prefix(identity)}.>"


def _info(*streams: str) -> tuple[str, ...]:
    return tuple(f"{_API}.STREAM.INFO.{name}" for name in streams)


def _read(*streams: str) -> tuple[str, ...]:
    return tuple(f"{_API}.DIRECT.GET.{name}" for name in streams)


def _last(stream: str, subject: str) -> str:
    # The last message of one subject is asked for with the subject at the end.
    return f"{_API}.DIRECT.GET.{stream}.{subject}"


def _ingest(feed: str, *markets: Market, publish: Sequence[str] = ()) -> Permissions:
    identity = f"ingest-{feed}"
    return Permissions(
        publish=(
            *(f"prices.{market}.*" for market in markets),
            subjects.price(canary.MARKET, canary.symbol_of(feed)),
            subjects.status(feed),
            subjects.gaps(feed),
            subjects.epoch(feed),
            subjects.leader(feed),
            subjects.dead_letters(identity),
            subjects.DEMAND_ASK,
            *_info(*SERVED),
            *_read(PRICES, PINS, GAPS),
            _last(NEWS, subjects.epoch(feed)),
            _last(STATUS, subjects.status(feed)),
            # An echo tells what the server has passed on; replicas answer one another.
            _inbox(identity),
            *publish,
        ),
        subscribe=(
            subjects.leader(feed),
            subjects.ALL_DEMAND,
            subjects.ALL_PINS,
            _inbox(identity),
        ),
    )


def _ingest_of_news(feed: str, *markets: Market) -> Permissions:
    shared = (subjects.left_overs(feed), subjects.master(feed))
    prices = _ingest(
        feed,
        *markets,
        publish=(
            "news.*",
            "news.*.*",
            *_read(NEWS),
            # Replicas ask one another.
            *shared,
        ),
    )
    return prices._replace(subscribe=(*shared, *prices.subscribe))


IDENTITIES: Final[Mapping[str, Permissions]] = {
    "edge": Permissions(
        publish=(
            subjects.ALL_DEMAND,
            subjects.ALL_PINS,
            *_info(*SERVED),
            *_read(PRICES, NEWS, STATUS, PINS, GAPS),
        ),
        subscribe=(
            subjects.ALL_PRICES,
            subjects.ALL_NEWS_ITEMS,
            subjects.ALL_STATUS,
            subjects.ALL_GAPS,
            subjects.DEMAND_ASK,
            _inbox("edge"),
        ),
    ),
    "ingest-fmp": _ingest("fmp", "us", "crypto", "fx"),
    "ingest-ls": _ingest_of_news("ls", "kr"),
    # Makes the streams, and does nothing else.
    "streams": Permissions(
        publish=(
            *_info(*_ALL_STREAMS),
            *(f"{_API}.STREAM.CREATE.{name}" for name in _ALL_STREAMS),
        ),
        subscribe=(_inbox("streams"),),
    ),
    # People who look: `feedmesh sub`, `feedmesh doctor`.
    "observer": Permissions(
        publish=(
            f"{_API}.INFO",
            *_info(*_ALL_STREAMS),
            *(f"{_API}.CONSUMER.LIST.{name}" for name in _ALL_STREAMS),
            *_read(*_ALL_STREAMS),
            "$SYS.REQ.USER.INFO",
        ),
        subscribe=(
            subjects.ALL_PRICES,
            subjects.ALL_NEWS,
            subjects.ALL_STATUS,
            subjects.ALL_GAPS,
            subjects.ALL_DEMAND,
            subjects.ALL_PINS,
            subjects.DEMAND_ASK,
            _ALL_DEAD_LETTERS,
            "epoch.*",
            "leader.*",
            _inbox("observer"),
        ),
    ),
    # Services of others: they read everything that clients get, with consumers of the
    # news stream, and may want symbols.
    "reader": Permissions(
        publish=(
            subjects.ALL_DEMAND,
            *_info(PRICES, NEWS, STATUS, GAPS),
            *_read(PRICES, NEWS, STATUS, GAPS),
            f"{_API}.CONSUMER.CREATE.{NEWS}.>",
            f"{_API}.CONSUMER.INFO.{NEWS}.*",
            f"{_API}.CONSUMER.MSG.NEXT.{NEWS}.*",
            f"$JS.ACK.{NEWS}.>",
        ),
        subscribe=(
            subjects.ALL_PRICES,
            subjects.ALL_NEWS,
            subjects.ALL_STATUS,
            subjects.ALL_GAPS,
            subjects.DEMAND_ASK,
            _inbox("reader"),
        ),
    ),
}


def allows(patterns: Sequence[str], subject: str) -> bool:
    """Return whether one of *patterns* covers all of *subject*, wildcards included."""
    return any(_covers(pattern.split("."), subject.split(".")) for pattern in patterns)


def _covers(pattern: Sequence[str], subject: Sequence[str]) -> bool:
    for position, token in enumerate(pattern):
        if token == ">":
            return len(subject) > position
        if position >= len(subject) or subject[position] == ">":
            return False
        if token != "*" and token != subject[position]:
            return False
    return len(pattern) == len(subject)


def key_variable(identity: str) -> str:
    """Return the variable that tells the servers the public key of *identity*."""
    return f"NKEY_{identity.upper().replace('-', '_')}"


def accounts_config() -> str:
    """
    Return the part of the servers' configuration that says who may do what.

    The public keys are read from the environment of the server, by the names of
    :func:`key_variable`, so that the file holds no deployment's own keys.
    """
    users = "\n".join(_lines())
    return f"""\
# Made by `python -m feedmesh.permissions` from shared/src/feedmesh/permissions.py.
accounts {{
  FEEDMESH {{
    jetstream: enabled
    users: [
{users}
    ]
  }}
  SYS {{}}
}}
system_account: SYS
"""


def _lines() -> Iterator[str]:
    for identity, granted in IDENTITIES.items():
        yield f"      {{  # {identity}"
        yield f"        nkey: ${key_variable(identity)}"
        yield "        permissions {"
        yield from _rules("publish", allow=granted.publish)
        denied = _deeper(granted.subscribe)
        yield from _rules("subscribe", allow=granted.subscribe, deny=denied)
        yield "        }"
        yield "      }"


def _deeper(allowed: Sequence[str]) -> list[str]:
    # Servers let `news.>` pass where `news.*` is allowed, and deliver all of it: to
    # them `>` is a token like any other. Denied, the deeper subjects are left out.
    return [f"{subject}.>" for subject in allowed if subject.endswith(".*")]


def _rules(verb: str, **rules: Sequence[str]) -> Iterator[str]:
    yield f"          {verb} {{"
    for rule, covered in rules.items():
        yield f"            {rule}: ["
        yield from (f'              "{subject}"' for subject in covered)
        yield "            ]"
    yield "          }"


if __name__ == "__main__":
    print(accounts_config(), end="")
