"""
A disk whose power a test cuts: ext4 in a file, mounted through a loop device.

Cutting is the file system's own emergency stop (``EXT4_IOC_SHUTDOWN`` without a flush
of its journal, ext4's counterpart of XFS's "godown", which file systems are tested
with): from that instant nothing more reaches the file, and what the page cache still
held is gone. Mounting it again replays the journal, as booting does. What a program
was told is on the disk (``fsync``) must be there, and what it was not, need not.

Unlike a real cut, no sector is half written, and there is no volatile cache inside the
disk that could lie about a flush.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
# Sparse; a server refuses streams whose limits are larger than its disk.
_SIZE = 8 << 30


class PowerDisk:
    """
    A mounted disk image.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self._mounted = False
        self.folder = folder

    def mount(self) -> None:
        """Make it usable; what a cut has left of it is mended as at a boot."""
        # A commit of the journal in the middle of a test would save the careless.
        options = ("-o", "loop,commit=300")
        _run_patiently("mount", *options, str(self._image), str(self.folder))
        self._mounted = True

    def cut(self) -> None:
        """Cut the power: nothing that is not on the disk yet will ever be."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Take it off; whoever used it must be gone."""
        if self._mounted:
            _run_patiently("umount", str(self.folder))
            self._mounted = False


@contextmanager
def power_disk(folder: Path) -> Iterator[PowerDisk]:
    """
    Provide a mounted disk below *folder*; skip the test, and say why, if that is not
    possible on this machine.
    """
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            pytest.skip(f"NOT TESTED, power cut: {tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED, power cut: only root may mount a disk")
    image, mounted = folder / "disk.img", folder / "disk"
    mounted.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(_SIZE)
    disk = PowerDisk(image, mounted)
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT TESTED, power cut: {error.stderr.strip()}")
    try:
        yield disk
    finally:
        disk.unmount()
        image.unlink()


def _run_patiently(*command: str) -> None:
    """Run *command*; the kernel may not yet have let go of the disk's last user."""
    for _ in range(10):
        with contextlib.suppress(subprocess.CalledProcessError):
            _run(*command)
            return
        time.sleep(0.2)
    _run(*command)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
