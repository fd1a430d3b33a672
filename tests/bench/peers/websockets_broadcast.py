"""
A peer: the ``websockets`` server and its ``broadcast``.

Prints its port, serves until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict

import nats
import uvloop
from nats.aio.msg import Msg
from websockets.asyncio.server import ServerConnection, broadcast, serve

from feedmesh import messages, subjects


async def main(nats_url: str) -> None:
    """Serve what NATS brings until the process is ended."""
    listeners: dict[str, set[ServerConnection]] = defaultdict(set)

    async def prices(connection: ServerConnection) -> None:
        own: set[str] = set()
        try:
            async for request in connection:
                for symbol in json.loads(request)["symbols"]:
                    own.add(symbol)
                    listeners[symbol].add(connection)
        finally:
            for symbol in own:
                listeners[symbol].discard(connection)

    async def update(message: Msg) -> None:
        _, frame = messages.split(message.data)
        broadcast(listeners[message.subject.rsplit(".", 1)[1]], frame.decode())

    client = await nats.connect(nats_url)
    await client.subscribe(
        subjects.ALL_PRICES, cb=update, pending_msgs_limit=-1, pending_bytes_limit=-1
    )
    async with serve(prices, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(json.dumps({"port": port}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
