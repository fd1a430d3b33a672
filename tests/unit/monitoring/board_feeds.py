"""Each feed: is it alive, what becomes of what it brings, what was interrupted."""

from __future__ import annotations

from .panels import Board, Panel, Query, now, rate


__all__ = ["FEEDS"]

_INGEST = "feedmesh_ingest_"

FEEDS = Board(
    "feedmesh-feeds",
    "feedmesh: feed health",
    {
        "Is it alive?": (
            Panel(
                "Age of data",
                "s",
                (
                    Query(
                        f"time() - ({_INGEST}last_data_timestamp_seconds > 0)",
                        "{{feed}} {{link}} data",
                    ),
                    Query(
                        f"time() - ({_INGEST}last_frame_timestamp_seconds > 0)",
                        "{{feed}} {{link}} any frame",
                    ),
                ),
                "Data that is old while frames are young: the upstream is mute.",
            ),
            Panel(
                "State of links",
                "none",
                (Query(f"{_INGEST}link_state == 1", "{{feed}} {{link}} {{state}}"),),
            ),
            Panel(
                "Alive, logged in, flowing, market open",
                "none",
                (
                    now(f"{_INGEST}link_alive", "feed", "link"),
                    now(f"{_INGEST}link_logged_in", "feed", "link"),
                    Query(f"{_INGEST}link_flow == 1", "{{feed}} {{link}} {{flow}}"),
                    Query(f"{_INGEST}market_open", "{{feed}} {{link}} market"),
                ),
                "Four different things; silence of a closed market is none of them.",
            ),
            Panel(
                "Received",
                "ops",
                (
                    now("feedmesh:received:rate40s", "feed", "link"),
                    Query("feedmesh:received:usual", "{{feed}} {{link}} last hour"),
                ),
            ),
            Panel(
                "Frames with data against what is usual",
                "ops",
                (
                    now(f"{_INGEST}data_frames_per_second", "feed", "link"),
                    Query(
                        f"{_INGEST}usual_data_frames_per_second",
                        "{{feed}} {{link}} usual",
                    ),
                ),
            ),
            Panel(
                "Subscriptions",
                "none",
                (
                    Query(
                        f"{_INGEST}subscriptions_desired", "{{feed}} {{link}} desired"
                    ),
                    Query(
                        f"{_INGEST}subscriptions_confirmed",
                        "{{feed}} {{link}} confirmed",
                    ),
                    rate(f"{_INGEST}subscriptions_unanswered_total", "feed, link"),
                ),
            ),
        ),
        "What becomes of what comes?": (
            Panel(
                "Published", "ops", (rate(f"{_INGEST}published_total", "feed, kind"),)
            ),
            Panel(
                "Duplicates",
                "ops",
                (rate(f"{_INGEST}deduplicated_total", "feed, kind"),),
            ),
            Panel(
                "Rejected", "ops", (rate(f"{_INGEST}rejected_total", "feed, reason"),)
            ),
            Panel(
                "Not understood",
                "ops",
                (
                    rate(f"{_INGEST}quarantined_total", "feed, reason"),
                    rate(f"{_INGEST}dead_letters_total", "feed, result"),
                ),
            ),
            Panel(
                "Odd",
                "ops",
                (
                    rate(f"{_INGEST}flagged_total", "feed, flag"),
                    rate(f"{_INGEST}unknown_fields_total", "feed"),
                ),
            ),
            Panel(
                "Control frames",
                "ops",
                (rate(f"{_INGEST}control_frames_total", "feed, link, control"),),
            ),
        ),
        "What was interrupted?": (
            Panel(
                "Connects, and ends by reason",
                "ops",
                (
                    rate(f"{_INGEST}connects_total", "feed, link"),
                    rate(f"{_INGEST}reconnects_total", "feed, link, reason"),
                ),
            ),
            Panel(
                "Gaps",
                "none",
                (
                    Query(
                        f"increase({_INGEST}gaps_total[1h])",
                        "{{feed}} {{link}} {{reason}}",
                    ),
                    Query(
                        f"increase({_INGEST}gaps_filled_total[1h])", "{{feed}} filled"
                    ),
                ),
            ),
            Panel(
                "Seconds in gaps",
                "s",
                (
                    Query(
                        f"increase({_INGEST}gap_seconds_total[1h])", "{{feed}} {{link}}"
                    ),
                ),
            ),
            Panel(
                "Leader",
                "none",
                (
                    now(f"{_INGEST}leader", "feed", "instance"),
                    Query("changes(feedmesh:epoch:newest[10m])", "{{feed}} changes"),
                ),
            ),
            Panel(
                "Waiting for the stream",
                "none",
                (
                    now(f"{_INGEST}backlog", "feed", "kind"),
                    now(f"{_INGEST}ls_spooled", "instance"),
                ),
            ),
            Panel("Sent again", "ops", (rate(f"{_INGEST}resent_total", "feed, kind"),)),
        ),
        "LS": (
            Panel(
                "Token ends in",
                "s",
                (Query(f"({_INGEST}ls_token_expiry_timestamp_seconds > 0) - time()"),),
            ),
            Panel(
                "Tokens taken, companies known",
                "none",
                (
                    Query(
                        f"increase({_INGEST}ls_tokens_issued_total[1d])", "tokens a day"
                    ),
                    Query(f"{_INGEST}ls_master_companies", "companies"),
                ),
            ),
            Panel(
                "Spool",
                "bytes",
                (
                    Query(f"{_INGEST}ls_spool_bytes", "size"),
                    Query(f"{_INGEST}ls_spool_limit_bytes", "limit"),
                ),
            ),
        ),
    },
)
