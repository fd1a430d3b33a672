"""
The streams, as values, and the one function that makes a server have them.

Services never create streams: they wait until these exist. Who may create is the
operator: ``python -m feedmesh streams``, which a deployment runs once, and which
``make run`` keeps running, since a single server forgets memory streams at restart.
"""

from __future__ import annotations

import logging

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from feedmesh import subjects
from feedmesh.errors import BusError


__all__ = [
    "DLQ",
    "GAPS",
    "NEWS",
    "PINS",
    "PRICES",
    "SERVED",
    "STATUS",
    "definitions",
    "ensure_streams",
]

logger = logging.getLogger(__name__)

PRICES = "PRICES"
NEWS = "NEWS"
STATUS = "STATUS"
GAPS = "GAPS"
PINS = "PINS"
DLQ = "DLQ"

SERVED = (PRICES, NEWS, STATUS, GAPS, PINS)
"""Those that ingests and edges cannot do without; they must be allowed to ask."""

_DAY = 24 * 3600.0
_MIB = 1024 * 1024


def definitions(replicas: int = 1) -> list[StreamConfig]:
    """Return every stream of a deployment with *replicas* copies of each."""
    return [
        # The last value of each symbol. In memory: a file stream does not keep up
        # with prices, and what it held is worthless after an outage.
        _state(PRICES, [subjects.ALL_PRICES], StorageType.MEMORY, replicas),
        # The log. Epochs lie in it because the server compares the epoch and stores
        # the item in one step only within one stream.
        StreamConfig(
            name=NEWS,
            subjects=[subjects.ALL_NEWS, "epoch.*"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=14 * _DAY,
            max_bytes=2048 * _MIB,
            duplicate_window=3600.0,
            num_replicas=replicas,
            allow_direct=True,
            allow_atomic=True,
        ),
        _state(STATUS, ["status.>"], StorageType.FILE, replicas),
        # Not among the states: of gaps, every one counts, for as long as news do.
        StreamConfig(
            name=GAPS,
            subjects=[subjects.ALL_GAPS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=14 * _DAY,
            max_bytes=64 * _MIB,
            duplicate_window=3600.0,
            num_replicas=replicas,
            allow_direct=True,
        ),
        _state(PINS, [subjects.ALL_PINS], StorageType.FILE, replicas),
        StreamConfig(
            name=DLQ,
            subjects=["dlq.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=7 * _DAY,
            max_bytes=64 * _MIB,
            num_replicas=replicas,
            allow_direct=True,
        ),
    ]


def _state(
    name: str, names: list[str], storage: StorageType, replicas: int
) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=names,
        retention=RetentionPolicy.LIMITS,
        storage=storage,
        discard=DiscardPolicy.OLD,
        max_msgs_per_subject=1,
        max_bytes=512 * _MIB if storage is StorageType.MEMORY else 64 * _MIB,
        num_replicas=replicas,
        allow_direct=True,
    )


async def ensure_streams(js: JetStreamContext, replicas: int = 1) -> list[str]:
    """
    Create the streams that are missing; return their names.

    Raises:
        BusError: If the server refuses or does not answer.
    """
    created = []
    for config in definitions(replicas):
        try:
            await js.stream_info(str(config.name))
        except NotFoundError:
            await _create(js, config)
            created.append(str(config.name))
        except (NatsError, APIError) as error:
            raise BusError(f"stream {config.name}: {error}") from error
    return created


async def _create(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.add_stream(config)
    except (NatsError, APIError) as error:
        raise BusError(f"stream {config.name}: {error}") from error
    logger.info("stream was created", extra={"stream": config.name})
