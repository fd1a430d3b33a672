"""Settings of the FMP ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, model_validator

from feedmesh.settings import Duration, Port, ServiceSettings, Symbols, WebSocketUrl


__all__ = ["Settings"]

# Only the simulator takes it.
_SIMULATED_KEY = "simulator"
_REAL_HOST = "financialmodelingprep.com"


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


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
        fmp_ping: Between protocol pings.
        fmp_grace: How long a symbol is kept after the last who wanted it.
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
    fmp_silence: Duration = 75.0
    fmp_ping: Duration = 20.0
    fmp_grace: Duration = 60.0
    fmp_ca_file: Path | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if "*" in self.fmp_symbols and self.fmp_product != "stream":
            raise ValueError("FMP_SYMBOLS may be * only with FMP_PRODUCT=stream")
        if self.fmp_product == "stream" and not self.fmp_streams:
            raise ValueError("FMP_STREAMS must name a stream with FMP_PRODUCT=stream")
        hosts = [urlsplit(url).hostname or "" for url in self._urls]
        real = any(host.endswith(_REAL_HOST) for host in hosts)
        if real and self.fmp_api_key.get_secret_value() == _SIMULATED_KEY:
            raise ValueError("FMP_API_KEY is required for the real upstream")
        return self

    @property
    def _urls(self) -> tuple[str, ...]:
        if self.fmp_product == "stream":
            return (self.fmp_stream_url,)
        return self.fmp_stocks_url, self.fmp_crypto_url, self.fmp_forex_url
