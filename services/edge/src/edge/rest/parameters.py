"""What the parameters of a REST query hold, or the problem that they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from edge.rest.problems import ProblemError, shown
from feedmesh.clock import from_iso, now_ns


__all__ = [
    "bad_cursor",
    "invalid_parameter",
    "parse_instant",
    "parse_names",
    "parse_parameter",
    "parse_start",
    "parse_word",
]

ParsedT = TypeVar("ParsedT")

_MAX_NAMES = 100
# Between the clocks of a client and of this edge.
_SKEW_NS = 5_000_000_000
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII
)
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


def invalid_parameter(parameter: str, detail: str) -> ProblemError:
    """Return the problem of a *parameter* that breaks a rule."""
    return ProblemError("invalid_parameter", detail, parameter=parameter)


def parse_parameter(
    text: str, parameter: str, parse: Callable[[str], ParsedT]
) -> ParsedT:
    """
    Return what *parse* makes of *text*.

    Raises:
        ProblemError: If that is a ValueError; it tells the error's own words.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise invalid_parameter(parameter, str(error)) from None


def parse_start(
    since: str | None, cursor: str | None, parse: Callable[[str], object]
) -> str | None:
    """
    Return where a page starts: at *cursor*, if the client gives one, or at *since*.

    Raises:
        ProblemError: If *parse* finds no position in *cursor*.
    """
    if cursor is None:
        return since
    try:
        parse(cursor)
    except ValueError:
        raise bad_cursor() from None
    return cursor


def bad_cursor() -> ProblemError:
    """Return the problem of a cursor that no page has led on to."""
    return ProblemError(
        "bad_cursor", "start again without a cursor", parameter="cursor"
    )


def parse_names(
    values: Sequence[str] | None, parameter: str, parse: Callable[[str], str]
) -> frozenset[str] | None:
    """
    Return the names in a list, each value perhaps comma-separated; None for all.

    Raises:
        ProblemError: If *parse* refuses one, or they are too many.
    """
    if values is None:
        return None
    texts = [text for value in values for text in value.split(",")]
    if len(texts) > _MAX_NAMES:
        detail = f"at most {_MAX_NAMES}, {len(texts)} were given"
        raise invalid_parameter(parameter, detail)
    names = set()
    for text in texts:
        try:
            names.add(parse(text))
        except ValueError:
            detail = f"{shown(text)} is not legal"
            raise invalid_parameter(parameter, detail) from None
    return frozenset(names)


def parse_word(text: str) -> str:
    """
    Return the name of a feed or of a type of news as it is written.

    Raises:
        ValueError: If *text* can be none.
    """
    name = text.strip().lower()
    if not _WORD.fullmatch(name):
        raise ValueError("not a word")
    return name


def parse_instant(text: str, clock: Callable[[], int] = now_ns) -> int:
    """
    Return the instant that *text* names, in nanoseconds since the epoch.

    Raises:
        ProblemError: If it names none, or one in the future.
    """
    upper = text.upper()
    try:
        if not _INSTANT.fullmatch(upper):
            raise ValueError("another form")
        datetime.fromisoformat(upper)
        instant = from_iso(upper)
    except (ValueError, OverflowError):
        raise invalid_parameter(
            "since",
            f"{shown(text)} is neither a position nor an instant such as"
            " 2024-11-10T12:00:00Z or 2024-11-10T21:00:00%2B09:00",
        ) from None
    if instant > clock() + _SKEW_NS:
        raise invalid_parameter("since", "that is in the future")
    return instant
