"""Whether a server's list of permissions lets an identity do what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedmesh.permissions import allows


__all__ = ["may"]


def may(grant: Mapping[str, Any], subject: str) -> bool:
    """Return whether *grant*, of one verb, covers all that *subject* matches."""
    allowed = _listed(grant.get("allow"))
    if allowed and not allows(allowed, subject):
        return False
    # Even a part that is denied is a part that is missing.
    return not any(_overlap(pattern, subject) for pattern in _listed(grant.get("deny")))


def _listed(value: object) -> list[str]:
    if not value:
        return []
    found = value if isinstance(value, list) else [value]
    # A queue group may follow the subject; it restricts nothing that we do.
    return [str(pattern).split(" ")[0] for pattern in found]


def _overlap(one: str, other: str) -> bool:
    """Return whether a subject could match both."""
    first, second = one.split("."), other.split(".")
    for a, b in zip(first, second, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(first) == len(second)
