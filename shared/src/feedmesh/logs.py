"""
Logs: one JSON object a line on stderr, few lines, with every secret taken out.

Secrets are registered once, where settings are read; the filter then removes them from
whatever is logged, by us or by a library, exception texts included. However bad an
outage is, a process writes at most 60 lines a minute, and says what it held back.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from pydantic import BaseModel, SecretStr
from pythonjsonlogger.json import JsonFormatter

from feedmesh.line_limit import LineLimit


__all__ = ["CalmHandler", "Redactor", "secrets_of", "setup_logging"]

_MASK = "[redacted]"


class Redactor(JsonFormatter):
    """Formats a record as JSON and masks *secrets* in the finished line."""

    def __init__(self, service: str, secrets: Iterable[str]) -> None:
        super().__init__(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
            static_fields={"service": service},
            timestamp="at",
            json_ensure_ascii=False,
        )
        # Longest first: a secret may contain another.
        self._secrets = sorted({s for s in secrets if s}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as one line of JSON."""
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        return line


class CalmHandler(logging.StreamHandler[TextIO]):
    """Writes what *limit* lets pass, and how much it did not."""

    def __init__(self, stream: TextIO, limit: LineLimit) -> None:
        super().__init__(stream)
        self._limit = limit

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, or count it."""
        event = f"{record.name}: {record.msg}"[:100]
        held = self._limit.take(event, time.monotonic())
        if held is None:
            return
        if held:
            super().emit(_word_of(held))
        super().emit(record)


def _word_of(held: dict[str, int]) -> logging.LogRecord:
    most = sorted(held.items(), key=lambda entry: -entry[1])[:5]
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were held back",
            "lines": sum(held.values()),
            "most": dict(most),
        }
    )


def secrets_of(settings: BaseModel) -> list[str]:
    """Return the values of all secret fields of *settings*."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [v.get_secret_value() for v in values if isinstance(v, SecretStr)]


def setup_logging(service: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Send the logs of the whole process to stderr, as JSON, from *level* up."""
    handler: logging.Handler = CalmHandler(sys.stderr, LineLimit())
    if level == "DEBUG":
        # Whoever asks for everything gets everything.
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redactor(service, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries that log each request or each retry, which are not state changes.
    for name in ("httpx", "httpcore", "websockets", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # What asyncio says whenever a connection of nats-py ends that had TLS.
    logging.getLogger("asyncio").addFilter(_not_about_eof)


def _not_about_eof(record: logging.LogRecord) -> bool:
    return "eof_received() has no effect" not in str(record.msg)
