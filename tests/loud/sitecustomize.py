"""
Makes a process say a hundred things wherever it would say one that is wrong.

Python imports this at its start if this folder is on its path: so any service can be
made one that is far too loud in an outage, which none is by itself.
"""

from __future__ import annotations

import logging


_MORE = 100
_handle = logging.Logger.handle


def _loudly(self: logging.Logger, record: logging.LogRecord) -> None:
    _handle(self, record)
    if record.levelno >= logging.WARNING:
        for number in range(_MORE):
            # Each another event, or their sameness would be enough to hold them back.
            said = vars(record) | {"msg": f"{number} {record.msg}"}
            _handle(self, logging.makeLogRecord(said))


logging.Logger.handle = _loudly  # type: ignore[method-assign]
