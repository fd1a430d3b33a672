"""The README's table of settings is that of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from edge.settings import Settings as EdgeSettings
from feedmesh.settings import ServiceSettings
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.settings import Settings as LsSettings


README = Path(__file__).parents[2] / "README.md"
MODELS: list[type[ServiceSettings]] = [
    ServiceSettings,
    FmpSettings,
    LsSettings,
    EdgeSettings,
]


def described(model: type[ServiceSettings]) -> dict[str, str]:
    """Return the settings that *model* adds, with what its docstring says of each."""
    doc = inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[2]
    found = {}
    for match in re.finditer(r"^    (\w+): (.+(?:\n        .+)*)", doc, re.MULTILINE):
        found[match[1].upper()] = " ".join(match[2].split())
    return found


def default(model: type[ServiceSettings], name: str) -> str:
    """Return the default of a setting as the table shows it."""
    value = model.model_fields[name.lower()].default
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, float):
        minutes, seconds = divmod(value, 60)
        return f"`{minutes:g}m`" if minutes and not seconds else f"`{value:g}s`"
    if "SecretStr" in type(value).__name__:
        return f"`{value.get_secret_value()}`"
    if name == "EDGE_NAME":
        return "the host's name"
    return f"`{value}`"


def table() -> list[str]:
    """Return the rows that the README must have."""
    rows = []
    for model in MODELS:
        for name, text in described(model).items():
            # Each service has a port of its own there.
            shown = "per service" if name == "OPS_PORT" else default(model, name)
            rows.append(f"| `{name}` | {shown} | {text} |")
    return rows


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_is_described(model: type[ServiceSettings]) -> None:
    inherited = {} if model is ServiceSettings else ServiceSettings.model_fields
    own = {name.upper() for name in model.model_fields} - {n.upper() for n in inherited}

    assert described(model).keys() == own


def test_the_readme_has_every_setting() -> None:
    text = README.read_text(encoding="utf-8")

    assert [row for row in table() if row not in text] == []


if __name__ == "__main__":
    print("\n".join(table()))
