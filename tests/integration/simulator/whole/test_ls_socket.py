"""The LS WebSocket: registrations, acknowledgements, news, equities and faults."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest
from integration.simulator.whole.bench import (
    Bench,
    closed,
    receive,
    receive_raw,
    register,
    silent,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulator.malformed import VARIANTS


NEWS = ("NWS", "NWS001")
ACCEPTED = {
    "header": {
        "rsp_cd": "00000",
        "rsp_msg": "정상처리되었습니다",
        "tr_cd": "NWS",
        "tr_type": "3",
    },
    "body": None,
}


async def _news(bench: Bench, count: int = 1) -> None:
    await bench.post("/generate", {"news_items": count})


async def test_a_registration_is_acknowledged_as_recorded(bench: Bench) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await register(client, token, *NEWS)
        text = await receive_raw(client)

    assert text == (
        '{"header":{"rsp_cd":"00000","rsp_msg":"정상처리되었습니다",'
        '"tr_cd":"NWS","tr_type":"3"},"body":null}'
    )


async def test_news_comes_to_those_who_registered(bench: Bench) -> None:
    async with bench.ls(NEWS) as client, bench.ls(("JIF", "0")) as other:
        await _news(bench, 3)
        frames = [await receive(client) for _ in range(3)]
        assert await silent(other)

    assert all(
        frame["header"] == {"tr_cd": "NWS", "tr_key": "NWS001"} for frame in frames
    )
    assert all(len(frame["body"]["realkey"]) == 24 for frame in frames)
    assert all(isinstance(v, str) for frame in frames for v in frame["body"].values())


async def test_news_flows_by_itself_at_the_rate_asked_for(bench: Bench) -> None:
    await bench.post("/generate", {"news_per_minute": 3000})
    async with bench.ls(NEWS) as client:
        started = time.monotonic()
        for _ in range(50):
            await receive(client)

    assert 0.4 < time.monotonic() - started < 3.0


async def test_stress_means_thousands_a_second(bench: Bench) -> None:
    await bench.post("/generate", {"news_per_minute": "stress"})
    async with bench.ls(NEWS) as client:
        started = time.monotonic()
        for _ in range(2000):
            await receive(client)

    assert time.monotonic() - started < 4.0


async def test_unregistering_ends_the_news(bench: Bench) -> None:
    token = await bench.token()
    async with bench.ls(NEWS, token=token) as client:
        await register(client, token, *NEWS, tr_type="4")
        reply = await receive(client)
        assert reply["header"]["tr_type"] == "4"
        await _news(bench)
        assert await silent(client)


async def test_registrations_do_not_survive_the_socket(bench: Bench) -> None:
    token = await bench.token()
    async with bench.ls(NEWS, token=token):
        assert (await bench.stats("ls.ws"))["subscribed"] == ["NWS:NWS001"]

    async with bench.connect("ls.ws") as client:
        assert (await bench.stats("ls.ws"))["subscribed"] == []
        await _news(bench)
        assert await silent(client)


@pytest.mark.parametrize("tr_type", ["1", "2"])
async def test_an_account_is_acknowledged_with_a_null_tr(
    bench: Bench, tr_type: str
) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await register(client, token, "", "", tr_type)
        reply = await receive(client)

    assert reply == {
        "header": {
            "tr_cd": None,
            "rsp_cd": "00000",
            "rsp_msg": "정상처리되었습니다",
        }
    }


async def test_a_bearer_is_a_guest_who_is_told_nothing(bench: Bench) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await register(client, f"Bearer {token}", *NEWS)
        await _news(bench)
        assert await silent(client)


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_an_unknown_token_is_rejected(bench: Bench, token: str) -> None:
    async with bench.connect("ls.ws") as client:
        await register(client, token, *NEWS)
        reply = await receive(client)
        assert reply["header"]["rsp_cd"] == "IGW00121"
        await client.send('{"header":{"tr_type":"3"},"body":{"tr_cd":"NWS"}}')
        assert (await receive(client))["header"]["rsp_cd"] == "IGW00121"
        await _news(bench)
        assert await silent(client)

    assert (await bench.stats("ls.ws"))["failed_logins"] == 2


async def test_a_revoked_or_stale_token_is_rejected(bench: Bench) -> None:
    revoked = await bench.token()
    await bench.fault("ls.rest", "revoke_all")
    stale = await bench.token()
    await bench.fault("ls.rest", "expire_all")

    async with bench.connect("ls.ws") as client:
        for token in (revoked, stale):
            await register(client, token, *NEWS)
            assert (await receive(client))["header"]["rsp_cd"] == "IGW00121"


async def test_a_key_of_the_other_kind_does_not_fit(bench: Bench) -> None:
    real, paper = await bench.token(), await bench.token("simulator-paper")

    for target, token in (("ls.paper", real), ("ls.ws", paper)):
        async with bench.connect(target) as client:
            await register(client, token, *NEWS)
            assert (await receive(client))["header"]["rsp_cd"] == "10001"


async def test_the_paper_port_has_news_too(bench: Bench) -> None:
    async with bench.ls(NEWS, target="ls.paper") as client:
        await _news(bench)
        assert (await receive(client))["header"]["tr_cd"] == "NWS"


async def test_an_unpadded_overseas_future_is_rejected(bench: Bench) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await register(client, token, "OVC", "ESZ6")
        assert (await receive(client))["header"]["rsp_cd"] == "10009"


async def test_other_paths_time_out(bench: Bench) -> None:
    with pytest.raises(TimeoutError):
        async with bench.connect("ls.ws", "/websocket/stock", open_timeout=0.3):
            """Never."""

    assert (await bench.stats("ls.ws"))["refused_upgrades"] == 1


async def test_nonsense_from_a_client_is_ignored(bench: Bench) -> None:
    async with bench.ls(NEWS) as client:
        for text in ("nonsense", "[]", "{}", '{"header":1}', '{"header":{"token":1}}'):
            await client.send(text)
        await client.send(b"\xff")
        await _news(bench)
        frames = [await receive(client) for _ in range(2)]

    assert frames[0]["header"]["rsp_cd"] == "IGW00121"
    assert frames[1]["header"]["tr_cd"] == "NWS"
    assert (await bench.stats("ls.ws"))["internal_errors"] == 0


@pytest.mark.parametrize(
    ("tr_cd", "tr_key", "fields"),
    [
        ("S3_", "005930", {"cvolume", "volume", "exchname", "chetime"}),
        ("K3_", "122870", {"cvolume", "volume", "exchname", "chetime"}),
        ("H1_", "005930", {"offerho10", "bidrem10", "hotime", "totbidrem"}),
        ("HA_", "086520", {"offerho10", "bidrem10", "hotime", "totbidrem"}),
        ("US3", "U005930   ", {"ex_shcode", "cvolume"}),
        ("NS3", "N010950   ", {"ex_shcode", "cvolume"}),
        ("UH1", "U005930   ", {"unt_bidrem1", "krx_midprice", "volume"}),
        ("VI_", "145270", {"vi_gubun", "ref_shcode"}),
        ("GSC", "81SOXL            ", {"trdq", "kordate", "lSeq"}),
        ("GSH", "82TSLA            ", {"offerho10", "bidno10", "kortime"}),
    ],
)
async def test_equities_echo_their_key(
    bench: Bench, tr_cd: str, tr_key: str, fields: set[str]
) -> None:
    await bench.post("/generate", {"rate": 1000})

    async with bench.ls((tr_cd, tr_key)) as client:
        frames = [await receive(client) for _ in range(3)]

    header = {"tr_cd": tr_cd, "tr_key": tr_key}
    assert all(frame["header"] == header for frame in frames)
    assert all(fields <= set(frame["body"]) for frame in frames)
    values = [value for frame in frames for value in frame["body"].values()]
    assert all(isinstance(value, str) for value in values)


async def test_codes_in_a_row_register_each(bench: Bench) -> None:
    await bench.post("/generate", {"rate": 500})
    async with bench.ls(("S3_", "005930000660")) as client:
        frames = [await receive(client) for _ in range(40)]

    by_code: dict[str, list[dict[str, str]]] = {}
    for frame in frames:
        by_code.setdefault(frame["header"]["tr_key"], []).append(frame["body"])
    assert set(by_code) == {"005930", "000660"}
    for bodies in by_code.values():
        volumes = [int(body["volume"]) for body in bodies]
        grown = [int(body["cvolume"]) for body in bodies]
        steps = [after - before for before, after in itertools.pairwise(volumes)]
        assert steps == grown[1:]


@pytest.mark.parametrize(
    ("tr_cd", "tr_key"), [("US3", "005930"), ("US3", "U005930"), ("GSC", "81SOXL")]
)
async def test_an_unpadded_key_is_acknowledged_and_never_served(
    bench: Bench, tr_cd: str, tr_key: str
) -> None:
    await bench.post("/generate", {"rate": 1000})

    async with bench.ls((tr_cd, tr_key)) as client:
        assert await silent(client, 0.3)


async def test_market_status_has_no_snapshot_but_a_day_on_demand(bench: Bench) -> None:
    async with bench.ls(("JIF", "0")) as client:
        assert await silent(client)
        await bench.fault("ls.ws", "jif_day", per_second=1000)
        bodies = [(await receive(client))["body"] for _ in range(60)]

    assert {"jangubun": "1", "jstatus": "21"} in bodies
    assert {body["jangubun"] for body in bodies} >= {"1", "2", "5", "6"}


@pytest.mark.parametrize(
    ("variant", "check"),
    [
        ("no_body", lambda ack: "body" not in ack),
        ("null_tr_cd", lambda ack: ack["header"]["tr_cd"] is None),
        ("with_tr_key", lambda ack: ack["header"]["tr_key"] == "NWS001"),
    ],
)
async def test_an_ack_can_have_other_shapes(
    bench: Bench, variant: str, check: Any
) -> None:
    await bench.fault("ls.ws", "ack", variant=variant)

    async with bench.connect("ls.ws") as client:
        await register(client, await bench.token(), *NEWS)
        assert check(await receive(client))


async def test_an_ack_can_be_late(bench: Bench) -> None:
    await bench.fault("ls.ws", "ack", variant="late", seconds=0.2)
    token = await bench.token()

    async with bench.connect("ls.ws") as client:
        started = time.monotonic()
        await register(client, token, *NEWS)
        assert await receive(client) == ACCEPTED

    assert time.monotonic() - started >= 0.2


async def test_an_ack_can_be_missing_or_come_twice(bench: Bench) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await bench.fault("ls.ws", "ack", variant="never", count=1)
        await register(client, token, *NEWS)
        assert await silent(client)
        await bench.fault("ls.ws", "ack", variant="twice", tr_cd="NWS")
        await register(client, token, *NEWS)
        assert await receive(client) == await receive(client) == ACCEPTED


async def test_data_can_come_before_the_ack(bench: Bench) -> None:
    await bench.fault("ls.ws", "ack", variant="data_before")
    token = await bench.token()

    for key in (("S3_", "005930"), NEWS, ("JIF", "0")):
        async with bench.connect("ls.ws") as client:
            await register(client, token, *key)
            first, second = await receive(client), await receive(client)
            assert first["body"] is not None
            assert "rsp_cd" not in first["header"]
            assert second["header"]["rsp_cd"] == "00000"


@pytest.mark.parametrize("code", ["10001", "10009", "IGW00121"])
async def test_a_storm_of_rejects_and_short_sessions(bench: Bench, code: str) -> None:
    await bench.fault("ls.ws", "ack", variant="reject", code=code, close_after_ms=20)
    token = await bench.token()

    async with bench.connect("ls.ws") as client:
        await register(client, token, *NEWS)
        assert (await receive(client))["header"]["rsp_cd"] == code
        assert await closed(client) == 1000


async def test_a_reject_can_leave_the_socket_open(bench: Bench) -> None:
    await bench.fault("ls.ws", "ack", variant="reject", code="IGW00121", count=1)
    token = await bench.token()

    async with bench.connect("ls.ws") as client:
        await register(client, token, *NEWS)
        assert (await receive(client))["header"]["rsp_cd"] == "IGW00121"
        await register(client, token, *NEWS)
        assert await receive(client) == ACCEPTED


async def test_registrations_can_be_limited(bench: Bench) -> None:
    await bench.fault("ls.ws", "registration_limit", limit=2)
    token = await bench.token()

    async with bench.ls(NEWS, ("JIF", "0"), token=token) as client:
        await register(client, token, "S3_", "005930")
        assert (await receive(client))["header"]["rsp_cd"] != "00000"


async def test_sockets_can_be_limited(bench: Bench) -> None:
    await bench.fault("ls.ws", "socket_limit", limit=1)

    async with bench.ls(NEWS):
        with pytest.raises(InvalidStatus) as caught:
            async with bench.connect("ls.ws"):
                """Never."""

    assert caught.value.response.status_code == 429


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011])
async def test_a_socket_can_be_closed_when_its_token_expires(
    bench: Bench, code: int
) -> None:
    await bench.fault("ls.ws", "at_expiry", action="close", code=code)
    await bench.post("/clock", {"now": "2026-11-20T06:00:00"})

    async with bench.ls(NEWS) as client:
        assert await silent(client)
        await bench.post("/clock", {"now": "2026-11-20T07:00:01"})
        assert await closed(client) == code


async def test_a_socket_can_fall_silent_when_its_token_expires(bench: Bench) -> None:
    await bench.fault("ls.ws", "at_expiry", action="silent")

    async with bench.ls(NEWS) as client:
        await bench.fault("ls.rest", "expire_all")
        await asyncio.sleep(0.1)
        await _news(bench)
        assert await silent(client)
        pong = await client.ping()
        async with asyncio.timeout(5):
            await pong


async def test_nothing_need_happen_when_a_token_expires(bench: Bench) -> None:
    """But the next registration with it is rejected."""
    token = await bench.token()
    async with bench.ls(NEWS, token=token) as client:
        await bench.post("/clock", {"now": 2 * 86_400})
        await _news(bench)
        assert (await receive(client))["header"]["tr_cd"] == "NWS"
        await register(client, token, "JIF", "0")
        assert (await receive(client))["header"]["rsp_cd"] == "IGW00121"


@pytest.mark.parametrize(
    ("variant", "check"),
    [
        ("body_null", lambda f: f["body"] is None),
        ("body_missing", lambda f: "body" not in f),
        ("no_category", lambda f: "categoryid" not in f["body"]),
        ("null_title", lambda f: f["body"]["title"] is None),
        ("wrong_types", lambda f: f["body"]["id"] == 27),
        ("title_300", lambda f: len(f["body"]["title"]) == 300),
        ("title_control", lambda f: "\x00" in f["body"]["title"]),
        ("title_html", lambda f: "<script>" in f["body"]["title"]),
        ("provider_letters", lambda f: f["body"]["id"] == "AB"),
        ("code_20", lambda f: len(f["body"]["code"]) == 240),
        ("code_bare", lambda f: f["body"]["code"] == "005930000660005930"),
        ("code_alphanumeric", lambda f: f["body"]["code"] == "0000000017J0"),
        ("code_odd", lambda f: len(f["body"]["code"]) % 6),
        ("date_invalid", lambda f: f["body"]["date"] == "20261341"),
    ],
)
async def test_news_can_be_bent(bench: Bench, variant: str, check: Any) -> None:
    await bench.fault("ls.ws", "news_shape", variant=variant)

    async with bench.ls(NEWS) as client:
        await _news(bench)
        assert check(await receive(client))


async def test_the_providers_clock_can_be_off(bench: Bench) -> None:
    await bench.post("/clock", {"now": "2026-11-20T00:00:05"})
    async with bench.ls(NEWS) as client:
        for params, date in (
            ({"clock_offset": 3}, "20261120"),
            ({"clock_offset": -60}, "20261119"),
            ({"variant": "date_yesterday"}, "20261119"),
        ):
            await bench.fault("ls.ws", "news_shape", **params)
            await _news(bench)
            assert (await receive(client))["body"]["date"] == date


async def test_one_key_can_come_twice(bench: Bench) -> None:
    await bench.fault("ls.ws", "news_shape", variant="same_realkey")

    async with bench.ls(NEWS) as client:
        await _news(bench)
        first, second = await receive(client), await receive(client)

    assert first["body"]["realkey"] == second["body"]["realkey"]


@pytest.mark.parametrize("variant", ["cp949", "duplicate_keys", "binary", "not_json"])
async def test_malformed_news_among_the_good(bench: Bench, variant: str) -> None:
    await bench.fault("ls.ws", "malformed", variant=variant, ratio=1.0)
    assert variant in VARIANTS

    async with bench.ls(NEWS) as client:
        await _news(bench)
        good = await receive(client)
        if variant == "cp949":
            with pytest.raises((ConnectionClosed, UnicodeDecodeError)):
                await receive_raw(client)
        else:
            assert await receive_raw(client) != good


@pytest.mark.parametrize(
    ("tr_cd", "tr_key", "variant", "check"),
    [
        ("S3_", "005930", "no_exchname", lambda b: "exchname" not in b),
        ("S3_", "005930", "nxt", lambda b: b["exchname"] == "NXT"),
        ("S3_", "005930", "numbers", lambda b: isinstance(b["price"], int)),
        ("US3", "U005930   ", "padded_shcode", lambda b: b["shcode"] == "U005930   "),
        ("H1_", "005930", "mid", lambda b: b["midsumremgubun"] == " "),
    ],
)
async def test_equities_can_be_bent(
    bench: Bench, tr_cd: str, tr_key: str, variant: str, check: Any
) -> None:
    await bench.fault("ls.ws", "equity_shape", variant=variant)
    await bench.post("/generate", {"rate": 500})

    async with bench.ls((tr_cd, tr_key)) as client:
        assert check((await receive(client))["body"])


async def test_trades_can_be_lost(bench: Bench) -> None:
    await bench.fault("ls.ws", "equity_shape", variant="lost")
    await bench.post("/generate", {"rate": 500})

    async with bench.ls(("S3_", "005930")) as client:
        bodies = [(await receive(client))["body"] for _ in range(60)]

    jumps = [
        int(after["volume"]) - int(before["volume"]) - int(after["cvolume"])
        for before, after in itertools.pairwise(bodies)
    ]
    assert any(jump > 0 for jump in jumps)


async def test_a_burst_of_news_can_end_in_a_drop(bench: Bench) -> None:
    async with bench.ls(NEWS) as client:
        await bench.fault("ls.ws", "burst", count=500, then="drop", then_after=200)
        assert await closed(client) == 1006
        assert (await bench.stats("ls.ws"))["frames_sent"] == 201


@pytest.mark.parametrize("kind", ["drop", "restart"])
async def test_ends_of_the_connection(bench: Bench, kind: str) -> None:
    async with bench.ls(NEWS) as client:
        await bench.fault("ls.ws", kind)
        assert await closed(client) == 1006


async def test_half_open_and_no_pong(bench: Bench) -> None:
    async with bench.ls(NEWS) as client:
        await bench.fault("ls.ws", "no_pong")
        pong = await client.ping()
        await _news(bench)
        assert (await receive(client))["header"]["tr_cd"] == "NWS"
        assert not asyncio.ensure_future(pong).done()

        await bench.fault("ls.ws", "half_open")
        await _news(bench)
        assert await silent(client)


async def test_slow_reading_delays_answers(bench: Bench) -> None:
    token = await bench.token()
    async with bench.connect("ls.ws") as client:
        await bench.fault("ls.ws", "slow_read", bytes_per_second=1500)
        await register(client, token, *NEWS)
        await register(client, token, *NEWS)
        started = time.monotonic()
        await receive(client)
        await receive(client)

    assert time.monotonic() - started > 0.6


async def test_pings_of_the_server_are_answered_and_counted(bench: Bench) -> None:
    async with bench.ls(NEWS):
        await bench.fault("ls.ws", "ping", interval=0.05)
        async with asyncio.timeout(5):
            while not (await bench.stats("ls.ws"))["pongs_received"]:
                await asyncio.sleep(0.05)


async def test_injection_reaches_every_registered_socket(bench: Bench) -> None:
    token = await bench.token()
    async with bench.ls(NEWS, token=token) as one, bench.ls(NEWS, token=token) as two:
        frame = {
            "header": {"tr_cd": "NWS", "tr_key": "NWS001"},
            "body": {"title": "가"},
        }
        assert await bench.inject("ls.ws", frame) == 2
        assert await receive(one) == await receive(two) == frame
