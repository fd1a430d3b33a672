"""Settings of the FMP ingest."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from feedmesh.ingest.wire import tls_context
from feedmesh.settings import Duration, Port, ServiceSettings, Symbols, WebSocketUrl
from feedmesh.symbols import market_of


__all__ = ["Settings"]

# Only the simulator takes it.
_SIMULATED_KEY = "simulator"
_REAL_HOST = "financialmodelingprep.com"


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(
        dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
    )


def _certificates(path: Path | None) -> Path | None:
    # Now, not at the first connect: a bad file is a bad setting.
    try:
        tls_context(path)
    except OSError as error:
        raise ValueError(f"holds no certificates ({type(error).__name__})") from None
    return path


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0")
    return seconds


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    """
    What an operator can change; by default it reads from the simulator.

    Attributes:
        fmp_api_key: Sent in the login message, and nowhere else.
        fmp_product: ``legacy`` (a socket for each kind of asset, by ticker) or
            ``stream`` (one socket, whole streams).
        fmp_stocks_url: Legacy socket of US stocks.
        fmp_crypto_url: Legacy socket of crypto pairs.
        fmp_forex_url: Legacy socket of currencies and metals.
        fmp_stream_url: Socket of the stream product.
        fmp_streams: Names of the streams to subscribe to.
        fmp_symbols: Always subscribed; ``*`` (stream product only) publishes all.
        fmp_crypto_venue: The venue that leads a pair whenever it is heard.
        fmp_silence: Without any frame for so long, a link is presumed dead.
        fmp_ping: Between protocol pings; ``0s`` sends none.
        fmp_grace: How long a symbol is kept after the last who wanted it.
        fmp_canary: Between two canaries, prices of no symbol that show that the way
            works; ``0s`` sends none.
        fmp_ca_file: Certificates that are trusted besides the system's.
    """

    own_prefixes: ClassVar[tuple[str, ...]] = ("FMP_",)

    ops_port: Port = 9202
    fmp_api_key: SecretStr = SecretStr(_SIMULATED_KEY)
    fmp_product: Literal["legacy", "stream"] = "legacy"
    fmp_stocks_url: WebSocketUrl = "ws://127.0.0.1:9101"
    fmp_crypto_url: WebSocketUrl = "ws://127.0.0.1:9102"
    fmp_forex_url: WebSocketUrl = "ws://127.0.0.1:9103"
    fmp_stream_url: WebSocketUrl = "ws://127.0.0.1:9104"
    fmp_streams: Annotated[tuple[str, ...], BeforeValidator(_names)] = (
        "fmp-us-equities-stream",
        "fmp-crypto-stream",
        "fmp-currency-stream",
    )
    fmp_symbols: Symbols = ()
    fmp_crypto_venue: str = ""
    fmp_silence: Annotated[Duration, AfterValidator(_positive)] = 75.0
    fmp_ping: Duration = 20.0
    fmp_grace: Duration = 60.0
    fmp_canary: Duration = 0.0
    fmp_ca_file: Annotated[Path | None, AfterValidator(_certificates)] = None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.everything and self.fmp_product != "stream":
            raise ValueError("FMP_SYMBOLS may be * only with FMP_PRODUCT=stream")
        if any(market_of(symbol) == "kr" for symbol in self.fmp_symbols):
            raise ValueError("FMP_SYMBOLS holds Korean codes, which are another feed's")
        if self.fmp_product == "stream" and not self.fmp_streams:
            raise ValueError("FMP_STREAMS must name a stream with FMP_PRODUCT=stream")
        self._check_key()
        return self

    def _check_key(self) -> None:
        hosts = [urlsplit(url).hostname or "" for url in self.urls.values()]
        simulated = self.fmp_api_key.get_secret_value() == _SIMULATED_KEY
        if simulated and any(_is_real(host) for host in hosts):
            raise ValueError("FMP_API_KEY is required for the real upstream")
        # Set on purpose, the simulator's key may be meant for one elsewhere.
        given = "fmp_api_key" in self.model_fields_set
        if not given and not all(_is_loopback(host) for host in hosts):
            raise ValueError("FMP_API_KEY is required for an upstream elsewhere")

    @property
    def everything(self) -> bool:
        """Whether all symbols are published."""
        return "*" in self.fmp_symbols

    @property
    def urls(self) -> dict[str, str]:
        """Where each link of the product leads."""
        if self.fmp_product == "stream":
            return {"stream": self.fmp_stream_url}
        return {
            "stocks": self.fmp_stocks_url,
            "crypto": self.fmp_crypto_url,
            "forex": self.fmp_forex_url,
        }

    @property
    def key_goes_nowhere(self) -> bool:
        """Whether a key is set though only this machine is asked: worth a warning."""
        hosts = [urlsplit(url).hostname or "" for url in self.urls.values()]
        return self.fmp_api_key.get_secret_value() != _SIMULATED_KEY and all(
            _is_loopback(host) for host in hosts
        )


def _is_real(host: str) -> bool:
    return host == _REAL_HOST or host.endswith(f".{_REAL_HOST}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
