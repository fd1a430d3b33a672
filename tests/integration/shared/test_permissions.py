"""
What the servers let each identity do is what is declared, subject by subject.

The declaration is in `feedmesh.permissions`; the server's configuration is made from
it, and a real server is asked. What must never be possible is written down here once
more, by hand, so that a wrong declaration is found too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from secured_nats import SecuredNats, run_secured_nats

from feedmesh import subjects
from feedmesh.bus import connect_bus
from feedmesh.permissions import IDENTITIES, Permissions, allows, inbox_prefix
from feedmesh.settings import ServiceSettings
from feedmesh.streams import definitions, ensure_streams


STREAMS = [str(config.name) for config in definitions()]
FEEDS = ["fmp", "ls"]
API = "$JS.API"
DATA = [
    "prices.us.AAPL",
    "prices.crypto.BTCUSD",
    "prices.fx.EURUSD",
    "prices.kr.005930",
    "prices.xx.A",
    "prices.us",
    "news.article",
    "news.article.005930",
    "news.a.b.c",
    "demand.edge-1",
    "demand.edge-1.more",
    "pins.AAPL",
    subjects.DEMAND_ASK,
    "dlq.edge",
    "dlq.ingest-fmp",
    "dlq.ingest-ls",
    "dlq.other",
    "something.else",
    *(f"_INBOX.{who}.x" for who in IDENTITIES),
    "_INBOX.x",
]
OF_FEEDS = [
    name(feed)
    for feed in (*FEEDS, "other")
    for name in (
        subjects.status,
        subjects.gaps,
        subjects.epoch,
        subjects.leader,
        subjects.left_overs,
        subjects.master,
    )
]
OF_STREAMS = [
    f"{API}.{verb}.{stream}"
    for verb in (
        *("STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE"),
        *("STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.MSG.GET", "DIRECT.GET"),
        *("CONSUMER.CREATE", "CONSUMER.LIST"),
    )
    for stream in (*STREAMS, "OTHER")
]
OF_SERVER = [
    f"{API}.INFO",
    f"{API}.STREAM.NAMES",
    f"{API}.STREAM.SNAPSHOT.NEWS",
    f"{API}.STREAM.RESTORE.NEWS",
    f"{API}.STREAM.LEADER.STEPDOWN.NEWS",
    f"{API}.STREAM.PEER.REMOVE.NEWS",
    f"{API}.DIRECT.GET.NEWS.epoch.ls",
    f"{API}.DIRECT.GET.NEWS.epoch.fmp",
    f"{API}.DIRECT.GET.NEWS.news.article",
    f"{API}.DIRECT.GET.STATUS.status.ls",
    f"{API}.CONSUMER.CREATE.NEWS.mine",
    f"{API}.CONSUMER.CREATE.NEWS.mine.news.*",
    f"{API}.CONSUMER.CREATE.PRICES.mine",
    f"{API}.CONSUMER.DURABLE.CREATE.NEWS.mine",
    f"{API}.CONSUMER.DELETE.NEWS.mine",
    f"{API}.CONSUMER.MSG.NEXT.NEWS.mine",
    "$JS.ACK.NEWS.mine.1.1.1.1.1",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING",
    "$KV.anything.x",
]
PUBLISHED = [*DATA, *OF_FEEDS, *OF_STREAMS, *OF_SERVER]
SUBSCRIBED = [
    *DATA,
    *OF_FEEDS,
    *("prices.>", "news.>", "news.*", "status.*", "gaps.*", "demand.*", "pins.*"),
    *("epoch.*", "leader.*", "dlq.*", "dlq.>", ">", "*", "*.*", "$JS.>", "$SYS.>"),
    *("_INBOX.>", *(f"_INBOX.{who}.>" for who in IDENTITIES)),
    f"{API}.>",
    "$JS.EVENT.ADVISORY.>",
]
CHECKS = [
    (identity, verb, subject)
    for identity in IDENTITIES
    for verb, asked in (("publish", PUBLISHED), ("subscribe", SUBSCRIBED))
    for subject in asked
]


async def refused(
    server: SecuredNats, identity: str, verb: str, asked: list[str]
) -> set[str]:
    """Return which of *asked* the server refuses to *identity*."""
    found: set[str] = set()
    by_lower_case = {subject.lower(): subject for subject in asked}
    assert len(by_lower_case) == len(set(asked))

    async def note(error: Exception) -> None:
        # nats-py hands errors on in lower case.
        match = re.search(rf'violation for {verb[:7]}[a-z]* to "([^"]+)"', str(error))
        if match:
            found.add(by_lower_case[match[1]])

    async def ignore(_: Msg) -> None:
        pass

    async with as_identity(server, identity) as client:
        client._error_cb = note
        for subject in asked:
            if verb == "publish":
                await client.publish(subject, b"{}")
            else:
                await client.subscribe(subject, cb=ignore)
        # Answered only when all that came before it was looked at.
        await client.flush()
    return found


@asynccontextmanager
async def as_identity(server: SecuredNats, identity: str) -> AsyncIterator[Client]:
    """Connect as *identity*."""
    settings = ServiceSettings.from_env(server.identity(identity))
    assert settings.nats_nkey is not None
    async with connect_bus(settings, identity) as bus:
        yield bus.nc


async def test_the_server_lets_each_do_what_is_declared(tmp_path: Path) -> None:
    assert len(CHECKS) >= 600
    wrong: list[str] = []
    async with run_secured_nats(tmp_path) as server:
        for identity, (verb, asked) in product(
            IDENTITIES, (("publish", PUBLISHED), ("subscribe", SUBSCRIBED))
        ):
            denied = await refused(server, identity, verb, asked)
            allowed = getattr(IDENTITIES[identity], verb)
            for subject in asked:
                if accepted(allowed, subject) == (subject in denied):
                    wrong.append(f"{identity} {verb} {subject}")

    assert wrong == []
    print(f"{len(CHECKS)} checks of permissions")


def accepted(allowed: Sequence[str], subject: str) -> bool:
    """Return whether a subscription is; servers let `*` cover a `>` at its end."""
    return allows(allowed, subject) or allows(allowed, re.sub(">$", "*", subject))


async def test_a_wider_subscription_hears_no_more(tmp_path: Path) -> None:
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async with (
        run_secured_nats(tmp_path) as server,
        as_identity(server, "edge") as edge,
        as_identity(server, "ingest-ls") as ingest,
    ):
        await edge.subscribe("news.>", cb=hear)
        # Until the subscription is there, and what follows it has been heard.
        async with asyncio.timeout(10):
            while len(heard) < 3:
                for subject in ("news.article.005930", "news.article"):
                    await ingest.publish(subject, b"{}")
                await asyncio.sleep(0.02)

    assert set(heard) == {"news.article"}


# By hand, on purpose: who alone may say what.
WRITERS = {
    "prices.us.AAPL": {"ingest-fmp"},
    "prices.kr.005930": {"ingest-ls"},
    "prices.xx.A": set(),
    "news.article": {"ingest-ls"},
    "news.article.005930": {"ingest-ls"},
    "status.fmp": {"ingest-fmp"},
    "status.ls": {"ingest-ls"},
    "gaps.ls": {"ingest-ls"},
    "epoch.fmp": {"ingest-fmp"},
    "epoch.ls": {"ingest-ls"},
    "leader.ls": {"ingest-ls"},
    "pins.AAPL": {"edge"},
    "demand.edge-1": {"edge", "reader"},
    "$JS.API.STREAM.CREATE.NEWS": {"streams"},
    "$JS.API.STREAM.CREATE.OTHER": set(),
}


@pytest.mark.parametrize("subject", sorted(WRITERS))
def test_only_those_write_who_should(subject: str) -> None:
    found = {who for who, may in IDENTITIES.items() if allows(may.publish, subject)}

    assert found == WRITERS[subject]


@pytest.mark.parametrize("identity", sorted(IDENTITIES))
def test_nobody_harms_streams_or_hears_answers_to_others(identity: str) -> None:
    may = IDENTITIES[identity]
    harmful = [
        subject
        for subject in PUBLISHED
        if re.search(
            r"\.(UPDATE|DELETE|PURGE|MSG\.DELETE|SNAPSHOT|RESTORE|STEPDOWN|REMOVE)\b",
            subject,
        )
    ]
    others = [f"{inbox_prefix(who)}.x" for who in IDENTITIES if who != identity]

    assert len(harmful) > 20
    assert not [subject for subject in harmful if allows(may.publish, subject)]
    assert not [subject for subject in others if allows(may.subscribe, subject)]
    assert not allows(may.subscribe, ">")


async def test_a_server_without_the_rules_is_seen(tmp_path: Path) -> None:
    """The check would notice: an identity that may do everything is refused nothing."""
    everything = Permissions((">",), (">",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IDENTITIES, "edge", everything)
        async with run_secured_nats(tmp_path) as server:
            assert await refused(server, "edge", "publish", PUBLISHED) == set()


async def test_the_streams_identity_makes_the_streams(tmp_path: Path) -> None:
    async with run_secured_nats(tmp_path) as server:
        settings = ServiceSettings.from_env(server.identity("streams"))
        async with asyncio.timeout(20), connect_bus(settings, "streams") as bus:
            made = await ensure_streams(bus.nc.jetstream())

    assert made == STREAMS
