"""
For each alert: series under which it must fire, and some under which it must not.

Values are in promtool's notation (start+step x times, one value each 10 s). Those that
must not fire are as near to the others as they can be: a little less, or a little
shorter, or in the one situation in which it would be wrong.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One alert; `at` is when it is looked at, in minutes."""

    fires: dict[str, str]
    silent: dict[str, str]
    at: int = 6


def flat(value: float, minutes: int = 10) -> str:
    """Return a series that stays the same."""
    return f"{value}+0x{minutes * 6}"


def rising(step: float, minutes: int = 10, first: float = 0) -> str:
    """Return a counter that grows by *step* every 10 s."""
    return f"{first}+{step}x{minutes * 6}"


def checks(name: str, bad: float, minutes: int, labels: str = "") -> dict[str, str]:
    """Return the prober's checks of which so many of ten are *bad*."""
    series = f"feedmesh_prober_{name}_checks_total"
    edge = f'edge="e"{labels}'
    return {
        f'{series}{{{edge},result="bad"}}': rising(bad, minutes),
        f'{series}{{{edge},result="good"}}': rising(10 - bad, minutes),
    }


PRICE = ',feed="fmp",kind="price"'
LINK = '{instance="i",feed="fmp",link="crypto"}'
LEADER = 'feedmesh_ingest_leader{instance="i",feed="fmp"}'
LS_LEADER = 'feedmesh_ingest_leader{instance="i",feed="ls"}'


def burning(name: str, labels: str = "") -> dict[str, Case]:
    """Return the cases of one objective: what burns fast, slowly, and too much."""
    title = f"Feedmesh{name.capitalize()}"
    bad, good = checks(name, 5, 4, labels)
    # Four bad minutes, then three good ones: it must have gone quiet again.
    healed = {bad: "0+5x24 120+0x18", good: "0+5x24 130+10x18"}
    return {
        f"{title}BurnFast": Case(checks(name, 3, 6, labels), healed, at=6),
        f"{title}BurnSlow": Case(
            checks(name, 0.1, 60, labels), checks(name, 0.05, 60, labels), at=50
        ),
        f"{title}Budget": Case(
            checks(name, 0.02, 180, labels), checks(name, 0.005, 180, labels), at=150
        ),
    }


def mute(age: int, market: int, confirmed: int = 1) -> dict[str, str]:
    """Return a link that was last heard *age* seconds before the tenth minute."""
    return {
        f"feedmesh_ingest_last_data_timestamp_seconds{LINK}": flat(600 - age),
        f"feedmesh_ingest_link_up{LINK}": flat(1),
        f"feedmesh_ingest_subscriptions_confirmed{LINK}": flat(confirmed),
        f"feedmesh_ingest_market_open{LINK}": flat(market),
        f"feedmesh_ingest_received_total{LINK}": rising(100),
    }


def mute_for_hours(per_second: float) -> dict[str, str]:
    """Return a link that is heard *per_second* for an hour, and then for two not."""
    return {
        f"feedmesh_ingest_last_data_timestamp_seconds{LINK}": "0+10x360 3600x720",
        f"feedmesh_ingest_link_up{LINK}": flat(1, 180),
        f"feedmesh_ingest_subscriptions_confirmed{LINK}": flat(1, 180),
        f"feedmesh_ingest_market_open{LINK}": flat(1, 180),
        f"feedmesh_ingest_received_total{LINK}": (
            f"0+{10 * per_second}x360 {3600 * per_second}x720"
        ),
        f'feedmesh_ingest_link_flow{LINK[:-1]},flow="quiet"}}': "0x390 1x690",
        LEADER: flat(1, 180),
    }


def received(then: float, market: int = 1) -> dict[str, str]:
    """Return a link that brings 1,000 events in 10 s, and *then* so many."""
    labels = '{instance="i",feed="fmp",link="crypto"}'
    return {
        f"feedmesh_ingest_received_total{labels}": f"0+1000x48 48000+{then}x12",
        f"feedmesh_ingest_market_open{labels}": flat(market),
    }


def scraped(job: str, value: int) -> dict[str, str]:
    """Return whether a service of *job* could be scraped."""
    return {f'up{{job="{job}",instance="i"}}': flat(value)}


def one(series: str, fires: str, silent: str, at: int = 6) -> Case:
    """Return the case of an alert on a single series."""
    return Case({series: fires}, {series: silent}, at)


CASES: dict[str, Case] = {
    **burning("availability"),
    **burning("freshness", PRICE),
    "FeedmeshCanaryLost": Case(
        {
            'feedmesh_prober_canaries_total{edge="e",feed="ls",kind="news",'
            'result="lost"}': "0x30 1x30"
        },
        {
            'feedmesh_prober_canaries_total{edge="e",feed="ls",kind="news",'
            'result="seen"}': rising(1),
            # A price that is lost is healed by the next one.
            'feedmesh_prober_canaries_total{edge="e",feed="ls",kind="price",'
            'result="lost"}': "0x30 1x30",
        },
        at=8,
    ),
    "FeedmeshDeliverySlow": Case(
        {
            'feedmesh_prober_latency_seconds_bucket{edge="e",kind="price",le="0.1"}': (
                rising(8, 20)
            ),
            'feedmesh_prober_latency_seconds_count{edge="e",kind="price"}': (
                rising(10, 20)
            ),
        },
        {
            'feedmesh_prober_latency_seconds_bucket{edge="e",kind="price",le="0.1"}': (
                rising(9.9, 20)
            ),
            'feedmesh_prober_latency_seconds_count{edge="e",kind="price"}': (
                rising(10, 20)
            ),
        },
        at=15,
    ),
    "FeedmeshProberDown": Case(scraped("prober", 0), scraped("prober", 1)),
    "FeedmeshIngestDead": Case(
        {
            'feedmesh_edge_feed_heard{feed="fmp",instance="a"}': flat(0),
            'feedmesh_bus_connected{job="edge",instance="a"}': flat(1),
        },
        {
            'feedmesh_edge_feed_heard{feed="fmp",instance="a"}': flat(0),
            'feedmesh_bus_connected{job="edge",instance="a"}': flat(1),
            # Another edge hears it: that edge has a problem, not the feed.
            'feedmesh_edge_feed_heard{feed="fmp",instance="b"}': flat(1),
        },
    ),
    "FeedmeshIngestReplicaDown": Case(
        scraped("ingest-fmp", 0),
        {'up{job="ingest-fmp",instance="i"}': "1x45 0x15"},
        at=10,
    ),
    "FeedmeshLinkDown": Case(
        {
            'feedmesh_ingest_link_state{instance="i",feed="fmp",link="crypto",'
            'state="down"}': flat(1),
            LEADER: flat(1),
        },
        {
            'feedmesh_ingest_link_state{instance="i",feed="fmp",link="crypto",'
            'state="connecting"}': flat(1),
            LEADER: flat(0),
        },
    ),
    "FeedmeshUpstreamMute": Case(mute(50, market=1), mute(50, market=0), at=10),
    "FeedmeshRateDegraded": Case(received(20), received(400), at=10),
    "FeedmeshSubscriptionsUnconfirmed": Case(
        {
            f"feedmesh_ingest_subscriptions_desired{LINK}": flat(5, 20),
            f"feedmesh_ingest_subscriptions_confirmed{LINK}": flat(4, 20),
            LEADER: flat(1, 20),
        },
        {
            f"feedmesh_ingest_subscriptions_desired{LINK}": flat(5, 20),
            f"feedmesh_ingest_subscriptions_confirmed{LINK}": "4x20 5x100",
            LEADER: flat(1, 20),
        },
        at=15,
    ),
    "FeedmeshReconnecting": one(
        f"feedmesh_ingest_connects_total{LINK}", rising(1.2), rising(0.3)
    ),
    "FeedmeshLeadershipFlapping": one(
        LEADER.replace("leader", "epoch_timestamp_seconds"),
        "100x54 110 110 120 120 130 140",
        "100x54 110 110 110 120 120 120",
        at=10,
    ),
    "FeedmeshDeadLetters": one(
        'feedmesh_ingest_quarantined_total{feed="fmp",reason="json"}',
        rising(5),
        rising(1),
    ),
    "FeedmeshNewsBacklog": one(
        'feedmesh_ingest_backlog{feed="ls",kind="news"}',
        flat(9),
        "9 9 0 9 9 0x10 9 0 9",
    ),
    "FeedmeshSpoolNearlyFull": Case(
        {
            "feedmesh_ingest_ls_spool_bytes": flat(90),
            "feedmesh_ingest_ls_spool_limit_bytes": flat(100),
        },
        {
            "feedmesh_ingest_ls_spool_bytes": flat(70),
            "feedmesh_ingest_ls_spool_limit_bytes": flat(100),
        },
    ),
    "FeedmeshSpoolBroken": one("feedmesh_ingest_ls_spool_failed", "0x30 2x30", flat(2)),
    "FeedmeshTokenExpired": Case(
        {
            'feedmesh_ingest_ls_token_expiry_timestamp_seconds{instance="i"}': (
                flat(60, 40)
            ),
            LS_LEADER: flat(1, 40),
        },
        # Of a standby, the token may well have ended.
        {
            'feedmesh_ingest_ls_token_expiry_timestamp_seconds{instance="i"}': (
                flat(60, 40)
            ),
            LS_LEADER: flat(0, 40),
        },
        at=30,
    ),
    "FeedmeshClockSkew": one(
        'feedmesh_edge_clock_skew_seconds{job="edge",instance="i"}',
        flat(-0.2),
        flat(0.2),
    ),
    "FeedmeshEdgesDown": Case(
        scraped("edge", 0),
        {
            'up{job="edge",instance="a"}': flat(0),
            'up{job="edge",instance="b"}': flat(1),
        },
    ),
    "FeedmeshEdgeDown": Case(scraped("edge", 0), scraped("edge", 1)),
    "FeedmeshEdgeLag": one(
        'feedmesh_loop_lag_worst_seconds{job="edge"}', flat(0.4), flat(0.2)
    ),
    "FeedmeshSlowClients": one("feedmesh_edge_clients_slow", flat(21), flat(20)),
    "FeedmeshEdgeBehind": Case(
        {
            'feedmesh_nats_stream_last_sequence{stream="NEWS"}': flat(500),
            'feedmesh_edge_read_sequence{stream="NEWS",instance="i"}': flat(300),
        },
        {
            'feedmesh_nats_stream_last_sequence{stream="NEWS"}': flat(500),
            'feedmesh_edge_read_sequence{stream="NEWS",instance="i"}': flat(450),
        },
    ),
    "FeedmeshNewsHoles": one("feedmesh_edge_news_holes_total", "0x30 1x30", flat(1)),
    "FeedmeshPricesLost": one(
        "feedmesh_edge_lost_on_bus_total", rising(1), rising(0.2)
    ),
    "FeedmeshMessagesUnreadable": one(
        "feedmesh_edge_messages_unreadable_total", rising(1), flat(7)
    ),
    "FeedmeshKeysBroken": one("feedmesh_edge_auth_keys_broken", flat(1), flat(0)),
    "FeedmeshNatsDown": Case(
        {'feedmesh_bus_connected{job="edge"}': flat(0)},
        {
            'feedmesh_bus_connected{job="edge"}': flat(0),
            'feedmesh_bus_connected{job="ingest-ls"}': flat(1),
        },
    ),
    "FeedmeshNatsNodeDown": Case(
        {'feedmesh_nats_up{node="a"}': flat(0), 'feedmesh_nats_up{node="b"}': flat(1)},
        # Of all servers at once, another alert tells; and they come back in turn.
        {
            'feedmesh_nats_up{node="a"}': "1x29 0x10",
            'feedmesh_nats_up{node="b"}': "1x29 0 0 0 1x10",
        },
    ),
    "FeedmeshBusDisconnected": one(
        'feedmesh_bus_connected{job="edge"}', flat(0), "1x57 0 0 0", at=10
    ),
    "FeedmeshBusRefused": one("feedmesh_bus_refused_subjects", flat(1), flat(0)),
    "FeedmeshBusSlowConsumer": one(
        "feedmesh_bus_slow_consumer_total", "0x40 1x20", flat(3), at=10
    ),
    "FeedmeshStreamBehind": one(
        'feedmesh_nats_stream_replicas_behind{stream="NEWS"}',
        flat(1),
        "0x40 1x20",
        at=10,
    ),
    "FeedmeshDiskNearlyFull": Case(
        {
            'feedmesh_nats_store_bytes{node="n"}': flat(90),
            'feedmesh_nats_store_limit_bytes{node="n"}': flat(100),
        },
        {
            'feedmesh_nats_store_bytes{node="n"}': flat(90),
            # Without a limit, nothing is nearly full.
            'feedmesh_nats_store_limit_bytes{node="n"}': flat(0),
        },
    ),
    "FeedmeshCertificateExpiring": one(
        'feedmesh_certificate_expiry_timestamp_seconds{endpoint="e"}',
        flat(86_400),
        flat(15 * 86_400),
    ),
}

# What an alert must tell apart besides.
MORE_CASES: tuple[tuple[str, Case], ...] = (
    # Somebody is interested in a symbol that is hardly traded.
    ("FeedmeshUpstreamMute", Case(mute_for_hours(10), mute_for_hours(0.01), at=170)),
)
