"""
Settings: read once, from the environment and from secret files, and nowhere else.

A service declares a frozen model; each field is the variable of the same name in upper
case. A bad value ends the process with exit code 2 and one line that names the
variable and never shows its value, since a password may have landed in the wrong one.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from annotated_types import Gt, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    SecretStr,
    model_validator,
)
from pydantic import ValidationError as PydanticError

from feedmesh.errors import SettingsError
from feedmesh.symbols import parse_symbol


__all__ = [
    "Duration",
    "HttpUrl",
    "NatsUrls",
    "Port",
    "ServiceSettings",
    "Symbols",
    "WebSocketUrl",
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MAX_SYMBOLS = 20_000
_SEED = re.compile(r"SU[A-Z2-7]{56}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("needs a number and a unit, such as 250ms, 30s, 5m or 1h")
    return float(match[1]) * _UNITS[match[2]]


def _url(value: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(value)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"needs a host and one of the schemes {', '.join(schemes)}")
    if parts.password is not None or parts.username is not None:
        raise ValueError("must not hold a user or password; use the settings for them")
    return value


def _websocket_url(value: str) -> str:
    return _url(value, ("ws", "wss"))


def _http_url(value: str) -> str:
    return _url(value, ("http", "https")).rstrip("/")


def _nats_urls(value: object) -> object:
    if not isinstance(value, str):
        return value
    urls = [part.strip() for part in value.split(",") if part.strip()]
    if not urls:
        raise ValueError("needs at least one URL")
    return tuple(_url(url, ("nats", "tls")) for url in urls)


def _symbols(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = [part for part in re.split(r"[,\s]+", value) if part]
    if len(names) > _MAX_SYMBOLS:
        raise ValueError(f"holds more than {_MAX_SYMBOLS} symbols")
    if names == ["*"]:
        return ("*",)
    return tuple(dict.fromkeys(parse_symbol(name) for name in names))


Duration = Annotated[float, BeforeValidator(_duration)]
"""Seconds; written with a unit: ``250ms``, ``30s``, ``5m``, ``1h``."""

WebSocketUrl = Annotated[str, AfterValidator(_websocket_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
NatsUrls = Annotated[tuple[str, ...], BeforeValidator(_nats_urls)]
"""One or several URLs, comma-separated; any of them may serve."""

Symbols = Annotated[tuple[str, ...], BeforeValidator(_symbols)]
"""Symbols, separated by commas or blanks; doubles count once; ``*`` stands for all."""


def _port(value: int) -> int:
    if not 0 <= value <= 65535:
        raise ValueError("needs a number from 0 to 65535; 0 lets the system choose")
    return value


Port = Annotated[int, AfterValidator(_port)]


def _level(value: str) -> str:
    level = value.upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("needs DEBUG, INFO, WARNING or ERROR")
    return level


def _seed(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _SEED.fullmatch(value.get_secret_value().strip()):
        raise ValueError("needs the seed of a user, which begins with SU")
    return value


def _inbox(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError("needs a subject without wildcards, such as _INBOX.edge")
    return value


def _certificates(path: Path | None) -> Path | None:
    # Now, not at the first connect: a bad file is a bad setting.
    if path is not None:
        try:
            ssl.create_default_context(cafile=str(path))
        except OSError as error:
            name = type(error).__name__
            raise ValueError(f"holds no certificates ({name})") from None
    return path


class ServiceSettings(BaseModel, frozen=True, extra="forbid"):
    """
    What an operator can change in every service.

    Attributes:
        nats_url: Where NATS is; several URLs, comma-separated, for a cluster.
        nats_user: User name at NATS, if it asks for one.
        nats_password: Its password.
        nats_nkey: Seed of an nkey, which proves who we are without a password.
        nats_ca_file: Certificates that NATS must show one of; no others are trusted,
            and nothing is said to a server without TLS.
        nats_inbox: Answers come below this subject; one's own, where permissions ask.
        ops_host: Address of /healthz, /readyz and /metrics.
        ops_port: Port of the same; 0 lets the system choose.
        log_level: DEBUG, INFO, WARNING or ERROR.
        shutdown_timeout: How long a clean stop may take.
        otel_exporter_otlp_endpoint: Where traces go, over HTTP; none traces nothing.
        otel_traces_sampler_arg: Share of messages that are traced then.
    """

    # Variables that begin so must be known; a misspelt setting is an error.
    own_prefixes: ClassVar[tuple[str, ...]] = ()

    nats_url: NatsUrls = ("nats://127.0.0.1:4222",)
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    nats_nkey: Annotated[SecretStr | None, AfterValidator(_seed)] = None
    nats_ca_file: Annotated[Path | None, AfterValidator(_certificates)] = None
    nats_inbox: Annotated[str, AfterValidator(_inbox)] = "_INBOX"
    ops_host: str = "127.0.0.1"
    ops_port: Port = 0
    log_level: Annotated[str, AfterValidator(_level)] = "INFO"
    shutdown_timeout: Duration = 10.0
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    otel_traces_sampler_arg: Annotated[float, Gt(0), Le(1)] = 0.001

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.nats_nkey is not None and self.nats_user is not None:
            raise ValueError("NATS_NKEY and NATS_USER are both set; set one of them")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """
        Read every field from the variable of its name, or from ``…_FILE``.

        Args:
            environ: The environment of the process; empty values count as not set.

        Raises:
            SettingsError: If a variable is missing, unknown or has a bad value.
        """
        given: dict[str, str] = {}
        for field in cls.model_fields:
            value = _read(environ, field.upper())
            if value is not None:
                given[field] = value
        _refuse_unknown(cls, environ)
        try:
            return cls.model_validate(given)
        except PydanticError as error:
            raise SettingsError(_explain(error)) from None


def _read(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name) or None
    path = environ.get(f"{name}_FILE") or None
    if value is not None and path is not None:
        raise SettingsError(f"{name} and {name}_FILE are both set; set one of them")
    if path is None:
        return value
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{name}_FILE cannot be read ({type(error).__name__})"
        ) from None


def _refuse_unknown(cls: type[ServiceSettings], environ: Mapping[str, str]) -> None:
    known = {field.upper() for field in cls.model_fields}
    known |= {f"{name}_FILE" for name in known}
    for name in sorted(environ):
        if name.startswith(cls.own_prefixes) and name not in known:
            raise SettingsError(f"{name} is not a setting of this service")


def _explain(error: PydanticError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0]).upper()
    if first["type"] == "missing":
        return f"{name} is required"
    return f"{name}: {message[0].lower()}{message[1:]}"
