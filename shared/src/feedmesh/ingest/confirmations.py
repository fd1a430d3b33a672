"""
Which publishes the stream has; no I/O.

An answer to every publish costs more than the publish. So in a burst publishes form a
*fast-ingest batch* (nats-server 2.14, ADR-50): the stream stores each message as it
comes, and one answer confirms all up to the one it names. A gap ends the batch, so what
is confirmed has none. The protocol lies in the reply subject,
``<inbox>.<batch>.<messages an answer>.fail.<number>.<operation>.$FI``, and readers see
nothing of it.

Out of a burst, and wherever the stream does not allow batches, each publish is answered
by itself: a batch of one, with a plain reply subject.

Every batch ends soon: by the first publish after the next tick of its owner or, if none
comes until the tick after it, by the last one sent once more. So its last answer is due
soon too, and one that is overdue means "unknown": all that it has not confirmed must be
sent again.
"""

from __future__ import annotations

import itertools

import msgspec


__all__ = ["Confirmations"]

# Publishes between two ticks that are answered singly; more are a burst.
_SINGLES = 16
# The server may answer more often than asked, never less.
_MESSAGES_PER_ANSWER = 250
_MAX_BATCH = 16_384
_START, _APPEND, _COMMIT = 0, 1, 2
_NO_BATCHES = 10_205
"""What the server answers when the stream does not allow batches."""


class _Error(msgspec.Struct):
    err_code: int = 0


class _Answer(msgspec.Struct):
    # An answer within a batch has a type; the last one, or one to a single, has none.
    type: str = ""
    seq: int = 0
    batch: str = ""
    count: int = 0
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class _Batch:
    __slots__ = ("opened", "sent", "stored")

    def __init__(self, opened: int) -> None:
        # At which tick.
        self.opened = opened
        # Subjects, in order; the number in the batch is the index and 1.
        self.sent: list[str] = []
        self.stored = 0


class Confirmations:
    """
    Gives every publish its reply subject, and tells what must be sent again.

    Args:
        inbox: Where the answers go; its owner subscribes to ``<inbox>.>``.
        ticks: After which an answer is overdue.

    Attributes:
        confirmed: How many publishes the stream confirmed.
        waiting: How many have no answer yet.
        batched: Whether the stream is thought to allow batches.
    """

    def __init__(self, inbox: str, ticks: int) -> None:
        self._prefix = f"{inbox}."
        self._patience = ticks
        self._now = 0
        self._batches: dict[str, _Batch] = {}
        self._names = itertools.count(1)
        self._singles = 0
        self._open: _Batch | None = None
        self._open_prefix = ""
        self.confirmed = 0
        self.waiting = 0
        self.batched = True

    def reply(self, subject: str) -> str:
        """Return the reply subject for a publish on *subject*."""
        self.waiting += 1
        batch = self._open
        if batch is None:
            return self._first(subject)
        batch.sent.append(subject)
        number = len(batch.sent)
        if batch.opened == self._now and number < _MAX_BATCH:
            return f"{self._open_prefix}{number}.{_APPEND}.$FI"
        self._open = None
        return f"{self._open_prefix}{number}.{_COMMIT}.$FI"

    def _first(self, subject: str) -> str:
        name = str(next(self._names))
        batch = self._batches[name] = _Batch(self._now)
        batch.sent.append(subject)
        self._singles += 1
        if self._singles <= _SINGLES or not self.batched:
            return self._prefix + name
        self._open = batch
        self._open_prefix = f"{self._prefix}{name}.{_MESSAGES_PER_ANSWER}.fail."
        return f"{self._open_prefix}1.{_START}.$FI"

    def answered(self, reply: str, data: bytes) -> list[str]:
        """
        Take the answer *data* to *reply*; return subjects that must be sent again.

        No data means that nobody listens: the stream is not there.
        """
        name = reply[len(self._prefix) :].partition(".")[0]
        batch = self._batches.get(name)
        if batch is None:
            return []
        try:
            answer = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._end(name, batch)
        if answer.type:
            # A gap or an error ends the batch, and that is told by itself.
            if answer.type == "ack":
                self._store(batch, answer.seq)
            return []
        if answer.error is None:
            self._store(batch, answer.count if answer.batch else len(batch.sent))
        elif answer.error.err_code == _NO_BATCHES:
            self.batched = False
        return self._end(name, batch)

    def tick(self) -> list[str]:
        """Let time pass; return subjects whose answers are overdue."""
        self._now += 1
        self._singles = 0
        overdue: list[str] = []
        for name, batch in list(self._batches.items()):
            if self._now - batch.opened <= self._patience:
                break
            overdue += self._end(name, batch)
        return overdue

    def unended(self) -> str | None:
        """Return the subject to send once more so that a batch ends, if that is due."""
        batch = self._open
        if batch is None or self._now - batch.opened < 2:
            return None
        return batch.sent[-1]

    def give_up(self) -> list[str]:
        """Return all subjects that wait: no answer to them will come any more."""
        missing = [
            subject
            for batch in self._batches.values()
            for subject in batch.sent[batch.stored :]
        ]
        # Of thousands, each by itself would keep what is new waiting.
        self._batches.clear()
        self._open = None
        self.waiting = 0
        return missing

    def _store(self, batch: _Batch, number: int) -> None:
        # An answer may be late, or claim more than was sent.
        new = min(number, len(batch.sent)) - batch.stored
        if new > 0:
            batch.stored += new
            self.confirmed += new
            self.waiting -= new

    def _end(self, name: str, batch: _Batch) -> list[str]:
        del self._batches[name]
        if batch is self._open:
            self._open = None
        missing = batch.sent[batch.stored :]
        self.waiting -= len(missing)
        return missing
