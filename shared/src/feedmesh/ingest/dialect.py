"""How an upstream talks: what a service says of it, so that a link can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import NamedTuple, Protocol

from feedmesh.ingest.subscriptions import Request
from feedmesh.ingest.wire import Wire


__all__ = ["Answer", "Control", "Dialect", "Opened", "Reading"]


class Control(Enum):
    """What a frame is, if it is not data."""

    HEARTBEAT = "heartbeat"
    LOGIN = "login"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBE_REFUSED = "subscribe_refused"
    UNSUBSCRIBE_REFUSED = "unsubscribe_refused"
    OTHER = "other"


class Answer(NamedTuple):
    """An answer to a request of which the first key begins with *about*."""

    control: Control
    about: str


Reading = Control | Answer | None
"""What a dialect reads in a frame; None is data."""


class Opened(NamedTuple):
    """
    A connection that may be used.

    Attributes:
        wire: It.
        early: Data that came before the answer to the login.
        logged_in: Whether there was one; else the first answer to a request shows that
            the upstream has accepted us.
    """

    wire: Wire
    early: Sequence[bytes] = ()
    logged_in: bool = True


class Dialect(Protocol):
    """How one upstream talks."""

    link: str

    def open(self) -> AbstractAsyncContextManager[Opened]:
        """
        Connect and log in.

        Raises:
            FeedError: Of the class that says how to go on.
        """

    def ask(self, request: Request) -> str:
        """Return the text that asks the upstream for *request*."""

    def read(self, frame: bytes) -> Reading:
        """
        Tell data from control; a frame that makes no sense is data, and its handler
        will say so.

        Raises:
            FeedError: If the frame ends the link, such as a late refusal.
        """
