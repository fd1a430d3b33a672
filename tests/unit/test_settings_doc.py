"""docs/settings.md is what the code says about its settings."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from edge.settings import Settings as EdgeSettings
from feedmesh.settings import ServiceSettings
from ingest_fmp.settings import Settings as FmpSettings
from ingest_ls.settings import Settings as LsSettings
from prober.settings import Settings as ProberSettings


PAGE = Path(__file__).parents[2] / "docs/settings.md"
MODELS: dict[str, type[ServiceSettings]] = {
    "Every service": ServiceSettings,
    "ingest-fmp": FmpSettings,
    "ingest-ls": LsSettings,
    "edge": EdgeSettings,
    "prober": ProberSettings,
}
HEAD = """\
# Settings

All from the environment, read once. A wrong one ends the service with exit code 2 and a
line that names it. Durations have a unit: `250ms`, `30s`, `5m`, `1h`. Each secret may
come from a file instead: `FMP_API_KEY_FILE=/run/secrets/fmp`.

This page is made from the code: `python tests/unit/test_settings_doc.py`.
"""


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
    if name == "OTEL_TRACES_SAMPLER_ARG":
        return f"`{value:g}`"
    if isinstance(value, float):
        minutes, seconds = divmod(value, 60)
        return f"`{minutes:g}m`" if minutes and not seconds else f"`{value:g}s`"
    if "SecretStr" in type(value).__name__:
        return f"`{value.get_secret_value()}`"
    if name == "EDGE_NAME":
        return "the host's name"
    return f"`{value}`"


def table(model: type[ServiceSettings]) -> str:
    """Return the table of the settings that *model* adds."""
    rows = ["| setting | default | what |", "|---|---|---|"]
    for name, text in described(model).items():
        # Each service has a port of its own there.
        shown = "per service" if name == "OPS_PORT" else defaults(model, name)
        rows.append(f"| `{name}` | {shown} | {text.replace('``', '`')} |")
    return "\n".join(rows)


def defaults(model: type[ServiceSettings], name: str) -> str:
    """Return the default of a setting, and those of services that have another one."""
    own = default(model, name)
    others = [
        f"{title} {default(other, name)}"
        for title, other in MODELS.items()
        if issubclass(other, model) and default(other, name) != own
    ]
    return ", ".join([own, *others])


def page() -> str:
    """Return the whole page."""
    parts = [f"\n## {title}\n\n{table(model)}\n" for title, model in MODELS.items()]
    return HEAD + "".join(parts)


@pytest.mark.parametrize("model", MODELS.values())
def test_every_setting_is_described(model: type[ServiceSettings]) -> None:
    inherited = {} if model is ServiceSettings else ServiceSettings.model_fields
    own = {name.upper() for name in model.model_fields} - {n.upper() for n in inherited}

    assert described(model).keys() == own


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
