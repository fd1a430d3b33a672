"""What the command line can change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.ls_tokens import AppKey
from simulator.news import REALISTIC_PER_MINUTE


# Offsets from the base port, in this order.
PORTS = (
    "control",
    "fmp.stocks",
    "fmp.crypto",
    "fmp.forex",
    "fmp.stream",
    "ls.rest",
    "ls.ws",
    "ls.paper",
)


@dataclass(frozen=True)
class Settings:
    """One run of the simulator."""

    seed: int = 1
    rate: float = 0.0
    tick: float = 0.01
    news_per_minute: float = REALISTIC_PER_MINUTE
    host: str = "127.0.0.1"
    base_port: int = 9100
    scenario: Path | None = None
    replay: Path | None = None
    replay_speed: float = 1.0
    api_keys: tuple[str, ...] = ("simulator",)
    fmp_slot: str = "refuse_new"
    fmp_heartbeat_seconds: float = 10.0
    crypto_venues: tuple[str, ...] = ("binance",)
    crypto_timestamp: str = "20 digits"
    ls_app_key: str = "simulator"
    ls_app_secret: str = "simulator"
    ls_paper_app_key: str = "simulator-paper"
    ls_paper_app_secret: str = "simulator-paper"
    ls_page_size: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def app_keys(self) -> dict[str, AppKey]:
        """Return the pairs that the token endpoint accepts, by key."""
        real = AppKey(self.ls_app_key, self.ls_app_secret, "real")
        paper = AppKey(self.ls_paper_app_key, self.ls_paper_app_secret, "paper")
        return {paper.key: paper, real.key: real}
