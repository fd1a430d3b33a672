"""Whether a stream is what the services rely on; the doctor and `/readyz` ask this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nats.js.api import StreamConfig

from feedmesh.doctor.findings import Finding, Level


__all__ = ["check_stream"]

# Settings whose change breaks a promise, and those that only move a limit.
_BINDING = (
    "subjects",
    "retention",
    "storage",
    "discard",
    "max_msgs_per_subject",
    "num_replicas",
    "allow_direct",
    "allow_atomic",
)
_LIMITS = ("max_age", "max_bytes", "max_msgs", "max_msg_size", "duplicate_window")
_NO_LIMIT = (None, -1, 0)


def check_stream(
    wanted: StreamConfig, answer: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Judge *answer*, of ``$JS.API.STREAM.INFO.<name>``; None is no answer."""
    about = f"stream {wanted.name}"
    if answer is None:
        yield Finding(about, Level.UNKNOWN, "no answer; may this identity ask?")
    elif "error" in answer:
        yield Finding(about, Level.FAIL, str(answer["error"].get("description")))
    else:
        yield from _check_config(about, wanted, answer)


def _check_config(
    about: str, wanted: StreamConfig, answer: Mapping[str, Any]
) -> Iterator[Finding]:
    should, has = wanted.as_dict(), answer["config"]
    wrong = [name for name in _BINDING if _differs(should, has, name)]
    wrong += ["sealed"] if has.get("sealed") else []
    moved = [name for name in _LIMITS if _differs(should, has, name)]
    for level, names in ((Level.FAIL, wrong), (Level.WARN, moved)):
        if names:
            told = (f"{n} is {has.get(n)}, should be {should.get(n)}" for n in names)
            yield Finding(about, level, "; ".join(told))
    missing = _replicas_missing(answer.get("cluster") or {})
    if missing:
        yield Finding(about, Level.WARN, f"without its copy on {', '.join(missing)}")
    if not (wrong or moved or missing):
        state = answer["state"]
        yield Finding(
            about,
            Level.OK,
            f"{state['messages']} messages, {has['num_replicas']} replicas",
        )


def _differs(should: Mapping[str, Any], has: Mapping[str, Any], name: str) -> bool:
    # The server leaves out what is off, and so do we.
    wanted, found = should.get(name), has.get(name)
    if wanted in _NO_LIMIT and name in _LIMITS:
        # Of what we leave to the server, only this one is limited there by itself.
        return found not in _NO_LIMIT and name != "duplicate_window"
    if wanted in (None, False):
        return False
    if isinstance(wanted, list):
        return sorted(wanted) != sorted(found or ())
    return bool(wanted != found)


def _replicas_missing(cluster: Mapping[str, Any]) -> list[str]:
    return [
        str(replica["name"])
        for replica in cluster.get("replicas") or ()
        if replica.get("offline") or not replica.get("current")
    ]
