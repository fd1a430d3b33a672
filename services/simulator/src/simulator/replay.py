"""Send recorded frames again, at the speed they were recorded or another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from simulator.faults import FaultError
from simulator.wire import TEXT, encode_frame


# Frames without a time follow each other at this distance.
_STEP_SECONDS = 0.1
_POLL_SECONDS = 0.02


class _Line(msgspec.Struct):
    """One line; Raw keeps the digits of the frame as they were recorded."""

    frame: msgspec.Raw = msgspec.Raw(b"")
    text: str | None = None
    target: str | None = None
    at: float | str | None = None
    name: str = ""
    direction: str = "server"


@dataclass(frozen=True)
class Recorded:
    """One frame to send, so many seconds after the first."""

    at: float
    target: str
    payload: bytes


def read_recording(path: Path) -> Iterator[Recorded]:
    """Yield the frames of a JSON-lines file that a server would have sent."""
    decoder = msgspec.json.Decoder(_Line)
    first: float | None = None
    at = 0.0
    with path.open("rb") as file:
        for text in file:
            if not text.strip():
                continue
            line = decoder.decode(text)
            payload = line.text.encode() if line.text else bytes(line.frame)
            target = line.target or guess_target(line.name, payload)
            if line.direction != "server" or target is None:
                continue
            if line.at is None:
                at += _STEP_SECONDS
            else:
                moment = _seconds(line.at)
                first = moment if first is None else first
                at = moment - first
            yield Recorded(at, target, payload)


def guess_target(name: str, payload: bytes) -> str | None:
    """Return the target of a frame that names none; None if no socket sends it."""
    try:
        frame = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return None
    sample = frame[0] if isinstance(frame, list) and frame else frame
    if not isinstance(sample, dict):
        return None
    if "header" in sample:
        return "ls.ws"
    if "event" in sample:
        return "fmp.stream" if name.startswith("current") else "fmp.stocks"
    if "symbol" in sample and "price" in sample:
        return "fmp.stream"
    if "s" not in sample or "type" not in sample:
        return None
    if "e" in sample:
        return "fmp.crypto"
    stamp = sample.get("t")
    return "fmp.forex" if isinstance(stamp, int) and stamp < 1e14 else "fmp.stocks"


def check_recording(path: Path | None) -> None:
    """
    Read a recording to its end, so that a bad one is found at the start.

    Raises:
        FaultError: If a line is not one of ours.
    """
    if path is None:
        return
    try:
        for _ in read_recording(path):
            pass
    except (msgspec.DecodeError, ValueError) as error:
        raise FaultError(f"{path} was not a recording: {error}") from error


async def replay(
    path: Path, speed: float, send: Callable[[str, bytes, int], int]
) -> None:
    """Send the recording once, beginning when somebody is there to receive it."""
    started: float | None = None
    for recorded in read_recording(path):
        encoded = encode_frame(TEXT, recorded.payload)
        if started is None:
            while not send(recorded.target, encoded, 1):
                await asyncio.sleep(_POLL_SECONDS)
            started = time.monotonic() - recorded.at / speed
            continue
        await asyncio.sleep(max(0.0, started + recorded.at / speed - time.monotonic()))
        send(recorded.target, encoded, 1)


def _seconds(at: float | str) -> float:
    if isinstance(at, str):
        return datetime.fromisoformat(at).timestamp()
    return at
