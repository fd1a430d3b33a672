"""
What a REST client is told when a request fails: RFC 9457, one table of codes.

Everything below ``/api/v3`` answers errors as ``application/problem+json``; the routes
of the older contracts keep the bodies they have always had. Programs look at ``code``,
people at ``title`` and ``detail``. What the client sent is repeated shortened or not
at all.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import (
    RequestValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket


__all__ = [
    "PROBLEMS",
    "PROBLEM_JSON",
    "Kind",
    "ProblemError",
    "add_problems",
    "is_v3",
    "problem_response",
    "shown",
]

PROBLEM_JSON = "application/problem+json"
_V3 = "/api/v3"
_SHOWN_CHARACTERS = 40

Handler = Callable[[Request, Exception], Awaitable[Response]]


class Kind(NamedTuple):
    """A status and a title, the same whenever the code is."""

    status: int
    title: str


PROBLEMS = {
    "bad_request": Kind(400, "The request makes no sense"),
    "bad_cursor": Kind(400, "The cursor is damaged or belongs to another query"),
    "token_in_url": Kind(400, "A token must not be in the address"),
    "unauthenticated": Kind(401, "A valid token is needed"),
    "forbidden": Kind(403, "This token does not allow that"),
    "not_found": Kind(404, "There is nothing here"),
    "unknown_symbol": Kind(404, "There is no value of this symbol"),
    "method_not_allowed": Kind(405, "This method does not work here"),
    "slow_head": Kind(408, "The request took too long"),
    "url_too_long": Kind(414, "The address is too long"),
    "invalid_parameter": Kind(422, "A parameter breaks a rule"),
    "too_many_requests": Kind(429, "Too many requests from this address"),
    "head_too_large": Kind(431, "The headers are too large"),
    "internal_error": Kind(500, "The edge failed"),
    "behind": Kind(503, "This edge has not yet seen that position"),
    "nats_away": Kind(503, "The edge has been cut off for too long"),
    "log_unavailable": Kind(503, "The stored log does not answer"),
}


class ProblemError(HTTPException):
    """
    A request that cannot be answered as asked.

    Attributes:
        code: A key of :data:`PROBLEMS`.
        parameter: The parameter that breaks a rule, if one does.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        parameter: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(PROBLEMS[code].status, detail, dict(headers or {}))
        self.code = code
        self.parameter = parameter


def problem_response(
    code: str,
    detail: str,
    *,
    parameter: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells of a problem; *code* is of :data:`PROBLEMS`."""
    status, title = PROBLEMS[code]
    body = {
        "type": f"urn:feedmesh:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if parameter is not None:
        body["parameter"] = parameter
    return Response(
        msgspec.json.encode(body),
        status,
        media_type=PROBLEM_JSON,
        headers={"cache-control": "no-store", **(headers or {})},
    )


def shown(text: str) -> str:
    """Return *text* of a client fit for a message: quoted, escaped, not long."""
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return json.dumps(short)


def is_v3(path: str) -> bool:
    """Return whether errors at *path* are problems."""
    return path == _V3 or path.startswith(f"{_V3}/")


def add_problems(app: FastAPI, unprocessable: Handler) -> None:
    """
    Make *app* answer all errors as this module says.

    Args:
        app: The application; its older routes stay as they are.
        unprocessable: Answers invalid requests to the older routes.
    """

    async def invalid(request: Request, error: Exception) -> Response:
        if not is_v3(request.url.path):
            return await unprocessable(request, error)
        assert isinstance(error, RequestValidationError)
        return _invalid(error)

    async def refused(websocket: WebSocket, error: Exception) -> None:
        assert isinstance(error, WebSocketRequestValidationError)
        await websocket.send_denial_response(_invalid(error))

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(WebSocketRequestValidationError, refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allow(headers.get("Allow", ""))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    if isinstance(error, ProblemError):
        return problem_response(
            error.code, error.detail, parameter=error.parameter, headers=headers
        )
    if not is_v3(request.url.path):
        error.headers = headers or None
        return await http_exception_handler(request, error)
    code = {404: "not_found", 405: "method_not_allowed"}.get(
        error.status_code, "bad_request"
    )
    return problem_response(code, error.detail, headers=headers)


async def _failed(request: Request, _: Exception) -> Response:
    # The server logs the error after this.
    if is_v3(request.url.path):
        return problem_response("internal_error", "the log of the edge says why")
    return Response("Internal Server Error", 500, media_type="text/plain")


def _invalid(error: ValidationException) -> Response:
    first = error.errors()[0]
    name = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    return problem_response(
        "invalid_parameter", str(first["msg"])[:200], parameter=name
    )


def _allow(methods: str) -> str:
    # Whatever answers GET answers HEAD as well; see `rest/gate.py`.
    allowed = {method.strip() for method in methods.split(",")} - {""}
    if "GET" in allowed:
        allowed.add("HEAD")
    return ", ".join(sorted(allowed | {"OPTIONS"}))
