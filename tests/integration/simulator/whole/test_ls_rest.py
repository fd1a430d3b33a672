"""The LS REST port: tokens, masters, news bodies, limits and faults."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from integration.simulator.whole.bench import Bench, receive


MASTER = ("t9945", "/stock/market-data", {"gubun": "1"})


def _claims(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


async def test_a_token_is_issued_as_in_the_sample(bench: Bench) -> None:
    await bench.post("/clock", {"now": "2026-11-20T12:39:29"})

    reply = await bench.ask_token()
    body = reply.json()

    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert list(body) == ["access_token", "scope", "token_type", "expires_in"]
    assert abs(body["expires_in"] - 66_031) <= 1
    assert _claims(body["access_token"])["exp"] == 1_795_212_000
    assert (await bench.stats("ls.rest"))["tokens_issued"] == 1


async def test_the_form_may_be_in_the_query(bench: Bench) -> None:
    reply = await bench.http.post(
        bench.simulator.urls["ls_rest_url"] + "/oauth2/token",
        params={
            "appkey": "simulator",
            "appsecretkey": "simulator",
            "grant_type": "client_credentials",
            "scope": "oob",
        },
    )

    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "code", "text"),
    [
        ({"appsecretkey": "x"}, 403, "IGW00105", "유효하지 않은 AppSecret입니다."),
        ({"appkey": "x"}, 403, "IGW00103", "유효하지 않은 AppKey입니다."),
        ({"grant_type": "password"}, 400, "IGW00101", None),
        ({"scope": ""}, 400, "IGW00101", None),
    ],
)
async def test_a_wrong_form_is_refused(
    bench: Bench, form: dict[str, str], status: int, code: str, text: str | None
) -> None:
    reply = await bench.ask_token(**form)

    assert reply.status_code == status
    assert reply.json()["error_code"] == code
    assert text in (None, reply.json()["error_description"])
    assert (await bench.stats("ls.rest"))["tokens_refused"] == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("ok", {"expires_in": 7}),
        ("expire_in", {"expire_in": "7"}),
        ("string", {"expires_in": "7"}),
        ("no_expiry", {}),
    ],
)
async def test_the_expiry_comes_in_variants(
    bench: Bench, reply: str, expected: dict[str, object]
) -> None:
    await bench.fault("ls.rest", "token", reply=reply, expires_in=7)

    body = (await bench.ask_token()).json()

    assert {k: v for k, v in body.items() if k.startswith("expire")} == expected


@pytest.mark.parametrize(
    ("rule", "lifetime"),
    [("86400", 86_400), ("next_day", 97_200), ("same_day", 10_800), ("seconds", 5)],
)
async def test_the_lifetime_follows_the_rule(
    bench: Bench, rule: str, lifetime: int
) -> None:
    """Issued at 04:00, when it is not known which 07:00 counts."""
    await bench.post("/clock", {"now": "2026-11-20T04:00:00"})
    await bench.fault("ls.rest", "token_expiry", rule=rule, seconds=5)

    body = (await bench.ask_token()).json()
    claims = _claims(body["access_token"])

    assert abs(body["expires_in"] - lifetime) <= 1
    assert abs(claims["exp"] - claims["iat"] - lifetime) <= 1


async def test_a_token_can_be_refused_in_every_way(bench: Bench) -> None:
    await bench.fault("ls.rest", "token", code="IGW00201", count=1)
    limited = await bench.ask_token()
    await bench.fault("ls.rest", "token", reply="non_json", count=1)
    html = await bench.ask_token()
    await bench.fault("ls.rest", "token", status=502, body="Bad Gateway", count=1)
    gateway = await bench.ask_token()

    assert (limited.status_code, limited.json()["error_code"]) == (500, "IGW00201")
    assert (html.status_code, html.text[:6]) == (200, "<html>")
    assert (gateway.status_code, gateway.text) == (502, "Bad Gateway")
    assert (await bench.ask_token()).status_code == 200


async def test_a_token_can_be_slow(bench: Bench) -> None:
    await bench.fault("ls.rest", "token", slow=0.2)
    started = time.monotonic()

    await bench.token()

    assert time.monotonic() - started >= 0.2


async def test_singleton_mode_makes_older_tokens_invalid(bench: Bench) -> None:
    await bench.fault("ls.rest", "token_singleton")
    old, new = await bench.token(), await bench.token()

    refused, accepted = await bench.tr(*MASTER, old), await bench.tr(*MASTER, new)

    assert (refused.status_code, refused.json()["rsp_cd"]) == (500, "IGW00121")
    assert accepted.status_code == 200


async def test_a_token_can_be_revoked(bench: Bench) -> None:
    token = await bench.token()
    form = {"appkey": "simulator", "appsecretkey": "simulator", "token": token}
    url = bench.simulator.urls["ls_rest_url"] + "/oauth2/revoke"

    reply = await bench.http.post(url, data={**form, "token_type_hint": "access_token"})

    assert reply.json() == {"code": 200, "message": "접근토큰 폐기에 성공하였습니다."}
    assert (await bench.tr(*MASTER, token)).json()["rsp_cd"] == "IGW00121"
    assert (await bench.http.post(url, data={**form, "token": "x"})).status_code == 403


async def test_an_expired_token_has_its_own_code(bench: Bench) -> None:
    token = await bench.token()
    await bench.post("/clock", {"now": 2 * 86_400})

    reply = await bench.tr(*MASTER, token)

    assert (reply.status_code, reply.json()["rsp_cd"]) == (500, "IGW00123")


async def test_the_master_of_names(bench: Bench) -> None:
    token = await bench.token()

    reply = await bench.tr(*MASTER, token)
    rows = {row["shcode"]: row for row in reply.json()["t9945OutBlock"]}

    assert (reply.headers["tr_cont"], reply.headers["tr_cd"]) == ("N", "t9945")
    assert rows["005930"]["hname"] == "삼성전자"
    assert rows["238720"]["etfchk"] == "1"
    assert rows["005930"]["nxt_chk"] in ("0", "1")
    assert "122870" not in rows
    assert "KODEX 미국S&P500데일리커버드콜OTM" in {
        row["hname"] for row in rows.values()
    }


async def test_the_master_of_flags_has_cut_and_padded_names(bench: Bench) -> None:
    token = await bench.token()

    reply = await bench.tr("t8436", "/stock/etc", {"gubun": "0"}, token)
    rows = {row["shcode"]: row for row in reply.json()["t8436OutBlock"]}
    older = await bench.tr("t8430", "/stock/etc", {"gubun": "2"}, token)

    assert rows["000020"]["hname"] == "동화약품" + " " * 12
    assert rows["0005A0"]["hname"] == "KODEX 미국S&P500데일"
    assert rows["0017J0"]["spac_gubun"] == "Y"
    assert isinstance(rows["005930"]["uplmtprice"], int)
    assert {row["gubun"] for row in rows.values()} == {"1", "2"}
    assert "spac_gubun" not in older.json()["t8430OutBlock"][0]


async def test_a_field_can_be_absent_from_the_master(bench: Bench) -> None:
    await bench.fault("ls.rest", "nxt_chk")

    rows = (await bench.tr(*MASTER, await bench.token())).json()["t9945OutBlock"]

    assert all("nxt_chk" not in row for row in rows)


async def test_the_servers_time_can_be_skewed(bench: Bench) -> None:
    await bench.post("/clock", {"now": "2026-11-20T10:26:52"})
    token = await bench.token()

    plain = await bench.tr("t0167", "/etc/time-search", {"id": ""}, token)
    await bench.fault("ls.rest", "clock_skew", seconds=86_400)
    skewed = await bench.tr("t0167", "/etc/time-search", {"id": ""}, token)

    block = plain.json()["t0167OutBlock"]
    assert block["dt"] == "20261120"
    assert block["time"][:4] == "1026"
    assert len(block["time"]) == 12
    assert skewed.json()["t0167OutBlock"]["dt"] == "20261121"


async def _item(bench: Bench) -> dict[str, str]:
    """Return an item that names a company."""
    async with bench.ls(("NWS", "NWS001")) as client:
        while True:
            await bench.post("/generate", {"news_items": 1})
            body: dict[str, str] = (await receive(client))["body"]
            if body["code"]:
                return body


async def _article(bench: Bench, realkey: str) -> Any:
    await bench.fault("ls.rest", "no_rate_limit")
    block = {"sNewsno": realkey}
    reply = await bench.tr("t3102", "/stock/investinfo", block, await bench.token())
    assert reply.status_code == 200
    return reply.json()


async def test_a_body_comes_in_damaged_chunks(bench: Bench) -> None:
    item = await _item(bench)

    reply = await _article(bench, item["realkey"])

    chunks = [row["sBody"] for row in reply["t3102OutBlock1"]]
    assert len(chunks) > 2
    assert all(len(chunk.encode("cp949")) <= 102 for chunk in chunks)
    assert "</p>" in "".join(chunks)
    assert any("？" in chunk for chunk in chunks)
    assert reply["t3102OutBlock"] == [{"sJongcode": item["code"][6:12]}]
    assert "t3102OutBlock2" not in reply


@pytest.mark.parametrize(
    ("variant", "check"),
    [
        ("not_found", lambda r: list(r) == ["rsp_cd", "rsp_msg"]),
        ("no_block", lambda r: "t3102OutBlock" not in r),
        ("no_block2", lambda r: "t3102OutBlock2" not in r),
        ("leaked", lambda r: r["t3102OutBlock2"]["sTitle"][:14] == "t3102OutBlock2"),
        ("clean", lambda r: "？" not in str(r)),
    ],
)
async def test_a_body_can_be_bent(bench: Bench, variant: str, check: Any) -> None:
    item = await _item(bench)
    await bench.fault("ls.rest", "t3102", variant=variant)

    assert check(await _article(bench, item["realkey"]))


async def test_a_body_can_appear_later(bench: Bench) -> None:
    item = await _item(bench)
    await bench.fault("ls.rest", "t3102", seconds=0.4)

    early = await _article(bench, item["realkey"])
    await asyncio.sleep(0.5)
    late = await _article(bench, item["realkey"])

    assert "t3102OutBlock1" not in early
    assert early["rsp_cd"] == "00000"
    assert "t3102OutBlock1" in late


async def test_an_unknown_body_is_not_found_with_200(bench: Bench) -> None:
    reply = await _article(bench, "0" * 24)

    assert reply == {
        "rsp_cd": "00000",
        "rsp_msg": "해당자료가 없습니다. 다시 조회 바랍니다.",
    }


@pytest.mark.parametrize(
    ("tr_cd", "path", "limit"),
    [("t3102", "/stock/investinfo", 1), ("t9945", "/stock/market-data", 2)],
)
async def test_calls_above_the_limit_are_refused_and_recover(
    bench: Bench, tr_cd: str, path: str, limit: int
) -> None:
    token = await bench.token()
    block = {"gubun": "1", "sNewsno": "0" * 24}

    replies = [await bench.tr(tr_cd, path, block, token) for _ in range(limit + 1)]
    await asyncio.sleep(1.05)
    again = await bench.tr(tr_cd, path, block, token)

    assert [reply.status_code for reply in replies] == [200] * limit + [500]
    assert replies[-1].json() == {
        "rsp_cd": "IGW00201",
        "rsp_msg": "호출 거래건수를 초과하였습니다.",
    }
    assert again.status_code == 200
    calls = (await bench.stats("ls.rest"))["calls"][tr_cd]
    assert [call["status"] for call in calls] == [200] * limit + [500, 200]
    assert all(abs(call["at"] - time.time()) < 10 for call in calls)


async def test_going_over_the_limit_can_cost_seconds(bench: Bench) -> None:
    await bench.fault("ls.rest", "rate_penalty", seconds=60)
    token = await bench.token()

    for _ in range(3):
        await bench.tr(*MASTER, token)
    await asyncio.sleep(1.05)

    assert (await bench.tr(*MASTER, token)).json()["rsp_cd"] == "IGW00201"


async def test_the_limit_can_strike_below_itself(bench: Bench) -> None:
    await bench.fault("ls.rest", "rate_limit", tr_cd="t9945", count=1)
    token = await bench.token()

    first, second = await bench.tr(*MASTER, token), await bench.tr(*MASTER, token)

    assert (first.json()["rsp_cd"], second.status_code) == ("IGW00201", 200)


@pytest.mark.parametrize(
    ("tr_cd", "path", "block", "code"),
    [
        ("t9945", "/stock/etc", {"gubun": "1"}, "IGW00215"),
        ("t9999", "/stock/etc", {"gubun": "1"}, "IGW00215"),
        ("t9945", "/stock/market-data", {"gubun": 1}, "IGW40011"),
        ("t9945", "/stock/market-data", None, "09604"),
    ],
)
async def test_a_wrong_call_is_refused_with_500(
    bench: Bench, tr_cd: str, path: str, block: object, code: str
) -> None:
    reply = await bench.tr(tr_cd, path, block, await bench.token())

    assert (reply.status_code, reply.json()["rsp_cd"]) == (500, code)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"code": "IGW00121", "status": 401}, 401, "IGW00121"),
        ({"code": "IGW00123"}, 500, "IGW00123"),
        ({"code": "IGW40014"}, 500, "IGW40014"),
        ({"reply": "empty"}, 200, "00000"),
    ],
)
async def test_a_tr_can_fail_in_any_way(
    bench: Bench, fault: dict[str, Any], status: int, code: str
) -> None:
    await bench.fault("ls.rest", "tr", tr_cd="t9945", count=1, **fault)
    token = await bench.token()

    reply, again = await bench.tr(*MASTER, token), await bench.tr(*MASTER, token)

    assert (reply.status_code, reply.json()["rsp_cd"]) == (status, code)
    assert "t9945OutBlock" not in reply.json()
    assert "t9945OutBlock" in again.json()


async def test_a_tr_can_be_slow_or_no_json(bench: Bench) -> None:
    token = await bench.token()
    await bench.fault("ls.rest", "tr", reply="non_json", status=502, slow=0.2)
    started = time.monotonic()

    reply = await bench.tr(*MASTER, token)

    assert time.monotonic() - started >= 0.2
    assert (reply.status_code, reply.text[:6]) == (502, "<html>")


async def test_a_reply_can_come_byte_by_byte(bench: Bench) -> None:
    token = await bench.token()
    await bench.fault("ls.rest", "one_byte_per_second", interval=0.005)
    started = time.monotonic()

    reply = await bench.tr("t0167", "/etc/time-search", {"id": ""}, token)

    assert reply.json()["rsp_cd"] == "00000"
    assert time.monotonic() - started > 0.3
