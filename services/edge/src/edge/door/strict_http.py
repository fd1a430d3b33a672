"""
h11, in front of which :mod:`edge.door.http_rules` stand.

h11 mends what it can: line feeds without a return, folded lines, a length beside
chunks, a length given twice. So every head is judged as bytes before h11 parses it, and
as a request after that. No I/O: bytes in; h11's events, or a refusal, out.
"""

from __future__ import annotations

from collections.abc import Iterable

import h11

from edge.door.http_rules import (
    BODY_TOO_LARGE,
    MAX_BODY,
    MAX_CHUNKS,
    MAX_HEAD,
    MAX_URL,
    UPGRADE_REQUIRED,
    Fields,
    Refusal,
    head_refusal,
    malformed,
    request_refusal,
    upgrade_refusal,
    wants_websocket,
)


__all__ = ["StrictConnection"]

# Answered in full, always: ranges save nothing here and have cost others dearly.
_IGNORED = (b"range", b"if-range")


class StrictConnection(h11.Connection):
    """
    The server's side of a connection; what h11 would mend, it refuses.

    Args:
        hosts: Names that a request may be for; ``*`` is all, ``*.x`` all below x.
        sockets: Paths at which there is nothing but a WebSocket.

    Attributes:
        refusal: Why :meth:`next_event` raised; None until it does.
        upgrade: Whether the last request was for a WebSocket.
    """

    def __init__(
        self, hosts: Iterable[str] = ("*",), sockets: Iterable[str] = ()
    ) -> None:
        super().__init__(h11.SERVER, MAX_URL + MAX_HEAD)
        self._hosts = tuple(host.encode().lower() for host in hosts)
        self._sockets = frozenset(path.encode() for path in sockets)
        self._body = 0
        self._chunks = 0
        self.refusal: Refusal | None = None
        self.upgrade = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """
        Return what h11 makes of the next bytes.

        Raises:
            RemoteProtocolError: They are refused; *refusal* says why.
        """
        if self.their_state is h11.IDLE:
            self._refuse(head_refusal(self.trailing_data[0]))
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # h11 words it from the client's bytes, which may be of any size.
            self.refusal = self.refusal or malformed(
                "that is not HTTP as it should be", error.error_status_hint
            )
            raise
        if isinstance(event, h11.Request):
            return self._checked(event)
        if isinstance(event, h11.Data):
            self._refuse(self._body_refusal(event))
        return event

    def _checked(self, request: h11.Request) -> h11.Request:
        self._body = self._chunks = 0
        fields: Fields = {}
        for name, value in request.headers:
            fields.setdefault(name, []).append(value)
        self._refuse(request_refusal(request, fields, self._hosts))
        self.upgrade = wants_websocket(fields)
        if self.upgrade:
            self._refuse(upgrade_refusal(request, fields))
        elif request.target.partition(b"?")[0] in self._sockets:
            self._refuse(UPGRADE_REQUIRED)
        return request if fields.keys().isdisjoint(_IGNORED) else _without(request)

    def _refuse(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self.refusal = refusal
            raise h11.RemoteProtocolError(refusal.detail, refusal.status)

    def _body_refusal(self, part: h11.Data) -> Refusal | None:
        self._body += len(part.data)
        self._chunks += part.chunk_start
        if self._body > MAX_BODY or self._chunks > MAX_CHUNKS:
            return BODY_TOO_LARGE
        return None


def _without(request: h11.Request) -> h11.Request:
    return h11.Request(
        method=request.method,
        target=request.target,
        http_version=request.http_version,
        headers=[pair for pair in request.headers if pair[0] not in _IGNORED],
    )
