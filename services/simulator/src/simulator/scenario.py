"""Orders at their times, from a file: the control port without a client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.faults import FaultError, read_fault
from simulator.wire import dumps_exact, loads_exact


_ACTIONS = ("inject", "fault", "clear", "clear_fault", "clock", "generate")


@dataclass(frozen=True)
class Step:
    """One order and the seconds after the start at which it is given."""

    at: float
    action: str
    order: Mapping[str, Any]


def read_scenario(path: Path | None) -> list[Step]:
    """
    Return the steps of a scenario file in the order of their times.

    Raises:
        FaultError: If it is not a list of orders that we know.
    """
    if path is None:
        return []
    try:
        entries = loads_exact(path.read_text("utf-8"))
    except ValueError as error:
        raise FaultError(f"{path} was not JSON: {error}") from error
    if not isinstance(entries, list):
        raise FaultError(f"{path} was not a list")
    return sorted((_read_step(entry) for entry in entries), key=lambda step: step.at)


def _read_step(entry: Any) -> Step:
    if not isinstance(entry, dict) or entry.get("action") not in _ACTIONS:
        raise FaultError(f"action was not one of {_ACTIONS} in {entry!r}")
    action = str(entry["action"])
    rest = {k: v for k, v in entry.items() if k not in ("at", "action")}
    if action != "inject":
        rest = plain(rest)
    if action == "fault":
        read_fault(rest)
    return Step(float(plain(entry.get("at", 0))), action, rest)


def plain(value: Any) -> Any:
    """Return *value* with ordinary numbers in place of exact ones."""
    return json.loads(dumps_exact(value))
