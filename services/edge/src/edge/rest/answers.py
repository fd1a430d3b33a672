"""How REST answers leave: revalidated by ETag, marked when stale, not re-encoded."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

from fastapi import Request, Response

from edge.rest.problems import ProblemError


__all__ = ["Waiters", "answer", "fingerprint", "json_strings", "page_answer"]

_WAIT_SECONDS = 2.0
_FIRST_LOOK_SECONDS = 0.002
_LAST_LOOK_SECONDS = 0.05
_MAX_WAITERS = 200


class Waiters:
    """Requests that wait until this edge has seen what their clients have seen."""

    def __init__(self, limit: int = _MAX_WAITERS, seconds: float = _WAIT_SECONDS):
        self._limit = limit
        self._seconds = seconds
        self._waiting = 0

    async def until(self, reached: Callable[[], bool]) -> None:
        """
        Return once *reached* says so.

        Raises:
            ProblemError: If it does not in time, or too many wait already.
        """
        if not await self.may_be(reached):
            raise ProblemError(
                "behind",
                "ask again, or ask another edge",
                headers={"retry-after": "1"},
            )

    async def may_be(self, reached: Callable[[], bool]) -> bool:
        """Return whether *reached* says so in time; at once if too many wait."""
        if reached():
            return True
        if self._waiting >= self._limit:
            return False
        self._waiting += 1
        pause = _FIRST_LOOK_SECONDS
        try:
            async with asyncio.timeout(self._seconds):
                # An event for every update would burden the hot path, for a wait
                # that is rare.
                while not reached():
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LAST_LOOK_SECONDS)
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True


def answer(
    request: Request, body: Callable[[], bytes], mark: str, age: float | None
) -> Response:
    """
    Return the answer to *request*, or 304 if the client has it already.

    Args:
        request: May carry ``If-None-Match``.
        body: Makes the JSON; called only if it is needed.
        mark: From :func:`fingerprint`, of all that matters in the body.
        age: Seconds since the data was surely current; None if it is.
    """
    # Weak: ages differ between two answers that are the same otherwise.
    etag = f'W/"{mark}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    if age is not None:
        headers["age"] = str(math.ceil(age))
    if _holds(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body(), media_type="application/json", headers=headers)


def fingerprint(*parts: bytes | str) -> str:
    """Return a short mark that differs when any of *parts* does."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()


def json_strings(texts: Iterable[str]) -> bytes:
    """Return *texts*, which need no escaping, as a JSON array."""
    return b"[%b]" % ",".join(f'"{text}"' for text in texts).encode()


def page_answer(
    request: Request,
    name: bytes,
    rows: Sequence[bytes],
    position: str,
    more: bool,
    lost: str | None,
    age: float | None,
) -> Response:
    """
    Return a page of a log, or 304 if the client has it already.

    Args:
        request: As :func:`answer` has it.
        name: Under which the rows are.
        rows: Their own bytes.
        position: Token of the place up to which the log was read.
        more: Whether it goes on there.
        lost: Why something may be missing, in a word; or None.
        age: As :func:`answer` has it.
    """

    def body() -> bytes:
        token = b'"%b"' % position.encode()
        return (
            b'{"%b":[%b],"position":%b,"next":%b,"complete":%b,"reason":%b,"stale":%b}'
        ) % (
            name,
            b",".join(rows),
            token,
            token if more else b"null",
            b"false" if lost else b"true",
            b'"%b"' % lost.encode() if lost else b"null",
            b"false" if age is None else b"true",
        )

    # Not the position: it moves with all that the query leaves out.
    mark = fingerprint(*rows, f"{more} {lost} {age is None}")
    return answer(request, body, mark, age)


def _holds(values: list[str], etag: str) -> bool:
    known = {tag.strip() for value in values for tag in value.split(",")}
    return "*" in known or etag in known or etag.removeprefix("W/") in known
