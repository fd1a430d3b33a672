"""
The REST side of LS Securities: tokens, masters, news bodies and the server's time.

LS Open API portal: business errors are HTTP 500, so the code in the body decides; the
token endpoint answers in `error_code` / `error_description`, the TRs in `rsp_cd` /
`rsp_msg`; continuation is in headers only.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from simulator.clock import Clock
from simulator.faults import Fault, FaultBook
from simulator.journal import RestJournal
from simulator.ls_tokens import AppKey, TokenStore
from simulator.ls_ws import NewsArchive
from simulator.news import NewsItem
from simulator.universe import Company, companies
from simulator.wire import compact


TARGET = "ls.rest"
_FORM = "application/x-www-form-urlencoded"
_PATHS = {
    "t3102": "/stock/investinfo",
    "t8436": "/stock/etc",
    "t8430": "/stock/etc",
    "t9945": "/stock/market-data",
    "t0167": "/etc/time-search",
}
PER_SECOND = {"t3102": 1, "t8436": 2, "t8430": 2, "t9945": 2, "t0167": 10}
_TEXTS = {
    "IGW00121": "유효하지 않은 token 입니다.",
    "IGW00123": "기간이 만료된 token 입니다.",
    "IGW00201": "호출 거래건수를 초과하였습니다.",
    "IGW00215": "유효하지 않은 TR코드 입니다.",
    "IGW40011": "입력값의 형식이 올바르지 않습니다.",
    "IGW40014": "압축 형식이 올바르지 않습니다.",
    "09604": "입력 블록이 일치하지 않습니다.",
    "IGW00105": "유효하지 않은 AppSecret입니다.",
    "IGW00103": "유효하지 않은 AppKey입니다.",
}
_DONE = "정상적으로 조회가 완료되었습니다."
_NOT_FOUND = "해당자료가 없습니다. 다시 조회 바랍니다."


@dataclass(frozen=True)
class Reply:
    """What a call is answered with."""

    status: int
    body: str
    code: str = ""
    headers: Mapping[str, str] | None = None
    content_type: str = "application/json; charset=utf-8"


class LsRest:
    """The HTTP application of the REST port."""

    def __init__(
        self,
        tokens: TokenStore,
        clock: Clock,
        faults: FaultBook,
        journal: RestJournal,
        archive: NewsArchive,
        page_size: int = 0,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._faults = faults
        self._journal = journal
        self._archive = archive
        self._page_size = page_size
        self._calls: dict[str, deque[float]] = {}
        self._penalty: dict[str, float] = {}
        self._who = itertools.count()

    def application(self) -> FastAPI:
        """Return the routes."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route("/oauth2/token", self._token, methods=["POST"])
        app.add_api_route("/oauth2/revoke", self._revoke, methods=["POST"])
        app.add_api_route("/{path:path}", self._tr, methods=["POST"])
        return app

    # Tokens.

    async def _token(self, request: Request) -> Response:
        form = await _read_form(request)
        fault = self._faults.strike(TARGET, "token", next(self._who))
        if fault and (slow := float(fault.get("slow", 0))):
            await asyncio.sleep(slow)
        reply = self._token_reply(form, fault)
        self._journal.tokens_refused += reply.status != 200
        self._journal.called("token", reply.status, reply.code)
        return self._send(reply)

    def _token_reply(self, form: Mapping[str, str], fault: Fault | None) -> Reply:
        kind = fault.get("reply", "ok") if fault else "ok"
        if fault and kind == "non_json":
            body = str(fault.get("body", "<html><body>점검중</body></html>"))
            status = int(fault.get("status", 200))
            return Reply(status, body, content_type="text/html; charset=utf-8")
        if fault and (kind == "error" or "code" in fault.params):
            code = str(fault.get("code", "IGW00105"))
            status = int(fault.get("status", 500 if code == "IGW00201" else 403))
            message = str(fault.get("message", _TEXTS.get(code, "")))
            return _token_error(status, code, message)
        if fault and "status" in fault.params and int(fault.get("status")) != 200:
            return Reply(int(fault.get("status")), str(fault.get("body", "")))
        key = self._tokens.keys.get(form.get("appkey", ""))
        if key is None:
            return _token_error(403, "IGW00103", _TEXTS["IGW00103"])
        if form.get("appsecretkey") != key.secret:
            return _token_error(403, "IGW00105", _TEXTS["IGW00105"])
        if form.get("grant_type") != "client_credentials" or form.get("scope") != "oob":
            # Undocumented: what a wrong grant type or scope answers.
            return _token_error(400, "IGW00101", "유효하지 않은 요청입니다.")
        return self._issue(key, str(kind), fault)

    def _issue(self, key: AppKey, kind: str, fault: Fault | None) -> Reply:
        if self._faults.peek(TARGET, "token_singleton"):
            self._tokens.revoke_all(key.key)
        expiry = self._faults.peek(TARGET, "token_expiry")
        rule = str(expiry.get("rule", "seconds")) if expiry else "07:00"
        seconds = float(expiry.get("seconds", 0)) if expiry else 0.0
        token = self._tokens.issue(key, rule=rule, seconds=seconds)
        self._journal.tokens_issued += 1
        left = int((token.expires_at - token.issued_at).total_seconds())
        left = int(fault.get("expires_in", left)) if fault else left
        body: dict[str, object] = {
            "access_token": token.text,
            "scope": "oob",
            "token_type": "Bearer",
        }
        match kind:
            case "expire_in":
                body["expire_in"] = str(left)
            case "string":
                body["expires_in"] = str(left)
            case "no_expiry":
                pass
            case "no_token":
                body = {"scope": "oob", "token_type": "Bearer", "expires_in": left}
            case _:
                body["expires_in"] = left
        return Reply(200, compact(body))

    async def _revoke(self, request: Request) -> Response:
        form = await _read_form(request)
        key = self._tokens.keys.get(form.get("appkey", ""))
        if key is None:
            reply = _token_error(403, "IGW00103", _TEXTS["IGW00103"])
        elif form.get("appsecretkey") != key.secret:
            reply = _token_error(403, "IGW00105", _TEXTS["IGW00105"])
        elif not self._tokens.revoke(form.get("token", "")):
            reply = _token_error(403, "IGW00121", _TEXTS["IGW00121"])
        else:
            self._journal.tokens_revoked += 1
            message = "접근토큰 폐기에 성공하였습니다."
            reply = Reply(200, compact({"code": 200, "message": message}))
        self._journal.called("revoke", reply.status, reply.code)
        return self._send(reply)

    # TRs.

    async def _tr(self, request: Request) -> Response:
        tr_cd = request.headers.get("tr_cd", "")
        fault = self._faults.peek(TARGET, "tr")
        if fault and fault.get("tr_cd", tr_cd) == tr_cd:
            fault = self._faults.strike(TARGET, "tr", next(self._who))
        else:
            fault = None
        if fault and (slow := float(fault.get("slow", 0))):
            await asyncio.sleep(slow)
        reply = self._tr_reply(request, tr_cd, await request.body(), fault)
        name = tr_cd if re.fullmatch(r"[A-Za-z0-9_]{1,10}", tr_cd) else "other"
        self._journal.called(name, reply.status, reply.code)
        return self._send(reply, tr_cd)

    def _tr_reply(
        self, request: Request, tr_cd: str, body: bytes, fault: Fault | None
    ) -> Reply:
        if fault and (made := _faulty(fault)):
            return made
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        _, wrong = self._tokens.check(token if scheme.lower() == "bearer" else None)
        if wrong:
            return _error(wrong)
        if _PATHS.get(tr_cd) != request.url.path:
            return _error("IGW00215")
        if self._over_limit(tr_cd):
            return _error("IGW00201")
        try:
            parsed = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error("09604")
        block = parsed.get(f"{tr_cd}InBlock") if isinstance(parsed, dict) else None
        if not isinstance(block, dict):
            return _error("09604")
        if not all(isinstance(value, str) for value in block.values()):
            # Every input field of the TRs served here is a String.
            return _error("IGW40011")
        if fault and fault.get("reply") == "empty":
            return Reply(200, compact({"rsp_cd": "00000", "rsp_msg": _DONE}), "00000")
        return self._serve(tr_cd, block, request.headers)

    def _over_limit(self, tr_cd: str) -> bool:
        if self._faults.peek(TARGET, "no_rate_limit"):
            return False
        forced = self._faults.peek(TARGET, "rate_limit")
        if (
            forced
            and forced.get("tr_cd", tr_cd) == tr_cd
            and self._faults.strike(TARGET, "rate_limit", next(self._who))
        ):
            return True
        now = time.monotonic()
        if now < self._penalty.get(tr_cd, 0.0):
            return True
        calls = self._calls.setdefault(tr_cd, deque())
        while calls and now - calls[0] >= 1.0:
            calls.popleft()
        if len(calls) >= PER_SECOND[tr_cd]:
            penalty = self._faults.peek(TARGET, "rate_penalty")
            if penalty:
                self._penalty[tr_cd] = now + float(penalty.get("seconds", 3))
            return True
        calls.append(now)
        return False

    def _serve(
        self, tr_cd: str, block: Mapping[str, str], headers: Mapping[str, str]
    ) -> Reply:
        match tr_cd:
            case "t0167":
                return self._time()
            case "t3102":
                return self._news_body(block.get("sNewsno", ""))
            case _:
                return self._master(tr_cd, block.get("gubun", ""), headers)

    def _time(self) -> Reply:
        skew = self._faults.peek(TARGET, "clock_skew")
        now = self._clock.now()
        if skew:
            now += timedelta(seconds=float(skew.get("seconds", 0)))
        block = {"dt": now.strftime("%Y%m%d"), "time": now.strftime("%H%M%S%f")}
        return _found({"t0167OutBlock": block}, "조회완료")

    def _master(self, tr_cd: str, gubun: str, headers: Mapping[str, str]) -> Reply:
        chosen = [c for c in companies() if gubun in ("0", c.market)]
        if tr_cd == "t9945" and gubun not in ("1", "2"):
            chosen = []
        if not chosen:
            return _found({}, _DONE)
        start, more = 0, False
        if headers.get("tr_cont", "N") == "Y":
            key = headers.get("tr_cont_key", "")
            start = int(key) if key.isdigit() else 0
        if self._page_size:
            more = start + self._page_size < len(chosen)
            chosen = chosen[start : start + self._page_size]
        absent = self._faults.peek(TARGET, "nxt_chk") is not None
        row = _ROWS[tr_cd]
        rows = [row(company) for company in chosen]
        if absent:
            for entry in rows:
                entry.pop("nxt_chk", None)
        next_key = str(start + self._page_size) if more else ""
        continued = {"tr_cont": "Y" if more else "N", "tr_cont_key": next_key}
        return _found({f"{tr_cd}OutBlock": rows}, _DONE, continued)

    def _news_body(self, realkey: str) -> Reply:
        found = self._archive.get(realkey)
        fault = self._faults.strike(TARGET, "t3102", next(self._who))
        variant = str(fault.get("variant", "normal")) if fault else "normal"
        delay = float(fault.get("seconds", 0)) if fault else 0.0
        if found is None or variant == "not_found" or time.time() < found[1] + delay:
            return Reply(200, compact({"rsp_cd": "00000", "rsp_msg": _NOT_FOUND}))
        item = found[0]
        text = news_article(item)
        prefix = "t3102OutBlock1  " if variant == "leaked" else ""
        chunks = cut_cp949(prefix + text, damaged=variant != "clean")
        blocks: dict[str, object] = {
            "t3102OutBlock1": [{"sBody": chunk} for chunk in chunks]
        }
        if item.code and variant != "no_block":
            blocks["t3102OutBlock"] = [{"sJongcode": item.code[6:12]}]
        if not item.code or variant == "leaked":
            lead = "t3102OutBlock2  " if variant == "leaked" else ""
            blocks["t3102OutBlock2"] = {"sTitle": lead + item.title}
        if variant == "no_block2":
            blocks.pop("t3102OutBlock2", None)
        return _found(blocks, "조회완료")

    def _send(self, reply: Reply, tr_cd: str = "") -> Response:
        headers = {"content-type": reply.content_type}
        if tr_cd and reply.status == 200:
            headers |= {"tr_cd": _header_text(tr_cd), "tr_cont": "N", "tr_cont_key": ""}
        headers |= reply.headers or {}
        content = reply.body.encode()
        slow = self._faults.strike(TARGET, "one_byte_per_second", next(self._who))
        if slow is None:
            return Response(content, reply.status, headers)
        pause = float(slow.get("interval", 1.0))

        async def trickle() -> AsyncIterator[bytes]:
            for byte in content:
                yield bytes([byte])
                await asyncio.sleep(pause)

        return StreamingResponse(trickle(), reply.status, headers)


def _header_text(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _faulty(fault: Fault) -> Reply | None:
    reply = fault.get("reply", "")
    if reply == "non_json":
        body = str(fault.get("body", "<html>Bad Gateway</html>"))
        return Reply(int(fault.get("status", 200)), body, content_type="text/html")
    if "code" in fault.params:
        code = str(fault.get("code"))
        message = str(fault.get("message", _TEXTS.get(code, "")))
        body = compact({"rsp_cd": code, "rsp_msg": message})
        return Reply(int(fault.get("status", 500)), body, code)
    if "status" in fault.params:
        return Reply(int(fault.get("status")), str(fault.get("body", "")))
    return None


async def _read_form(request: Request) -> dict[str, str]:
    """Return the form from the body, or from the query string if it is there."""
    given = dict(request.query_params)
    if request.headers.get("content-type", "").startswith(_FORM):
        body = (await request.body()).decode(errors="replace")
        given |= {k: v[0] for k, v in parse_qs(body, keep_blank_values=True).items()}
    return given


def _token_error(status: int, code: str, message: str) -> Reply:
    body = compact({"error_code": code, "error_description": message})
    return Reply(status, body, code)


def _error(code: str) -> Reply:
    body = compact({"rsp_cd": code, "rsp_msg": _TEXTS.get(code, "")})
    return Reply(500, body, code)


def _found(
    blocks: Mapping[str, object],
    message: str,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    body = compact({"rsp_cd": "00000", "rsp_msg": message, **blocks})
    return Reply(200, body, "00000", headers)


def fixed_cp949(text: str, size: int) -> str:
    """
    Return *text* as it comes out of a field of *size* CP949 bytes.

    Padded with spaces, or cut, possibly inside a character, whose half is then lost.
    """
    data = text.encode("cp949", "replace")[:size].ljust(size)
    return data.decode("cp949", "replace")


def cut_cp949(text: str, size: int = 100, *, damaged: bool = True) -> list[str]:
    """
    Return *text* in chunks of *size* CP949 bytes, as `t3102` sends a body.

    A character on an edge comes out as a question mark on either side, as in the
    official sample; an undamaged cut keeps it whole in the chunk where it began.
    """
    chunks: list[str] = []
    chunk, used, half = "", 0, False
    for character in text:
        width = len(character.encode("cp949", "replace"))
        if used + width <= size:
            chunk, used = chunk + character, used + width
            continue
        half = damaged and used + width > size > used
        chunks.append(chunk + ("？" if half else ""))
        chunk, used = ("？", 1) if half else (character, width)
    chunks.append(chunk)
    return chunks


def news_article(item: NewsItem) -> str:
    """Return a body for *item*, long enough for several chunks."""
    lines = (
        f"[시뮬레이터] {item.title}</p>\n <br/>\n",
        "이 기사는 시험을 위해 자동으로 만들어진 것으로 실제 사건과 관계가 없습니다. ",
        "증권업계에 따르면 관련 업종의 수급이 개선되고 있다는 평가가 나온다.\r\n",
        "회사 관계자는 “시장 상황을 지켜보며 결정하겠다”고 말했다.</span>\n</p>\n",
        "무단 전재 및 재배포 금지 ",
    )
    # Some twenty chunks, of which about half begin or end inside a character.
    return "".join((*lines[:-1], *lines[1:-1] * 4, lines[-1]))


def _common_row(company: Company) -> dict[str, object]:
    return {
        "shcode": company.code,
        "jnilclose": company.price,
        "uplmtprice": company.price * 13 // 10,
        "etfgubun": company.kind,
        "dnlmtprice": company.price * 7 // 10,
        "gubun": company.market,
        "memedan": "00001",
        "recprice": company.price,
        "expcode": company.isin,
        "hname": fixed_cp949(company.name, 20),
    }


def _t8436_row(company: Company) -> dict[str, object]:
    is_spac = company.name.endswith("스팩")
    group = {"1": "01", "2": "01"}[company.market] if company.kind == "0" else "03"
    extra = {"spac_gubun": "Y" if is_spac else "N", "bu12gubun": group, "filler": ""}
    return _common_row(company) | extra


def _t9945_row(company: Company) -> dict[str, object]:
    return {
        "etfchk": "1" if company.kind == "1" else "0",
        "shcode": company.code,
        "nxt_chk": "1" if company.kind == "0" and company.price > 5_000 else "0",
        "filler": "",
        "expcode": company.isin,
        "hname": company.name.encode("cp949", "replace")[:40].decode("cp949", "ignore"),
    }


_ROWS: Mapping[str, Callable[[Company], dict[str, object]]] = {
    "t8436": _t8436_row,
    "t8430": _common_row,
    "t9945": _t9945_row,
}
