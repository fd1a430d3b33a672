"""Settings of the prober."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import Gt
from pydantic import BeforeValidator, SecretStr

from feedmesh.settings import Duration, Port, ServiceSettings


__all__ = ["Settings"]


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(
        dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
    )


def _urls(*schemes: str) -> BeforeValidator:
    def check(value: object) -> object:
        urls = _names(value)
        for url in urls if isinstance(urls, tuple) else ():
            parts = urlsplit(url)
            if parts.scheme not in schemes or not parts.hostname:
                known = ", ".join(schemes)
                raise ValueError(f"needs a host and one of the schemes {known}")
        return urls

    return BeforeValidator(check)


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    """
    What an operator can change about the prober.

    Attributes:
        prober_edges: Where edges serve ``/api/v3/stream``; each is watched.
        prober_token: What the prober shows them, if they ask for tokens.
        prober_feeds: Feeds whose canaries must come.
        prober_news_feeds: Those of them that send news too.
        prober_price_age: A price canary must come at least so often.
        prober_news_age: A news canary must come at least so often.
        prober_nats: Where the servers of NATS tell how they are, their monitoring
            ports; none leaves them unwatched.
        prober_certificates: Whose end is watched: ``host:port`` of TLS servers, and
            paths of PEM files.
        prober_every: Between two looks at NATS and at certificates.
    """

    own_prefixes: ClassVar[tuple[str, ...]] = ("PROBER_",)

    ops_port: Port = 9204
    prober_edges: Annotated[tuple[str, ...], _urls("ws", "wss")] = (
        "ws://127.0.0.1:8080/api/v3/stream",
    )
    prober_token: SecretStr | None = None
    prober_feeds: Names = ("fmp", "ls")
    prober_news_feeds: Names = ("ls",)
    prober_price_age: Annotated[Duration, Gt(0)] = 5.0
    prober_news_age: Annotated[Duration, Gt(0)] = 45.0
    prober_nats: Annotated[tuple[str, ...], _urls("http", "https")] = ()
    prober_certificates: Names = ()
    prober_every: Annotated[Duration, Gt(0)] = 5.0
