"""The examples and tables of docs/protocol-v3.md are those of the code."""

from __future__ import annotations

import re

from asyncapi import Description
from protocol_page import messages, rows

from edge.clients.close_codes import CloseCode
from edge.stream.asyncapi import describe
from edge.stream.examples import EXAMPLES
from edge.stream.words import ERRORS, FEED_STATES, GAPS, NOT_RECOVERED, REJECTIONS


DESCRIPTION = Description(describe())


def test_every_example_is_as_described() -> None:
    assert len(messages()) > 20
    faults = [fault for message in messages() for fault in DESCRIPTION.faults(message)]

    assert faults == []
    assert messages()[0] == EXAMPLES["Hello"][0]
    shown = {m["type"] for m in messages() if "type" in m}
    assert shown == DESCRIPTION.sent() - {"pong", "list"}


def test_every_constant_word_is_explained() -> None:
    assert set(rows("`code`", "why")) == set(ERRORS)
    assert set(rows("rejected with")) == set(REJECTIONS)
    assert set(rows("`reason`", "what it means")) == set(NOT_RECOVERED)
    assert set(rows("`reason`", "what happened")) == set(GAPS)
    assert set(rows("`state`", "what it means")) == set(FEED_STATES)


def test_every_close_code_is_explained() -> None:
    text = " ".join(rows("code", "what happened", "what to do"))
    # The older endpoints close with RESTART, this one does not.
    assert {int(code) for code in re.findall(r"\d{4}", text)} == {*CloseCode} - {
        CloseCode.RESTART
    }
