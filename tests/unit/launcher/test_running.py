"""What is shown of the processes, whatever happens meanwhile."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from honcho.printer import Message

from launcher.running import _Terminal


class Interrupted(io.RawIOBase):
    """An output in whose first write Ctrl+C comes."""

    def __init__(self) -> None:
        self.shown = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self.shown:
            signal.raise_signal(signal.SIGINT)
        self.shown += bytes(data)
        return len(data)


@pytest.fixture
def interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_the_middle_of_a_line_ends_nothing_else(interrupts: None) -> None:
    raw = Interrupted()
    terminal = _Terminal(io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8"))
    asked = []

    def say(text: str) -> None:
        terminal.write(Message("line", text, datetime.now(UTC), "nats", None))

    def on_ctrl_c(*_: object) -> None:
        say("SIGINT received")
        asked.append(True)

    signal.signal(signal.SIGINT, on_ctrl_c)
    say("first")
    say("second")

    assert asked == [True]
    assert [line[-6:] for line in raw.shown.split(b"\n")] == [b" first", b"second", b""]
