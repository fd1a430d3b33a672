"""Received = published + deduplicated + rejected + quarantined, after every run."""

from __future__ import annotations

import asyncio

from processes import ServiceProcess, plain_http

from feedmesh.ingest.accounting import Accounts, accounts_of


async def accounts(service: ServiceProcess, seconds: float = 30.0) -> Accounts:
    """Return the accounts of an ingest once nothing waits, or as they are by then."""
    found = Accounts(0, 0, 0, 0, 0, waiting=1)
    async with plain_http(base_url=await service.ops()) as http:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            found = accounts_of((await http.get("/metrics")).text)
            if found.waiting == 0 and found.missing == 0:
                break
            await asyncio.sleep(0.2)
    return found


async def unaccounted(*services: ServiceProcess) -> int:
    """Return how many events of *services* nobody can account for, or still wait."""
    found = [await accounts(service) for service in services]
    return sum(abs(each.missing) + each.waiting for each in found)
