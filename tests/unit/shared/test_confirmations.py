"""Which publishes the stream has, by its answers."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from feedmesh.ingest.confirmations import Confirmations


INBOX = "_INBOX.x"
SINGLES = 16


def burst(sent: Confirmations, count: int) -> list[str]:
    """Return the reply subjects of *count* publishes in a burst."""
    for number in range(SINGLES):
        sent.answered(sent.reply(f"single{number}"), b'{"stream":"P","seq":1}')
    return [sent.reply(f"s{number}") for number in range(count)]


def batch_of(reply: str) -> str:
    return reply.removeprefix(f"{INBOX}.").partition(".")[0]


def ack(reply: str, number: int) -> tuple[str, bytes]:
    return reply, json.dumps({"type": "ack", "seq": number, "msgs": 250}).encode()


def last(reply: str, count: int) -> tuple[str, bytes]:
    answer = {"stream": "P", "seq": 99, "batch": batch_of(reply), "count": count}
    return reply, json.dumps(answer).encode()


def refused(reply: str, code: int) -> tuple[str, bytes]:
    error = {"code": 400, "err_code": code, "description": "no"}
    return reply, json.dumps({"error": error, "stream": "P", "seq": 0}).encode()


def test_a_trickle_is_answered_one_by_one() -> None:
    sent = Confirmations(INBOX, 8)
    replies = [sent.reply("a"), sent.reply("b")]

    assert replies == [f"{INBOX}.1", f"{INBOX}.2"]
    assert sent.answered(replies[1], b'{"stream":"P","seq":7}') == []
    assert (sent.confirmed, sent.waiting) == (1, 1)


def test_a_burst_is_a_batch_that_the_next_tick_ends() -> None:
    sent = Confirmations(INBOX, 8)
    first, second = burst(sent, 2)
    sent.tick()
    third = sent.reply("s2")

    assert first == f"{INBOX}.17.250.fail.1.0.$FI"
    assert second == f"{INBOX}.17.250.fail.2.1.$FI"
    assert third == f"{INBOX}.17.250.fail.3.2.$FI"
    assert sent.reply("s3") == f"{INBOX}.18"


def test_one_answer_confirms_all_before_it() -> None:
    sent = Confirmations(INBOX, 8)
    replies = burst(sent, 600)
    sent.answered(*ack(replies[0], 0))
    sent.answered(*ack(replies[499], 500))
    sent.answered(*ack(replies[249], 250))  # late

    assert (sent.confirmed, sent.waiting) == (SINGLES + 500, 100)


def test_a_batch_without_a_further_publish_is_ended_by_its_last_one() -> None:
    sent = Confirmations(INBOX, 8)
    burst(sent, 5)
    sent.tick()
    assert sent.unended() is None  # the next publish would end it
    sent.tick()
    assert sent.unended() == "s4"
    reply = sent.reply("s4")

    assert sent.unended() is None
    assert sent.answered(*last(reply, 6)) == []
    assert sent.waiting == 0


def test_a_batch_that_ends_early_leaves_the_rest_to_be_sent_again() -> None:
    sent = Confirmations(INBOX, 8)
    replies = burst(sent, 10)
    assert sent.answered(replies[7], b'{"type":"gap","last_seq":7,"seq":8}') == []

    assert sent.answered(*last(replies[7], 6)) == ["s6", "s7", "s8", "s9"]
    assert sent.waiting == 0
    assert batch_of(sent.reply("again")) != batch_of(replies[0])
    # The server refuses each that was on its way; that is known already.
    assert sent.answered(*refused(replies[8], 10208)) == []


def test_a_stream_without_batches_is_not_asked_again() -> None:
    sent = Confirmations(INBOX, 8)
    replies = burst(sent, 3)

    assert sent.answered(*refused(replies[0], 10205)) == ["s0", "s1", "s2"]
    assert not sent.batched
    assert not any(sent.reply("s").endswith("$FI") for _ in range(100))


def test_what_nobody_or_nonsense_answers_is_sent_again() -> None:
    sent = Confirmations(INBOX, 8)
    replies = [sent.reply(name) for name in "abc"]

    assert sent.answered(replies[0], b"") == ["a"]
    assert sent.answered(replies[1], b"\xff") == ["b"]
    assert sent.answered(replies[2], b"[]") == ["c"]
    assert sent.answered(replies[2], b"") == []
    assert (sent.confirmed, sent.waiting) == (0, 0)


def test_what_is_not_answered_in_time_is_sent_again() -> None:
    sent = Confirmations(INBOX, 2)
    sent.reply("old")
    sent.tick()
    sent.reply("new")

    assert [sent.tick(), sent.tick(), sent.tick()] == [[], ["old"], ["new"]]
    assert sent.waiting == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["tick", "lose", "give_up"]), st.just(0)),
        st.tuples(st.sampled_from(["ack", "end", "refuse"]), st.integers(0, 60)),
    ),
    max_size=40,
)


@given(steps, st.booleans())
def test_every_publish_is_confirmed_or_sent_again_or_waits(
    steps: list[tuple[str, int]], batches: bool
) -> None:
    sent = Confirmations(INBOX, 3)
    published, again = 0, 0
    replies: list[str] = []
    for step, number in steps:
        if step == "publish":
            replies += [sent.reply(f"s{published + n}") for n in range(number)]
            published += number
        elif step == "tick":
            again += len(sent.tick())
        elif step == "give_up":
            again += len(sent.give_up())
        elif step == "lose" and replies:
            replies.pop()
        elif replies:
            reply = replies[number % len(replies)]
            answer = {"ack": ack, "end": last, "refuse": refused}[step]
            again += len(sent.answered(*answer(reply, number if batches else 10205)))

        assert published == sent.confirmed + again + sent.waiting
