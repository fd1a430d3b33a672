"""
The OpenAPI description: what every route answers, and what when it cannot.

FastAPI collects it from the routes. What it cannot know is added here: that problems
have a media type of their own, and what the headers of the answers mean.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from edge.rest.examples import EXAMPLES
from edge.rest.models import LegacyError, Problem
from edge.rest.problems import PROBLEM_JSON, PROBLEMS, is_v3


__all__ = ["answers", "describe", "legacy"]

Responses = dict[int | str, dict[str, Any]]

_JSON = "application/json"
_SCHEMAS = "#/components/schemas/"
_EXAMPLES = {model.__name__: example for model, example in EXAMPLES.items()}
_TEXT = """\
Real-time prices and news over REST; the same data flows on the WebSocket
`/api/v3/stream`. Positions in answers are opaque and valid there, on any edge.

Below `/api/v3`, all answers have a weak ETag for `If-None-Match`, and all errors are
problems as RFC 9457 has them. While the edge is cut off, answers say `stale` and have
an `Age`; after 30 seconds they are 503. HEAD works wherever GET does.
"""
_HEADERS = {
    "ETag": {
        "description": "For If-None-Match; neither ages nor positions change it.",
        "schema": {"type": "string"},
    },
    "Age": {
        "description": "Seconds that the edge has been cut off; absent if it is not.",
        "schema": {"type": "integer"},
    },
}
# Any route may refuse a token, what is too long or slow, or who asks too much; and the
# edge may be full or closing.
_ANY = {400, 401, 403, 408, 414, 429, 431, 500, 503}
_RETRIED = (429, 503)
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "schema": {"type": "integer"},
    }
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of answers that the client has.",
    "schema": {"type": "string"},
}
_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Where the edge asks for one; never in the address.",
}
_NOT_MODIFIED = {"description": "What the client has is the same.", "headers": _HEADERS}


def answers(model: type[BaseModel], *statuses: int) -> Responses:
    """
    Return what OpenAPI says about a v3 route.

    Args:
        model: The shape of its answer.
        statuses: With which it can fail, beside those with which any route can.
    """
    described: Responses = {200: {"model": model}}
    for status in sorted({*statuses, *_ANY}):
        described[status] = _failure(Problem, status)
    return described


def legacy(model: type[BaseModel], *statuses: int) -> Responses:
    """Return the same about an older route, which fails with *statuses* only."""
    described: Responses = {200: {"model": model}}
    for status in statuses:
        described[status] = _failure(LegacyError, status)
    return described


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description of *app*; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=_TEXT,
            routes=app.routes,
        )
        schema["components"]["securitySchemes"] = {"token": _TOKEN}
        schema["security"] = [{"token": []}, {}]
        for path, item in schema["paths"].items():
            for operation in item.values():
                _add_examples(operation)
                if is_v3(path):
                    _finish_v3(operation)
        app.openapi_schema = schema
    return app.openapi_schema


def _finish_v3(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
    responses = operation["responses"]
    responses["200"]["headers"] = _HEADERS
    responses["304"] = _NOT_MODIFIED
    for status, response in responses.items():
        content = response.get("content", {})
        if int(status) >= 400:
            content[PROBLEM_JSON] = content.pop(_JSON)
            content[PROBLEM_JSON]["example"] = _problem(int(status))


def _add_examples(operation: dict[str, Any]) -> None:
    # FastAPI drops every null from examples that it is given.
    for response in operation["responses"].values():
        for content in response.get("content", {}).values():
            reference = content["schema"].get("$ref", "")
            example = _EXAMPLES.get(reference.removeprefix(_SCHEMAS))
            if example is not None:
                content["example"] = example


def _problem(status: int) -> dict[str, Any]:
    code, kind = next((c, k) for c, k in PROBLEMS.items() if k.status == status)
    return {
        "type": f"urn:feedmesh:problem:{code}",
        "title": kind.title,
        "status": status,
        "detail": "what is wrong, in words",
        "code": code,
    }


def _failure(model: type[BaseModel], status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"model": model, "description": _titles(status)}
    if status in _RETRIED:
        described["headers"] = _RETRY_AFTER
    return described


def _titles(status: int) -> str:
    found = [kind.title for kind in PROBLEMS.values() if kind.status == status]
    return "; ".join(found) or "Refused"
