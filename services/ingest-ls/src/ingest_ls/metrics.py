"""What only the LS ingest exports: the life of its token, and its stock master."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

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

    def issued(self, token: Token) -> None:
        """Count *token*."""
        self.tokens.inc()
        self.token_expiry.set(token.expires_at)
