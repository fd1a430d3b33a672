"""
A peer: FastAPI, and one ``send_text`` for each client that listens.

As the connection manager in FastAPI's documentation does it. Prints its port, serves
until it is ended.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict

import nats
import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from nats.aio.msg import Msg

from feedmesh import messages, subjects
from feedmesh.service import bind


async def main(nats_url: str) -> None:
    """Serve what NATS brings until the process is ended."""
    app = FastAPI()
    listeners: dict[str, set[WebSocket]] = defaultdict(set)

    @app.websocket("/")
    async def prices(websocket: WebSocket) -> None:
        await websocket.accept()
        own: set[str] = set()
        try:
            while True:
                request = await websocket.receive_json()
                for symbol in request["symbols"]:
                    own.add(symbol)
                    listeners[symbol].add(websocket)
        except WebSocketDisconnect:
            for symbol in own:
                listeners[symbol].discard(websocket)

    async def update(message: Msg) -> None:
        _, frame = messages.split(message.data)
        text = frame.decode()
        for websocket in list(listeners[message.subject.rsplit(".", 1)[1]]):
            await websocket.send_text(text)

    client = await nats.connect(nats_url)
    await client.subscribe(
        subjects.ALL_PRICES, cb=update, pending_msgs_limit=-1, pending_bytes_limit=-1
    )
    listener = bind("127.0.0.1", 0, "port")
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, log_level="error", ws_per_message_deflate=False)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
