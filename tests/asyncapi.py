"""Hold what travels on the stream to its AsyncAPI description."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator  # type: ignore[import-untyped]


_META = Path(__file__).parent / "data/asyncapi/3.0.0.json"


class Description:
    """
    An AsyncAPI document.

    Attributes:
        document: As the edge serves it.
        messages: Its messages by name.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.messages: dict[str, Any] = document["components"]["messages"]
        # Readers let unknown fields pass; here, one that is not described is an error.
        self._schemas = copy.deepcopy(document["components"]["schemas"])
        for schema in self._schemas.values():
            schema["additionalProperties"] = False
        self._asked = {
            reference["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            for reference in operation["messages"]
            if operation["action"] == "receive"
        }

    def errors(self) -> list[str]:
        """Return what is wrong with the document itself."""
        meta = Draft7Validator(json.loads(_META.read_text()))
        found = [error.message for error in meta.iter_errors(self.document)]
        for reference in _references(self.document):
            part: Any = self.document
            for name in reference.removeprefix("#/").split("/"):
                part = part.get(name, {})
            if not part:
                found.append(f"{reference} leads nowhere")
        return found

    def title(self, message: dict[str, Any]) -> str:
        """Return which message *message* is; fails if it is not described."""
        asked = "op" in message and "type" not in message
        name = message["op"] if asked else message["type"]
        for title, described in self.messages.items():
            if described["name"] == name and (title in self._asked) == asked:
                return title
        raise AssertionError(f"{name} is not described")

    def sent(self) -> set[str]:
        """Return every ``type`` that a client may get."""
        return {m["name"] for t, m in self.messages.items() if t not in self._asked}

    def faults(self, message: dict[str, Any]) -> list[str]:
        """Return where *message* is not as it is described."""
        title = self.title(message)
        schema = {
            "allOf": [{"$ref": f"#/components/schemas/{title}"}],
            "components": {"schemas": self._schemas},
        }
        return [
            f"{title}.{'.'.join(map(str, error.path))}: {error.message}"
            for error in Draft7Validator(schema).iter_errors(message)
        ]

    def examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return each example, and which message it is of."""
        for title, described in self.messages.items():
            for example in described.get("examples", ()):
                yield title, example["payload"]

    def requests(self) -> list[dict[str, Any]]:
        """Return the examples of requests."""
        return [payload for title, payload in self.examples() if title in self._asked]


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
