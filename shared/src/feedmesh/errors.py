"""
Errors that cross a module boundary, and what to do about each.

* FeedmeshError
    * SettingsError        stop: exit code 2, one line that names the setting
    * PortInUseError       stop: exit code 1, one line that names the port
    * FeedError            retry, at the pace the class says
        * FeedLostError        soon: dropped, timed out, silent
        * FeedBusyError        slowly: somebody else holds the only connection
        * FeedRefusedError     slowly, and tell the operator: key or plan refused
    * FrameError           skip and count: one frame makes no sense
    * BusError             retry: NATS did not answer; whether it acted is unknown
    * SpoolError           stop: the file cannot be used
"""

from __future__ import annotations


__all__ = [
    "BusError",
    "FeedBusyError",
    "FeedError",
    "FeedLostError",
    "FeedRefusedError",
    "FeedmeshError",
    "FrameError",
    "PortInUseError",
    "SettingsError",
    "SpoolError",
]


class FeedmeshError(Exception):
    """Base class of all errors of this project."""


class SettingsError(FeedmeshError):
    """A setting is missing, unknown or wrong; the text never holds its value."""


class PortInUseError(FeedmeshError):
    """
    Somebody else listens on the port that was asked for.

    Attributes:
        host: The address as set.
        port: The port as set.
        setting: Name of the setting that changes it.
    """

    def __init__(self, host: str, port: int, setting: str) -> None:
        super().__init__(f"port {port} on {host} is in use; set {setting} to another")
        self.host = host
        self.port = port
        self.setting = setting


class FeedError(FeedmeshError):
    """
    Something is wrong with an upstream connection.

    Attributes:
        reason: A short constant word, fit for a metric label.
        retry_after: Seconds that the upstream asked us to wait, if it did.
    """

    slow = False

    def __init__(
        self, reason: str, detail: str = "", *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.retry_after = retry_after


class FeedLostError(FeedError):
    """The connection is gone; the same call may succeed soon."""


class FeedBusyError(FeedError):
    """Another connection holds the slot; fighting for it would only kick both."""

    slow = True


class FeedRefusedError(FeedError):
    """The upstream refused the key or the plan; only an operator can mend it."""

    slow = True


class FrameError(FeedmeshError):
    """
    One frame, or one event in it, could not be understood.

    Attributes:
        reason: A short constant word, fit for a metric label.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class BusError(FeedmeshError):
    """NATS did not confirm; the message may or may not have been stored."""


class SpoolError(FeedmeshError):
    """The file that holds what waits for NATS cannot be used."""
