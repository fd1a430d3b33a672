"""Hold the answers of an edge to its own OpenAPI description."""

from __future__ import annotations

import re
from typing import Any

import httpx
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


class Description:
    """
    An OpenAPI document.

    Attributes:
        document: As the edge serves it.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._paths = [
            (
                re.compile(
                    re.sub(r"\{\w+\}", "(.+)", re.escape(path).replace("\\", ""))
                ),
                item,
            )
            for path, item in document["paths"].items()
        ]

    def errors(self) -> list[str]:
        """Return what is wrong with the document itself."""
        return [str(e) for e in OpenAPIV31SpecValidator(self.document).iter_errors()]

    def operations(self) -> list[tuple[str, dict[str, Any]]]:
        """Return every operation by its method and path."""
        return [
            (f"{method.upper()} {path}", operation)
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
        ]

    def check(self, answer: httpx.Response) -> None:
        """Assert that *answer* is one of those that are described."""
        described = self._operation(answer.request)["responses"]
        status = str(answer.status_code)
        assert status in described, f"{answer.request.url}: {status} is not described"
        content = described[status].get("content")
        if content is None or answer.request.method == "HEAD":
            assert answer.content == b""
            return
        assert answer.headers["content-type"] in content
        schema = content[answer.headers["content-type"]]["schema"]
        found = [
            f"{answer.request.url}: {'.'.join(map(str, error.path))}: {error.message}"
            for error in self._validator(schema).iter_errors(answer.json())
        ]
        assert found == []

    def examples(self) -> list[str]:
        """Return what is wrong with the examples in the document."""
        found = []
        for name, operation in self.operations():
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).values():
                    if "example" in content:
                        validator = self._validator(content["schema"])
                        found += [
                            f"{name} {status}: {error.message}"
                            for error in validator.iter_errors(content["example"])
                        ]
        return found

    def _operation(self, request: httpx.Request) -> dict[str, Any]:
        method = request.method.lower().replace("head", "get")
        for pattern, item in self._paths:
            if pattern.fullmatch(request.url.path) and method in item:
                operation: dict[str, Any] = item[method]
                return operation
        raise AssertionError(f"{request.method} {request.url.path} is not described")

    def _validator(self, schema: dict[str, Any]) -> Any:
        whole = {**schema, "components": self.document["components"]}
        return OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
