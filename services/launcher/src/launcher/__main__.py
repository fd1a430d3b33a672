"""Starts everything, and stops everything together: ``make run``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dotenv import dotenv_values

from launcher.plan import Plan, PlanError, make_plan
from launcher.running import Announcement, is_free, run


_DATA = Path(".data")
_WAIT_SECONDS = 120.0


def main() -> None:
    """Run what the environment and the file .env ask for."""
    environ = {k: v for k, v in dotenv_values(".env").items() if v} | dict(os.environ)
    try:
        plan = make_plan(environ, _DATA.absolute(), is_free)
    except PlanError as error:
        print(f"feedmesh: {error}", file=sys.stderr)
        sys.exit(1)
    _DATA.mkdir(exist_ok=True)
    ready = f"{plan.edge_ops_url}/readyz"
    told = Announcement("the edge", [ready], _where_to_look(plan), _WAIT_SECONDS)
    sys.exit(run(plan.processes, environ, told))


def _where_to_look(plan: Plan) -> str:
    sockets = plan.edge_url.replace("http", "ws", 1)
    if plan.simulated:
        feeds = f"simulated: {', '.join(plan.simulated)} (set keys in .env to change)"
    else:
        feeds = "the real ones"
    lines = [
        "",
        "feedmesh is running",
        f"  page        {plan.edge_url}/",
        f"  stream      {sockets}/api/v3/stream (docs/protocol-v3.md)",
        f"  REST        {plan.edge_url}/api/v3/prices (/openapi.json)",
        f"  bus         {plan.nats_url}",
        *(f"  {name:<11} {url}/metrics" for name, url in plan.ops_urls.items()),
        f"  feeds       {feeds}",
        "  stop        Ctrl+C",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
