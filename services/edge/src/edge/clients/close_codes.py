"""
With which codes the edge closes WebSockets, and what each asks of the client.

Of the codes that are ours, the range is the policy, so that no client need know each:
4000 to 4099 do not come back unchanged, 4100 to 4199 come back after a growing pause,
4200 to 4299 come back and resume. The rest are those of RFC 6455.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, Self


__all__ = ["CloseCode", "Policy"]

Policy = Literal["stop", "back off", "resume"]
"""Do not come back unchanged; come back after a growing pause; come back and resume."""


class CloseCode(IntEnum):
    """
    Why a connection ends.

    Attributes:
        meaning: What happened, for the author of a client.
        policy: What the client does then.
    """

    meaning: str
    policy: Policy

    def __new__(cls, code: int, policy: Policy, meaning: str) -> Self:
        """Return the member of this *code*."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.policy = policy
        member.meaning = meaning
        return member

    PROTOCOL_ERROR = 1002, "stop", "A frame broke the rules of WebSockets."
    NOT_TEXT = 1003, "stop", "A message was binary; requests are text."
    NOT_UTF8 = 1007, "stop", "A message was not UTF-8."
    TOO_LARGE = 1009, "stop", "A message was larger than `limits.max_message_bytes`."
    NO_PONG = 1011, "back off", "The client answered no ping for 20 s."
    RESTART = 1012, "resume", "The edge restarts. Only on the two older endpoints."
    BROKEN = 4000, "stop", "A message was not a request, or 20 requests were wrong."
    UNAUTHENTICATED = 4001, "stop", "The token is missing, wrong or has expired."
    TOO_FAST = 4101, "back off", "More requests than `limits.max_requests_per_second`."
    DOES_NOT_READ = 4108, "back off", "The client did not read what waited for 30 s."
    GOING_AWAY = 4200, "resume", "The edge restarts. `going_away` said when to come."
