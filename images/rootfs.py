"""
Lays out what the final image holds: Python, the service, and the libraries they need.

Run in the build stage. No shell, no package manager, no compiler: what is not copied
here is not there. `/app` holds the packages; `python /app` runs the service.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode


APP = Path("/app")
STDLIB = Path(sysconfig.get_path("stdlib"))
PYTHON = Path(sys.executable).resolve()
# Parts of the standard library that no service has use for.
LEFT_OUT = (
    *("test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo"),
    *("distutils", "pydoc_data", "config-*", "__pycache__", "sitecustomize.py"),
    # The same, and large libraries with them.
    *("_sqlite3.*", "sqlite3", "_dbm.*", "dbm", "readline.*", "_curses*", "curses"),
    *("nis.*", "_test*", "_xxtest*"),
)
FILES = {
    "etc/passwd": "feedmesh:x:10001:10001::/:/sbin/nologin\n",
    "etc/group": "feedmesh:x:10001:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "app/__main__.py": "from runpy import run_module\n\nrun_module({name}, None, "
    "'__main__', True)\n",
}
# The time that every file bears, whenever it was built.
MADE = int(os.environ["SOURCE_DATE_EPOCH"])
DATA = ("/etc/ssl/certs/ca-certificates.crt", "/usr/share/zoneinfo")


def main(root: Path, service: str) -> None:
    """Fill *root* for *service*."""
    shutil.copytree(STDLIB, at(root, STDLIB), ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(
        APP, at(root, APP), ignore=shutil.ignore_patterns("bin", "__pycache__")
    )
    put(root, PYTHON)
    for name in ("python", "python3"):
        at(root, Path("/usr/bin") / name).symlink_to(PYTHON.name)
    # Symbols for debuggers are most of some wheels.
    subprocess.run(
        ["strip", "--strip-unneeded", *at(root, APP).rglob("*.so")], check=True
    )
    linked = sorted(set(libraries(root)))
    for library in linked:
        put(root, library)
    for path in map(Path, DATA):
        if path.is_dir():
            shutil.copytree(path, at(root, path), symlinks=True)
        else:
            put(root, path)
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("{name}", repr(service.replace("-", "_"))))
    note_packages(root, [PYTHON, STDLIB / "os.py", STDLIB / "json", *linked])
    # Compiled ahead, since nothing can be written later; by content, so that the same
    # sources give the same bytes.
    for folder in (at(root, STDLIB), at(root, APP)):
        compileall.compile_dir(
            folder,
            quiet=2,
            stripdir=str(root),
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
    for path in (root, *root.rglob("*")):
        os.utime(path, (MADE, MADE), follow_symlinks=False)


def at(root: Path, path: Path) -> Path:
    """Return where *path* goes below *root*."""
    return root / path.relative_to("/")


def put(root: Path, path: Path) -> None:
    """Copy the file *path*, following links, to the same place below *root*."""
    target = at(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target)


def libraries(root: Path) -> Iterator[Path]:
    """Yield the shared libraries that the programs below *root* are linked with."""
    for program in (PYTHON, *root.rglob("*.so")):
        said = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        # Libraries that a wheel brings along are found beside it.
        yield from (
            Path(found)
            for found in re.findall(r"(/\S+) \(0x", said)
            if not Path(found).is_relative_to(root)
        )


def note_packages(root: Path, paths: list[Path]) -> None:
    """Write down of which packages *paths* are, where scanners look for that."""
    said = subprocess.run(
        ["dpkg-query", "--search", *paths], capture_output=True, text=True
    ).stdout
    found = {line.split(":")[0] for line in said.splitlines()}
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for name in sorted(found | {"ca-certificates", "tzdata"}):
        status = subprocess.run(
            ["dpkg-query", "--status", name], capture_output=True, text=True, check=True
        ).stdout
        (folder / name).write_text(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
