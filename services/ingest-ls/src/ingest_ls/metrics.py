"""What only the LS ingest exports: of its token, its stock master, and its writing."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from feedmesh.ingest.spools import Spools
from ingest_ls.token import Token


__all__ = ["LsMetrics"]


class LsMetrics:
    """Built once for each process, once for each test."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter(
            "feedmesh_ingest_ls_tokens_issued_total",
            "Tokens that were taken.",
            registry=registry,
        )
        self.token_expiry = Gauge(
            "feedmesh_ingest_ls_token_expiry_timestamp_seconds",
            "When the token in use ends.",
            registry=registry,
        )
        self.companies = Gauge(
            "feedmesh_ingest_ls_master_companies",
            "Companies that the stock master knows.",
            registry=registry,
        )
        self.fenced = Counter(
            "feedmesh_ingest_ls_fenced_total",
            "Writes that the stream refused because another replica has claimed.",
            registry=registry,
        )
        self.spooled = Gauge(
            "feedmesh_ingest_ls_spooled", "News that wait on disk.", registry=registry
        )
        self.spool_bytes = Gauge(
            "feedmesh_ingest_ls_spool_bytes",
            "Bytes of the disk that waiting news take.",
            registry=registry,
        )
        self.spool_limit = Gauge(
            "feedmesh_ingest_ls_spool_limit_bytes",
            "Bytes of the disk that waiting news may take.",
            registry=registry,
        )
        self.spool_torn = Gauge(
            "feedmesh_ingest_ls_spool_torn",
            "Records that a crash had left unfinished, and that were cut off.",
            registry=registry,
        )
        self.spool_failed = Gauge(
            "feedmesh_ingest_ls_spool_failed",
            "Records that the disk did not take, or did not keep.",
            registry=registry,
        )

    def show_spools(self, spools: Spools) -> None:
        """Take over what *spools* have counted."""
        self.spooled.set(len(spools))
        self.spool_bytes.set(spools.size)
        self.spool_torn.set(spools.torn)
        self.spool_failed.set(spools.failed)

    def issued(self, token: Token) -> None:
        """Count *token*."""
        self.tokens.inc()
        self.token_expiry.set(token.expires_at)
