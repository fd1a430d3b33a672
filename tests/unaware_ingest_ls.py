"""
The LS ingest on a slow network: that another leads, it learns two seconds late.

Until then nothing but the stream can stop it from writing. With ``UNFENCED`` set the
stream is not asked to: the negative control.
"""

from __future__ import annotations

import asyncio
import os
import runpy

from nats.aio.msg import Msg

from feedmesh.ingest import leadership, reign
from feedmesh.ingest.epoch import Claim


_LATE_SECONDS = 2.0

_heard = leadership.Leadership._heard
_check = reign.Reign._check


async def _hear(self: leadership.Leadership, message: Msg) -> None:
    if self._reign is None:
        await _heard(self, message)


async def _check_late(self: reign.Reign) -> None:
    await asyncio.sleep(_LATE_SECONDS)
    await _check(self)


if __name__ == "__main__":
    leadership.Leadership._heard = _hear  # type: ignore[method-assign]
    reign.Reign._check = _check_late  # type: ignore[method-assign]
    if os.environ.get("UNFENCED"):
        Claim.headers = lambda claim: {}  # type: ignore[method-assign, assignment]
    runpy.run_module("ingest_ls", run_name="__main__")
