"""
A stand-in for an ingest that leads and whose log is full: ``python -m faults.hushed``.

It says where its metrics are, then sixty lines that tell nothing, then nothing more.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer


_METRICS = """\
feedmesh_ingest_leader{feed="ls"} 1.0
feedmesh_ingest_link_up{feed="ls",link="news"} 1.0
"""


class _Ops(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(_METRICS.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Run until killed."""
    server = HTTPServer(("127.0.0.1", 0), _Ops)
    say("ops endpoints are up", ops_port=server.server_port)
    # It had led before, and stood by; what came since was held back.
    for event in ("standing by", *["a line"] * 59):
        say(event)
    server.serve_forever()


def say(event: str, **extra: object) -> None:
    line = {"event": event, "at": datetime.now(UTC).isoformat(), **extra}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
