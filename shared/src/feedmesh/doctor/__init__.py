"""
Check a deployment against what feedmesh needs: ``python -m feedmesh doctor``.

:func:`gather` asks the servers and returns :class:`Facts`; :func:`check` is pure and
judges them. What this identity is not told is *unknown*, and said to be: a check that
could not be made is not a check that passed. What makes a service useless, such as a
server that is too old or a stream that is missing, also makes it not ready:
:class:`StreamGate`.
"""

from feedmesh.doctor.checks import check
from feedmesh.doctor.facts import ClockFacts, Facts, Newest, usual_replicas
from feedmesh.doctor.findings import Finding, Level, exit_code, table
from feedmesh.doctor.gate import StreamGate
from feedmesh.doctor.gather import gather


__all__ = [
    "ClockFacts",
    "Facts",
    "Finding",
    "Level",
    "Newest",
    "StreamGate",
    "check",
    "exit_code",
    "gather",
    "table",
    "usual_replicas",
]
