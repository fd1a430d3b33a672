"""
Hosts of their own for the parts of a test, and cables between them to be pulled.

Each host is a network namespace with one virtual cable to a bridge, which is what a
switch is. :meth:`Network.isolate` takes the cable out of the bridge: nothing passes any
more, and nobody is told, neither by a reset nor by a lost carrier; only silence is
left, as when a switch or a route fails. The test itself sits on the bridge.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """
    One namespace.

    Attributes:
        name: Of the namespace.
        address: Its only address.
        cable: The end of its cable that is in the bridge.
    """

    name: str
    address: str
    cable: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run on this host."""
        return ("ip", "netns", "exec", self.name)


class Network:
    """Hosts on one bridge."""

    def __init__(self, bridge: str, hosts: tuple[Host, ...]) -> None:
        self._bridge = bridge
        self.hosts = hosts

    def isolate(self, host: Host) -> None:
        """Have nothing pass between *host* and everybody else."""
        _ip("link", "set", host.cable, "nomaster")

    def rejoin(self, host: Host) -> None:
        """Have everything pass again."""
        _ip("link", "set", host.cable, "master", self._bridge)


@contextmanager
def network(size: int) -> Iterator[Network]:
    """
    Provide *size* hosts; skip the test, and say why, if this machine does not allow it.
    """
    if shutil.which("ip") is None:
        pytest.skip("NOT TESTED, network partition: iproute2 is not installed")
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED, network partition: only root may make namespaces")
    # Names of interfaces have 15 characters at most.
    unique = f"fm{random.randrange(16**6):06x}"
    # Kept for tests of networks (RFC 2544), so it is nobody's.
    subnet = f"198.18.{random.randrange(256)}"
    with ExitStack() as stack:
        try:
            bridge = _bridge(stack, unique, f"{subnet}.254")
            hosts = tuple(
                _host(stack, bridge, f"{unique}-{number}", f"{subnet}.{number}")
                for number in range(1, size + 1)
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"NOT TESTED, network partition: {error.stderr.strip()}")
        yield Network(bridge, hosts)


def _bridge(stack: ExitStack, name: str, address: str) -> str:
    _ip("link", "add", name, "type", "bridge", "stp_state", "0")
    stack.callback(_ip, "link", "delete", name)
    _ip("address", "add", f"{address}/24", "dev", name)
    _ip("link", "set", name, "up")
    return name


def _host(stack: ExitStack, bridge: str, name: str, address: str) -> Host:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)
    cable = f"{name}v"
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
    # With its namespace it would go only once the last connection there is forgotten.
    stack.callback(_ip, "link", "delete", cable)
    _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", name, "link", "set", device, "up")
    _ip("link", "set", cable, "master", bridge)
    _ip("link", "set", cable, "up")
    return Host(name, address, cable)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
