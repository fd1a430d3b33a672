"""Settings of the LS ingest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from feedmesh.settings import Duration, HttpUrl, Port, ServiceSettings, WebSocketUrl


__all__ = ["Settings"]

# Only the simulator takes it.
_SIMULATED = "simulator"
_REAL_HOST = "ls-sec.co.kr"
_CODE = re.compile(r"[0-9][0-9A-Z]{5}", re.ASCII)


def _codes(value: object) -> object:
    if not isinstance(value, str):
        return value
    codes = [part.upper() for part in re.split(r"[,\s]+", value) if part]
    if not all(_CODE.fullmatch(code) for code in codes):
        raise ValueError("needs Korean codes of six characters, such as 005930")
    return tuple(dict.fromkeys(codes))


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    """
    What an operator can change; by default it reads from the simulator.

    Attributes:
        ls_app_key: Sent to the token endpoint, in the body of the request.
        ls_app_secret: The same.
        ls_rest_url: Token endpoint and stock masters.
        ls_ws_url: The real-time socket; only the path ``/websocket`` works.
        ls_stock_codes: Korean stocks whose trades always flow.
        ls_silence: Without any frame for so long, the link is presumed dead. News are
            quiet at night; a dead socket is found by its pings long before.
        ls_grace: How long a stock is kept after the last who wanted it.
        ls_token_file: Where the token is kept between starts; none keeps it in memory.
        ls_canary: Between two canaries, prices and news of nobody that show that the
            way works; ``0s`` sends none.
        ls_ca_file: Certificates that are trusted besides the system's.
        ls_spool_dir: Where news wait while NATS is away, on a disk of this replica's
            own; without it they wait in memory, and a crash loses them.
        ls_spool_max: How many MiB may wait there; beyond, the newest are lost, counted
            and told by a gap record. The files take up to five times as much.
    """

    own_prefixes: ClassVar[tuple[str, ...]] = ("LS_",)

    ops_port: Port = 9203
    ls_app_key: SecretStr = SecretStr(_SIMULATED)
    ls_app_secret: SecretStr = SecretStr(_SIMULATED)
    ls_rest_url: HttpUrl = "http://127.0.0.1:9105"
    ls_ws_url: WebSocketUrl = "ws://127.0.0.1:9106/websocket"
    ls_stock_codes: Annotated[tuple[str, ...], BeforeValidator(_codes)] = ()
    ls_silence: Duration = 1800.0
    ls_grace: Duration = 60.0
    ls_token_file: Path | None = None
    ls_canary: Duration = 0.0
    ls_ca_file: Path | None = None
    ls_spool_dir: Path | None = None
    ls_spool_max: Annotated[int, Field(ge=1, le=1_048_576)] = 256

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        hosts = [
            urlsplit(url).hostname or "" for url in (self.ls_rest_url, self.ls_ws_url)
        ]
        if any(host.endswith(_REAL_HOST) for host in hosts):
            for name in ("ls_app_key", "ls_app_secret"):
                secret: SecretStr = getattr(self, name)
                if secret.get_secret_value() == _SIMULATED:
                    raise ValueError(
                        f"{name.upper()} is required for the real upstream"
                    )
        return self
