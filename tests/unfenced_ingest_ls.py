"""The LS ingest without its fence: what a test's negative control is run with."""

from __future__ import annotations

import runpy

from feedmesh.ingest.epoch import Claim


if __name__ == "__main__":
    Claim.headers = lambda claim: {}  # type: ignore[method-assign, assignment]
    runpy.run_module("ingest_ls", run_name="__main__")
