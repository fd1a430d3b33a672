"""
Hosts of their own for the parts of a test, and cables between them to be pulled.

Each host is a network namespace with one virtual cable to a switch, and so is the
switch: a bridge in a namespace of its own, where no rule of the machine's firewall
holds. :meth:`Network.isolate` takes the cable out of the bridge: nothing passes any
more, and nobody is told, neither by a reset nor by a lost carrier; only silence is
left, as when a switch or a route fails. The test itself has a cable to the switch, too.
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


_BRIDGE = "bridge"


@dataclass(frozen=True)
class Host:
    """
    One namespace.

    Attributes:
        name: Of the namespace.
        address: Its only address.
        cable: The end of its cable that is at the switch.
    """

    name: str
    address: str
    cable: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run on this host."""
        return ("ip", "netns", "exec", self.name)


class Network:
    """Hosts on one switch."""

    def __init__(self, switch: str, hosts: tuple[Host, ...]) -> None:
        self._switch = switch
        self.hosts = hosts

    def isolate(self, host: Host) -> None:
        """Have nothing pass between *host* and everybody else."""
        _ip("-n", self._switch, "link", "set", host.cable, "nomaster")

    def rejoin(self, host: Host) -> None:
        """Have everything pass again."""
        _ip("-n", self._switch, "link", "set", host.cable, "master", _BRIDGE)


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
            switch = _switch(stack, unique, f"{subnet}.254")
            hosts = tuple(
                _host(stack, switch, f"{unique}-{number}", f"{subnet}.{number}")
                for number in range(1, size + 1)
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"NOT TESTED, network partition: {error.stderr.strip()}")
        yield Network(switch, hosts)


def _switch(stack: ExitStack, name: str, address: str) -> str:
    """Make a switch; *address* is this machine's on it."""
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)
    _ip("-n", name, "link", "add", _BRIDGE, "type", "bridge", "stp_state", "0")
    _ip("-n", name, "link", "set", _BRIDGE, "up")
    _cable(stack, name, (name,), "uplink")
    _ip("address", "add", f"{address}/24", "dev", name)
    _ip("link", "set", name, "up")
    return name


def _host(stack: ExitStack, switch: str, name: str, address: str) -> Host:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)
    cable = f"{name}v"
    _cable(stack, switch, ("eth0", "netns", name), cable)
    _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", name, "link", "set", device, "up")
    return Host(name, address, cable)


def _cable(stack: ExitStack, switch: str, far: tuple[str, ...], near: str) -> None:
    """Lay a cable from *far*, a device and where it is, to *near*, at the switch."""
    _ip("link", "add", *far, "type", "veth", "peer", "name", near, "netns", switch)
    # With its namespace it would go only once the last connection there is forgotten.
    stack.callback(_ip, "-n", switch, "link", "delete", near)
    _ip("-n", switch, "link", "set", near, "master", _BRIDGE)
    _ip("-n", switch, "link", "set", near, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
