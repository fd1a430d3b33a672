"""Start the FMP ingest."""

from __future__ import annotations

import asyncio
import logging

from feedmesh.ingest.process import run_replica
from feedmesh.service import run_service
from ingest_fmp.replica import Replica
from ingest_fmp.settings import Settings


logger = logging.getLogger(__name__)


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Stand by and lead in turns until *stop* is set."""
    if settings.key_goes_nowhere:
        logger.warning("FMP_API_KEY is set, but the URLs lead to this machine")
    await run_replica(
        "ingest-fmp",
        settings,
        stop,
        lambda bus, registry: Replica(settings, bus, registry),
    )


if __name__ == "__main__":
    run_service("ingest-fmp", Settings, main)
