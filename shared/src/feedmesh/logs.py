"""
Logs: one JSON object a line on stderr, with every secret taken out.

Secrets are registered once, where settings are read; the filter then removes them from
whatever is logged, by us or by a library, exception texts included.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from pydantic import BaseModel, SecretStr
from pythonjsonlogger.json import JsonFormatter


__all__ = ["Redactor", "secrets_of", "setup_logging"]

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


def secrets_of(settings: BaseModel) -> list[str]:
    """Return the values of all secret fields of *settings*."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [v.get_secret_value() for v in values if isinstance(v, SecretStr)]


def setup_logging(service: str, level: str, secrets: Iterable[str] = ()) -> None:
    """Send the logs of the whole process to stderr, as JSON, from *level* up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redactor(service, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries that log each request or each retry, which are not state changes.
    for name in ("httpx", "httpcore", "websockets", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
