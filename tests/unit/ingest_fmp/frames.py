"""The sample frames, by name, exactly as they were written."""

from __future__ import annotations

from pathlib import Path

import msgspec


FOLDER = Path(__file__).parents[2] / "data" / "fmp"


class Sample(msgspec.Struct):
    """One line of a file of frames."""

    name: str
    origin: str
    direction: str
    frame: msgspec.Raw


def samples() -> dict[str, Sample]:
    """Return every sample by its name."""
    found = [
        msgspec.json.decode(line, type=Sample)
        for path in sorted(FOLDER.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]
    return {sample.name: sample for sample in found}


SAMPLES = samples()


def frame(beginning: str) -> bytes:
    """Return the frame whose name begins with *beginning*."""
    (found,) = [s for name, s in SAMPLES.items() if name.startswith(beginning)]
    return bytes(found.frame)
