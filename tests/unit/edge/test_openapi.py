"""
The OpenAPI description is whole: every route, every answer, every example.

That a running edge answers as described is tested with a real one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute
from openapi import Description
from prometheus_client import CollectorRegistry

from edge.app import build_app
from edge.metrics import EdgeMetrics
from edge.parts import EdgeParts
from edge.rest.problems import PROBLEMS
from edge.settings import Settings


ROUTES = [
    "GET /api/v2/realtime/cache",
    "GET /api/v2/realtime/cache/{symbol}",
    "GET /api/v2/realtime/health",
    "GET /api/v2/realtime/status",
    "POST /api/v2/realtime/subscribe",
    "POST /api/v2/realtime/unsubscribe",
    "GET /api/v3/gaps",
    "GET /api/v3/news",
    "GET /api/v3/prices",
    "GET /api/v3/prices/{symbol}",
    "GET /api/v3/status",
]


class _NoParts(SimpleNamespace):
    """Stands for parts that no route uses before it is asked something."""

    def __getattr__(self, name: str) -> Any:
        return None


# Building the description takes half a second.
APP = build_app(
    cast(
        EdgeParts,
        _NoParts(settings=Settings(), metrics=EdgeMetrics(CollectorRegistry())),
    )
)
DESCRIPTION = Description(APP.openapi())
OPERATIONS = dict(DESCRIPTION.operations())


def test_the_document_is_openapi() -> None:
    assert DESCRIPTION.errors() == []
    assert DESCRIPTION.document["openapi"].startswith("3.1")
    assert DESCRIPTION.document["info"]["description"]
    # An edge may ask for a token, and need not.
    assert DESCRIPTION.document["security"] == [{"token": []}, {}]
    assert "token" in DESCRIPTION.document["components"]["securitySchemes"]


def test_every_route_is_described() -> None:
    assert set(OPERATIONS) >= set(ROUTES)
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)
    hidden = {
        route.path
        for route in APP.routes
        if isinstance(route, APIRoute) and not route.include_in_schema
    }
    assert hidden == {"/", "/asyncapi.json"}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_is_described_whole(name: str) -> None:
    operation = OPERATIONS[name]
    responses = operation["responses"]
    v3 = " /api/v3/" in name

    assert operation["summary"]
    assert operation["description"]
    assert all(
        parameter["description"] for parameter in operation.get("parameters", [])
    )
    assert responses["200"]["content"]["application/json"]["schema"]
    assert responses["200"]["content"]["application/json"]["example"]
    errors = {status for status in responses if int(status) >= 400}
    media = "application/problem+json" if v3 else "application/json"
    for status in errors:
        assert list(responses[status]["content"]) == [media]
        assert responses[status]["content"][media]["schema"]
        assert responses[status]["description"]
    places = {parameter["in"] for parameter in operation.get("parameters", [])}
    if places - {"header"} or "requestBody" in operation:
        assert "422" in errors
    if v3:
        any_route = {"400", "401", "403", "408", "414", "429", "431", "500", "503"}
        assert any_route <= errors
        assert "header" in places
        assert "304" in responses
        assert set(responses["200"]["headers"]) == {"Age", "ETag"}
    for status in errors & {"429", "503"}:
        if "health" not in name:
            assert "Retry-After" in responses[status]["headers"]


def test_the_examples_are_as_described() -> None:
    assert DESCRIPTION.examples() == []


def test_every_problem_has_a_status_that_some_route_describes() -> None:
    described = {
        int(status)
        for name, operation in OPERATIONS.items()
        if " /api/v3/" in name
        for status in operation["responses"]
    }

    # 405 belongs to no route in particular.
    assert {kind.status for kind in PROBLEMS.values()} - described == {405}


def test_a_wrong_example_would_be_found() -> None:
    document = {
        **DESCRIPTION.document,
        "paths": {
            "/x": {
                "get": {
                    "responses": {
                        "200": {
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "$ref": "#/components/schemas/PricesAnswer"
                                    },
                                    "example": {"prices": [{"symbol": 1}]},
                                }
                            }
                        }
                    }
                }
            }
        },
    }

    assert len(Description(document).examples()) > 3
