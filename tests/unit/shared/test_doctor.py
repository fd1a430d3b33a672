"""What the doctor says of facts, without a server."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from feedmesh.doctor import (
    ClockFacts,
    Facts,
    Finding,
    Level,
    Newest,
    check,
    exit_code,
    table,
    usual_replicas,
)
from feedmesh.permissions import IDENTITIES
from feedmesh.streams import definitions


NOW = 1_763_690_000_000_000_000
URL = "nats://127.0.0.1:4222"


def healthy(**changes: Any) -> Facts:
    """Return the facts of a deployment of three in which nothing is wrong."""
    facts = Facts(
        at_ns=NOW,
        greetings={URL: {"version": "2.12.1", "jetstream": True, "cluster": "c"}},
        account={"streams": 6},
        streams={str(config.name): stream(config) for config in definitions(3)},
        user={"data": {"user": "edge"}},
        clock=ClockFacts(0.001, 0.002),
        newest=[Newest("fmp", "STATUS", NOW - 2 * 10**9)],
        sync={"n1": True, "n2": True, "n3": True},
    )
    return dataclasses.replace(facts, **changes)


def stream(config: Any, **changes: Any) -> dict[str, Any]:
    return {
        "config": config.as_dict() | changes,
        "state": {"messages": 7},
        "cluster": {"replicas": [{"name": "n2", "current": True}]},
    }


def bad(facts: Facts, role: str | None = None) -> list[Finding]:
    return [f for f in check(facts, 3, role) if f.level is not Level.OK]


def with_stream(name: str, **changes: Any) -> Facts:
    config = next(c for c in definitions(3) if c.name == name)
    facts = healthy()
    return dataclasses.replace(
        facts, streams=dict(facts.streams) | {name: stream(config, **changes)}
    )


def granted(**permissions: Any) -> Facts:
    return healthy(user={"data": {"user": "u", "permissions": permissions}})


def test_a_healthy_deployment_has_no_findings() -> None:
    assert bad(healthy()) == []
    assert exit_code(check(healthy(), 3)) == 0


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("2.11.9", Level.FAIL),
        ("2.9.10", Level.FAIL),
        ("2.12.0", Level.OK),
        ("2.12.0-beta.1", Level.OK),
        ("3.0.0", Level.OK),
        ("dev", Level.UNKNOWN),
    ],
)
def test_versions_are_compared_as_numbers(version: str, level: Level) -> None:
    found = check(healthy(greetings={URL: {"version": version, "jetstream": True}}), 3)

    assert found[0].level is level


def test_a_server_without_jetstream_fails() -> None:
    assert bad(healthy(greetings={URL: {"version": "2.15.1"}}))[0].level is Level.FAIL


def test_one_server_away_is_a_warning_and_no_connection_a_failure() -> None:
    assert [f.level for f in bad(healthy(greetings={URL: None}))] == [Level.WARN]
    assert exit_code(check(Facts(NOW, {URL: None}, "no server answers"), 1)) == 1


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("NEWS", {"num_replicas": 1}),
        ("NEWS", {"storage": "memory"}),
        ("NEWS", {"allow_atomic": False}),
        ("PRICES", {"allow_direct": False}),
        ("PRICES", {"max_msgs_per_subject": -1}),
        ("STATUS", {"subjects": ["status.>", "other.>"]}),
    ],
)
def test_a_setting_that_breaks_a_promise_fails(
    name: str, changes: dict[str, Any]
) -> None:
    found = bad(with_stream(name, **changes))

    assert [(f.about, f.level) for f in found] == [(f"stream {name}", Level.FAIL)]
    assert next(iter(changes)) in found[0].text


def test_a_moved_limit_is_a_warning() -> None:
    found = bad(with_stream("NEWS", max_age=1))

    assert [f.level for f in found] == [Level.WARN]


def test_a_missing_stream_fails_and_an_unanswered_one_is_unknown() -> None:
    gone = healthy(streams={"NEWS": {"error": {"description": "stream not found"}}})
    levels = {f.about: f.level for f in check(gone, 3)}

    assert levels["stream NEWS"] is Level.FAIL
    assert levels["stream PRICES"] is Level.UNKNOWN


def test_a_copy_that_lags_is_named() -> None:
    facts = healthy()
    answer = dict(facts.streams["NEWS"] or {})
    answer["cluster"] = {"replicas": [{"name": "n3", "current": True, "offline": True}]}
    streams = dict(facts.streams) | {"NEWS": answer}

    assert "n3" in bad(dataclasses.replace(facts, streams=streams))[0].text


@pytest.mark.parametrize(
    ("sync", "level"),
    [
        ({}, Level.UNKNOWN),
        ({"a": True, "b": True}, Level.UNKNOWN),
        ({"a": True, "b": False}, Level.FAIL),
        ({"a": True, "b": False, "c": True}, Level.FAIL),
    ],
)
def test_sync_is_unknown_unless_all_servers_told(
    sync: dict[str, bool], level: Level
) -> None:
    assert [f.level for f in bad(healthy(sync=sync))] == [level]


def test_sync_of_a_single_server_is_a_warning() -> None:
    levels = {f.about: f.level for f in check(healthy(sync={"n1": False}), 1)}

    assert levels["sync"] is Level.WARN


@pytest.mark.parametrize("role", IDENTITIES)
def test_without_permissions_in_force_every_role_may_do_all(role: str) -> None:
    assert bad(healthy(), role) == []


@pytest.mark.parametrize(
    ("publish", "subscribe", "refused"),
    [
        ({"allow": [">"]}, {}, False),
        ({"allow": "demand.*"}, {}, True),
        ({"deny": ["$JS.API.DIRECT.GET.NEWS"]}, {}, True),
        ({"deny": ["$JS.API.STREAM.CREATE.>"]}, {}, False),
        ({}, {"allow": ["prices.us.>"]}, True),
        ({}, {"deny": ["prices.kr.>"]}, True),
        ({}, {"deny": ["news.*.*"]}, False),
        ({}, {"allow": ["prices.>", "news.*", "status.*", "demand_ask"]}, True),
        (
            {},
            {"allow": ["prices.>", "news.>", "*.*", "demand_ask", "_INBOX.> q"]},
            False,
        ),
    ],
)
def test_permissions_are_judged_as_the_server_does(
    publish: dict[str, Any], subscribe: dict[str, Any], refused: bool
) -> None:
    found = bad(granted(publish=publish, subscribe=subscribe), "edge")

    assert [f.level for f in found] == ([Level.FAIL] if refused else [])


def test_the_clock_is_late_only_beyond_doubt() -> None:
    assert bad(healthy(clock=ClockFacts(-0.16, 0.1)))[0].level is Level.WARN
    assert bad(healthy(clock=ClockFacts(0.14, 0.1))) == []
    assert bad(healthy(clock=None))[0].level is Level.UNKNOWN


def test_a_feed_whose_ingest_is_gone_is_named() -> None:
    old = [Newest("ls", "STATUS", NOW - 60 * 10**9), Newest("ls", "NEWS", 0)]

    assert [f.about for f in bad(healthy(newest=old))] == ["ls status"]


def test_a_consumer_for_each_client_is_odd() -> None:
    many = [{"name": f"c{n}", "num_pending": n} for n in range(101)]
    found = bad(healthy(consumers={"NEWS": many}))

    assert "c100 by 100" in found[0].text
    assert bad(healthy(consumers={"NEWS": many[:3]})) == []


def test_a_consumer_that_falls_behind_is_odd_and_what_is_not_told_unknown() -> None:
    late = [{"name": "c", "num_pending": 50_000}]
    levels = {
        finding.about: finding.level
        for finding in bad(healthy(consumers={"NEWS": late, "GAPS": None, "PINS": []}))
    }

    assert levels == {"consumers NEWS": Level.WARN, "consumers GAPS": Level.UNKNOWN}


@pytest.mark.parametrize(
    ("name", "changes", "level"),
    [
        ("NEWS", {"max_msgs": 10}, Level.WARN),
        ("PRICES", {"max_age": 60 * 10**9}, Level.WARN),
        ("PINS", {"max_msg_size": 4}, Level.WARN),
        ("NEWS", {"sealed": True}, Level.FAIL),
    ],
)
def test_a_limit_that_nobody_wants_is_odd(
    name: str, changes: dict[str, Any], level: Level
) -> None:
    assert level in [found.level for found in bad(with_stream(name, **changes))]


def test_a_cluster_is_expected_to_keep_three_copies() -> None:
    assert usual_replicas(healthy()) == 3
    assert usual_replicas(healthy(greetings={URL: None})) == 1


def test_the_table_has_a_line_for_each_finding() -> None:
    lines = table(check(healthy(), 3)).splitlines()

    assert len(lines) == len(check(healthy(), 3))
    assert lines[0].startswith("ok      nats://127.0.0.1:4222  is 2.12.1")
