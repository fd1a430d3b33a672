"""The book of faults, tokens and keys, without any socket."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.clock import KST, Clock, next_seven
from simulator.faults import TARGETS, FaultBook, FaultError, kinds_of, read_fault
from simulator.generators import shares
from simulator.ls_frames import JIF_DAY, ack_text, split_key
from simulator.ls_tokens import AppKey, TokenStore
from simulator.malformed import VARIANTS
from simulator.orders import encode_injected
from simulator.replay import guess_target, read_recording
from simulator.scenario import read_scenario
from simulator.settings import Settings
from simulator.wire import dumps_exact, encode_frame, encode_text, loads_exact


class FakeTime:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _book(*orders: dict[str, Any]) -> tuple[FaultBook, FakeTime]:
    clock = FakeTime()
    book = FaultBook(clock)
    for order in orders:
        for fault in read_fault(order, clock):
            book.add(fault)
    return book, clock


def test_a_fault_strikes_only_as_often_as_it_says() -> None:
    book, _ = _book({"target": "fmp.stocks", "kind": "login", "count": 2})

    struck = [book.strike("fmp.stocks", "login", who) for who in (1, 2, 3, 1)]

    assert [fault is not None for fault in struck] == [True, True, False, True]
    assert book.strike("fmp.crypto", "login", 1) is None


def test_a_fault_ends_when_its_time_is_over() -> None:
    book, clock = _book({"target": "ls.ws", "kind": "silence", "for": 5})
    assert book.peek("ls.ws", "silence")

    clock.now += 5

    assert book.peek("ls.ws", "silence") is None
    assert list(book) == []


def test_a_group_reaches_each_of_its_targets() -> None:
    book, _ = _book({"target": "fmp", "kind": "silence"})

    assert {fault.target for fault in book} == {t for t in TARGETS if t[:3] == "fmp"}
    assert book.clear("fmp.crypto") == 1
    assert book.clear(kind="silence") == 3


@pytest.mark.parametrize(
    "order",
    [
        {"target": "fmp.bonds", "kind": "silence"},
        {"target": "fmp.stocks", "kind": "earthquake"},
        {"target": "fmp.stocks", "kind": "silence", "loud": True},
        {"target": "ls.rest", "kind": "silence"},
        {"kind": "silence"},
    ],
)
def test_refuses_a_fault_it_cannot_play(order: dict[str, Any]) -> None:
    with pytest.raises(FaultError):
        read_fault(order)


def test_every_target_has_faults() -> None:
    assert all(len(kinds_of(target)) > 8 for target in TARGETS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_malformed_variant_makes_a_frame(variant: str) -> None:
    frame = VARIANTS[variant](b'{"a":1}')

    assert len(frame) >= 2
    assert frame != encode_text('{"a":1}')


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        ("2025-03-20T09:14", "2025-03-21T07:00"),
        ("2023-06-14T15:52", "2023-06-15T07:00"),
        ("2026-12-31T23:59", "2027-01-01T07:00"),
        ("2026-11-20T03:00", "2026-11-20T07:00"),
        ("2026-11-20T07:00", "2026-11-21T07:00"),
    ],
)
def test_a_token_expires_at_seven(issued: str, expires: str) -> None:
    now = datetime.fromisoformat(issued).replace(tzinfo=KST)

    assert next_seven(now).strftime("%Y-%m-%dT%H:%M") == expires


def _store() -> tuple[TokenStore, AppKey, Clock]:
    clock = Clock()
    clock.set("2026-11-20T12:00:00")
    key = AppKey("key", "secret", "real")
    return TokenStore(1, {"key": key}, clock), key, clock


def test_a_token_is_a_readable_jwt() -> None:
    store, key, _ = _store()

    token = store.issue(key)
    head, body, signature = token.text.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))

    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "HS512"
    assert claims["exp"] == datetime(2026, 11, 21, 7, tzinfo=KST).timestamp()
    assert claims["iss"] == "unogw"
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64
    assert 300 < len(token.text) < 1000


@pytest.mark.parametrize(
    ("rule", "expires"),
    [
        ("86400", timedelta(days=1)),
        ("seconds", timedelta(seconds=30)),
        ("07:00", timedelta(hours=19)),
        ("next_day", timedelta(hours=19)),
    ],
)
def test_expiry_follows_the_rule(rule: str, expires: timedelta) -> None:
    store, key, _ = _store()

    token = store.issue(key, rule=rule, seconds=30)

    lifetime = token.expires_at - token.issued_at
    assert abs(lifetime - expires) < timedelta(seconds=1)


def test_tokens_expire_and_are_revoked() -> None:
    store, key, clock = _store()
    first, second = store.issue(key), store.issue(key)
    assert store.check(first.text)[1] == ""

    store.revoke(first.text)
    assert store.check(first.text)[1] == "IGW00121"
    assert store.check("nobody")[1] == "IGW00121"

    clock.set("2026-11-21T07:00:01")
    assert store.check(second.text)[1] == "IGW00123"


@pytest.mark.parametrize(
    ("tr_cd", "tr_key", "keys"),
    [
        ("S3_", "005930", ("005930",)),
        ("S3_", "005930000660", ("005930", "000660")),
        ("S3_", "122870", ()),
        ("K3_", "122870", ("122870",)),
        ("S3_", "999999", ()),
        ("US3", "U005930   ", ("U005930   ",)),
        ("US3", "005930", ()),
        ("US3", "U005930", ()),
        ("NS3", "U005930   ", ()),
        ("GSC", "81SOXL            ", ("81SOXL            ",)),
        ("GSC", "81SOXL", ()),
        ("JIF", "0", ("0",)),
        ("NWS", "NWS001", ("NWS001",)),
        ("NWS", "NWS002", ()),
        ("VI_", "000000", ("000000",)),
    ],
)
def test_only_padded_keys_are_served(
    tr_cd: str, tr_key: str, keys: tuple[str, ...]
) -> None:
    assert split_key(tr_cd, tr_key) == keys


def test_an_ack_comes_in_four_shapes() -> None:
    normal, bare, null, keyed = (
        json.loads(ack_text("00000", "ok", "S3_", "3", variant, "005930"))
        for variant in ("normal", "no_body", "null_tr_cd", "with_tr_key")
    )

    assert normal["body"] is None
    assert "body" not in bare
    assert bare["header"]["tr_cd"] == "S3_"
    assert null["header"]["tr_cd"] is None
    assert keyed["header"]["tr_key"] == "005930"


def test_the_day_of_market_states_has_every_special_code() -> None:
    futures = {code for market, code in JIF_DAY if market == "5"}
    kospi = {code for market, code in JIF_DAY if market == "1"}

    assert {"61", "62", "63", *(str(n) for n in range(70, 78))} <= futures
    assert {"61", "64", "68", "21", "41", "31"} <= kospi
    assert {"55", "57", "56", "58"} <= {
        code for market, code in JIF_DAY if market == "6"
    }


def test_injection_keeps_every_digit() -> None:
    frame = loads_exact('{"t":16487238632060000000,"ap":189.450,"t2":1e-8,"k":"가"}')

    encoded = encode_injected(frame, fragmented=False)

    assert encoded == encode_text(
        '{"t":16487238632060000000,"ap":189.450,"t2":1e-8,"k":"가"}'
    )
    assert dumps_exact(frame).decode().count("가") == 1


def test_injection_takes_text_and_bytes() -> None:
    data = base64.b64encode(b"\xff\xfe").decode()

    assert encode_injected({"text": "x"}, fragmented=False) == encode_text("x")
    made = [
        encode_injected({"bytes_b64": data, "opcode": kind}, fragmented=False)
        for kind in ("binary", "text", "raw")
    ]
    assert made == [
        encode_frame(2, b"\xff\xfe"),
        encode_frame(1, b"\xff\xfe"),
        b"\xff\xfe",
    ]


def test_shares_are_fair_and_complete() -> None:
    weights: Any = {"a": 1, "b": 2, "c": 7}
    totals = dict.fromkeys(weights, 0)

    for step in range(1000):
        split = shares(weights, 1, step / 1000)
        assert sum(split.values()) == 1
        for name, count in split.items():
            totals[str(name)] += count

    assert totals == {"a": 100, "b": 200, "c": 700}


@pytest.mark.parametrize(
    ("frame", "target"),
    [
        ('{"s":"aapl","t":1645216790788174600,"type":"Q","ap":1}', "fmp.stocks"),
        (
            '{"s":"btcusd","t":16487238632060000000,"e":"binance","type":"Q"}',
            "fmp.crypto",
        ),
        ('{"s":"eurusd","t":1701958248213,"type":"Q"}', "fmp.forex"),
        ('{"symbol":"AAPL","price":1}', "fmp.stream"),
        ('[{"s":"aapl","t":1645216790788174600,"type":"Q"}]', "fmp.stocks"),
        ('{"header":{"tr_cd":"NWS"},"body":{}}', "ls.ws"),
        ('{"access_token":"x"}', None),
        ("not json", None),
    ],
)
def test_a_recorded_frame_finds_its_target(frame: str, target: str | None) -> None:
    assert guess_target("", frame.encode()) == target


def test_reads_a_recording_in_either_form(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    path.write_text(
        '{"at":5,"target":"ls.ws","frame":{"header":{"tr_cd":"NWS"}}}\n'
        '{"at":7.5,"target":"fmp.stocks","frame":{"ap": 1.50}}\n'
        '{"name":"x","origin":"y","direction":"client","frame":{"event":"login"}}\n'
        '{"name":"x","origin":"y","direction":"server","frame":{"symbol":"A","price":1}}\n',
        "utf-8",
    )

    recorded = list(read_recording(path))

    assert [each.target for each in recorded] == ["ls.ws", "fmp.stocks", "fmp.stream"]
    assert [each.at for each in recorded] == [0.0, 2.5, 2.6]
    assert recorded[1].payload == b'{"ap": 1.50}'


def test_reads_a_scenario_in_the_order_of_its_times(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(
        '[{"at":2,"action":"clear_fault"},'
        '{"at":0.5,"action":"fault","target":"ls.ws","kind":"drop"}]'
    )

    assert [step.at for step in read_scenario(path)] == [0.5, 2.0]


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", '[{"at":1,"action":"explode"}]', "nonsense",
     '[{"at":1,"action":"fault","target":"ls.ws","kind":"unheard"}]'],
)  # fmt: skip
def test_refuses_a_scenario_it_cannot_play(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(text)

    with pytest.raises(FaultError):
        read_scenario(path)


def test_both_kinds_of_app_key_are_accepted_by_default() -> None:
    keys = Settings().app_keys()

    assert {key.kind for key in keys.values()} == {"real", "paper"}
