"""
docs/asyncapi.json is what the code says, and is whole.

That a running edge speaks as described is tested with a real one.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncapi import Description

import edge
from edge.clients.close_codes import CloseCode
from edge.stream.asyncapi import encoded
from edge.stream.requests import parse_request
from edge.stream.words import ERRORS, FEED_STATES, GAPS, NOT_RECOVERED, REJECTIONS
from feedmesh.status import LinkState


KEPT = Path(__file__).parents[3] / "docs/asyncapi.json"
DESCRIPTION = Description(json.loads(encoded()))
CODE = Path(next(iter(edge.__path__)))
# Which argument of which call is a constant word for clients.
SAID = {
    "errors": (ERRORS, {"BadRequestError": 0, "_refuse": 1}),
    "rejections": (REJECTIONS, {"Rejected": 1}),
    "not recovered": (NOT_RECOVERED, {"Recovery": 1}),
    "gaps": (GAPS, {"Gap": 1, "_lost": 2}),
}


def calls() -> Iterator[tuple[str, list[ast.expr]]]:
    """Return every call in the edge: what is called, and with what."""
    for path in CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                yield name, node.args


def test_the_kept_file_is_up_to_date() -> None:
    """If not: `python -m edge.stream.asyncapi > docs/asyncapi.json`."""
    assert KEPT.read_bytes() == encoded()


def test_the_document_is_asyncapi_3() -> None:
    assert DESCRIPTION.errors() == []
    damages: list[dict[str, Any]] = [{"channels": {}}, {"asyncapi": "2.0.0"}]
    for damage in damages:
        assert Description(DESCRIPTION.document | damage).errors()


def test_every_message_has_examples_and_they_are_as_described() -> None:
    with_examples = {title for title, _ in DESCRIPTION.examples()}

    assert with_examples == set(DESCRIPTION.messages)
    assert [
        fault
        for _, payload in DESCRIPTION.examples()
        for fault in DESCRIPTION.faults(payload)
    ] == []


def test_every_example_of_a_request_is_understood() -> None:
    for payload in DESCRIPTION.requests():
        parse_request(json.dumps(payload))


@pytest.mark.parametrize(
    "damaged",
    [
        {"type": "pong", "id": 1},
        {"type": "pong", "id": 1, "at": 5},
        {"type": "pong", "id": 1, "at": "2026-01-05T00:00:00Z", "more": 1},
        {"type": "going_away", "reconnect_after_ms": "soon"},
        {"type": "snapshot_end", "channel": "weather"},
        {"type": "ack", "op": "subscribe", "rejected": [{"symbol": "A"}]},
        {"op": "subscribe"},
        {"op": "subscribe", "channel": "prices", "symbols": ["A"] * 1001},
        {"op": "auth"},
    ],
)
def test_what_is_not_as_described_is_noticed(damaged: dict[str, Any]) -> None:
    assert DESCRIPTION.faults(damaged)


@pytest.mark.parametrize("table", SAID)
def test_every_constant_word_in_the_code_is_described(table: str) -> None:
    words, places = SAID[table]
    said = {
        argument.value
        for name, arguments in calls()
        if name in places
        for argument in arguments[places[name] : places[name] + 1]
        if isinstance(argument, ast.Constant) and argument.value
    }

    assert said
    assert said <= set(words)


def test_every_described_word_is_in_the_code() -> None:
    literals = {
        node.value
        for path in CODE.rglob("*.py")
        if path.name not in ("words.py", "examples.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }

    assert {*ERRORS, *REJECTIONS, *NOT_RECOVERED, *GAPS} <= literals
    assert set(FEED_STATES) == {*(state.value for state in LinkState), "unknown"}


def test_close_codes_are_those_of_the_code_and_ranges_are_policies() -> None:
    described = DESCRIPTION.document["info"]["x-close-codes"]

    assert [entry["code"] for entry in described] == list(CloseCode)
    ranges = {40: "stop", 41: "back off", 42: "resume"}
    for entry in described:
        if entry["code"] >= 4000:
            assert entry["policy"] == ranges[entry["code"] // 100]
