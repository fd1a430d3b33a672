"""Settings of the edge."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from annotated_types import Gt
from pydantic import BeforeValidator, PositiveInt, model_validator

from feedmesh.settings import Duration, Port, ServiceSettings


__all__ = ["Settings"]

# After the drain: the last answers to close frames, then NATS, which may be away.
_CLOSING_SECONDS = 4.0
_HOST = re.compile(r"\*|(\*\.)?[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]")


def _origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(part.strip() for part in value.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (
            parts.scheme not in ("http", "https") or not parts.netloc or parts.path
        ):
            raise ValueError(
                "needs origins such as https://example.org, without a path or a"
                " slash at the end, or *"
            )
    return origins


def _keys_file(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        raise ValueError("needs the path of a file; keys are not fetched from a URL")
    return value


def _hosts(value: object) -> object:
    if not isinstance(value, str):
        return value
    hosts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not hosts or not all(_HOST.fullmatch(host) for host in hosts):
        raise ValueError(
            "needs names such as feed.example.org or *.example.org, or *, no ports"
        )
    return hosts


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    """
    What an operator can change about the edge.

    Attributes:
        edge_host: Address that clients connect to.
        edge_port: Port that clients connect to; 0 lets the system choose.
        edge_name: Of this edge among others, for its announcements of demand.
        edge_origins: Origins of pages that may connect; ``*`` is all.
        edge_hosts: Names that requests may be for; ``*.x`` is all below x, ``*`` all.
        edge_handshake: How long a client may take to send a request, and its body.
        edge_arrivals: New WebSockets a second; more are told to come back later.
        edge_arrivals_burst: How many may come at once before that counts.
        edge_max_clients: More than this many WebSockets are refused with 503.
        edge_spare_connections: Sockets beyond those, for REST and handshakes.
        edge_max_symbols: How many symbols one client may have subscribed.
        edge_max_message: Largest message of a client, in bytes.
        edge_rest_rate: REST requests a second that one address may make for long; twice
            as many may come at once.
        edge_stuck: A client that does not take what waits for it in so long is closed.
        edge_ping: How often a client is pinged, and how long it may take to answer.
        edge_drain: Over how long clients are sent away at shutdown, if they are many.
        edge_history: Live updates kept of each feed, for clients that want every one.
        edge_replay: How many messages of the news stream a client may have missed and
            still be given all of them.
        edge_auth_keys_file: File with the keys that verify clients' tokens, a JWK set;
            none asks for no tokens. Read again when it changes.
        edge_auth_audience: Must be among the audiences of a token.
        edge_auth_issuer: Must be the issuer of a token; none takes any.
        edge_auth_legacy: ``open`` asks for no token outside ``/api/v3``.
    """

    own_prefixes: ClassVar[tuple[str, ...]] = ("EDGE_",)

    ops_port: Port = 9201
    shutdown_timeout: Duration = 20.0
    edge_host: str = "127.0.0.1"
    edge_port: Port = 8080
    edge_name: str = socket.gethostname()
    edge_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ("*",)
    edge_hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts)] = ("*",)
    edge_handshake: Annotated[Duration, Gt(0)] = 10.0
    edge_arrivals: PositiveInt = 500
    edge_arrivals_burst: PositiveInt = 2_000
    edge_max_clients: PositiveInt = 10_000
    edge_spare_connections: PositiveInt = 1_000
    edge_max_symbols: PositiveInt = 2_000
    edge_max_message: PositiveInt = 64 * 1024
    edge_rest_rate: PositiveInt = 100
    edge_stuck: Duration = 30.0
    edge_ping: Annotated[Duration, Gt(0)] = 20.0
    edge_drain: Duration = 10.0
    edge_history: PositiveInt = 50_000
    edge_replay: PositiveInt = 20_000
    edge_auth_keys_file: Annotated[Path | None, BeforeValidator(_keys_file)] = None
    edge_auth_audience: str = "feedmesh"
    edge_auth_issuer: str | None = None
    edge_auth_legacy: Literal["open", "required"] = "required"

    @model_validator(mode="after")
    def _drain_fits(self) -> Self:
        if self.edge_drain + _CLOSING_SECONDS > self.shutdown_timeout:
            raise ValueError(
                "EDGE_DRAIN must be shorter than SHUTDOWN_TIMEOUT,"
                f" by {_CLOSING_SECONDS:g}s"
            )
        return self

    @model_validator(mode="after")
    def _auth_has_keys(self) -> Self:
        # Whoever sets one of them believes that tokens are asked for.
        others = {"edge_auth_audience", "edge_auth_issuer", "edge_auth_legacy"}
        if self.edge_auth_keys_file is None and others & self.model_fields_set:
            raise ValueError("EDGE_AUTH_... settings need EDGE_AUTH_KEYS_FILE")
        return self
