"""An edge that asks for tokens: a real process, real sockets, real keys on disk."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from edge_harness import Client, EdgeProcess, Writer, edge_env, run_edge
from jwt.algorithms import OKPAlgorithm
from nats_process import NatsProcess
from processes import run_service
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from feedmesh.bus import Bus


PRICES = "/api/v2/realtime/ws/prices"
NEWS = "/ws/news"
STREAM = "/api/v3/stream"
SUBJECT = "ann@issuer.example"
SECRET = b"shared between issuer and edge.."
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


class Issuer:
    """Makes tokens, and the file of keys that verifies them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.issued: list[str] = []
        self.publish(self.public_jwk())

    def public_jwk(self) -> dict[str, Any]:
        public = self.key.public_key()
        return OKPAlgorithm.to_jwk(public, as_dict=True) | {"kid": "ed"}

    def publish(self, *keys: dict[str, Any]) -> None:
        """Replace the file in one step, as Kubernetes does."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"keys": keys}))
        os.replace(fresh, self.path)

    def token(self, seconds: float = 60.0, **more: Any) -> str:
        """Return a token that is cut off in *seconds*, with *more* claims."""
        # The edge allows for clocks that are 5 s apart.
        claims = {"sub": SUBJECT, "aud": "feedmesh", "exp": time.time() + seconds - 5}
        return self.signed(claims | more, self.key, "EdDSA")

    def signed(self, claims: dict[str, Any], key: Any, algorithm: str) -> str:
        token = jwt.encode(claims, key, algorithm, headers={"kid": "ed"})
        self.issued.append(token)
        return token

    def bad_tokens(self) -> dict[str, str]:
        """Return tokens that must not do, by what is wrong with them."""
        now = time.time()
        good = {"sub": SUBJECT, "aud": "feedmesh", "exp": now + 60}
        other = ed25519.Ed25519PrivateKey.generate()
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        head, body, signature = self.token().split(".")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        forged = {
            "none": f"{unsigned}.{body}.",
            "none_signed": f"{unsigned}.{body}.{signature}",
            "truncated": f"{head}.{body}",
            "flipped": f"{head}.{body[:-2]}AA.{signature}",
        }
        self.issued += forged.values()
        return forged | {
            "other_key": self.signed(good, other, "EdDSA"),
            "confused": self.signed(good, public, "HS256"),
            "expired": self.signed(good | {"exp": now - 60}, self.key, "EdDSA"),
            "other_audience": self.token(aud="billing"),
            "not_yet": self.token(nbf=now + 60),
            "no_subject": self.token(sub=None),
        }


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture
async def guarded(
    nats_server: NatsProcess, bus: Bus, issuer: Issuer
) -> AsyncIterator[EdgeProcess]:
    async with run_edge(nats_server, EDGE_AUTH_KEYS_FILE=str(issuer.path)) as edge:
        yield edge


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def client(
    edge: EdgeProcess, path: str, token: str | None = None
) -> AsyncIterator[Client]:
    async with connect(
        f"ws://127.0.0.1:{edge.port}{path}",
        compression=None,
        additional_headers=bearer(token),
    ) as connection:
        yield Client(connection)


async def refusal(edge: EdgeProcess, path: str, token: str | None = None) -> Any:
    """Return the answer to a handshake that must be refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with client(edge, path, token):
            pass
    return caught.value.response


async def get(edge: EdgeProcess, path: str, token: str | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=edge.url, headers=bearer(token)) as http:
        return await http.get(path)


async def post(edge: EdgeProcess, path: str, token: str, body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=edge.url, headers=bearer(token)) as http:
        return await http.post(path, json=body)


async def close_code(client: Client, seconds: float = 10.0) -> tuple[int, str]:
    """Return with what the edge closes *client*."""
    async with asyncio.timeout(seconds):
        await client.connection.wait_closed()
    code = client.connection.close_code
    return -1 if code is None else code, client.connection.close_reason or ""


async def cached(edge: EdgeProcess, issuer: Issuer, symbol: str) -> bool:
    path = f"/api/v2/realtime/cache/{symbol}"
    return (await get(edge, path, issuer.token())).status_code == 200


async def test_older_clients_with_a_token_get_what_they_always_got(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer
) -> None:
    async with client(guarded, PRICES, issuer.token()) as prices:
        await prices.subscribe("AAPL")
        frame = await writer.price("AAPL", last_price="1.10")
        assert await prices.text() == frame.decode()
    async with client(guarded, NEWS, issuer.token()) as news:
        assert (await news.json())["type"] == "test"
        item = await writer.news("1")
        assert await news.text() == item.decode()


@pytest.mark.parametrize("path", [PRICES, NEWS])
async def test_a_handshake_without_a_good_token_is_refused(
    guarded: EdgeProcess, issuer: Issuer, path: str
) -> None:
    missing = await refusal(guarded, path)

    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    assert missing.headers["content-type"] == "application/problem+json"
    for token in issuer.bad_tokens().values():
        answer = await refusal(guarded, path, token)
        assert answer.status_code == 401
        assert answer.body == missing.body


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/realtime/cache",
        "/api/v2/realtime/cache/AAPL",
        "/api/v2/realtime/status",
        "/api/v3/news",
        "/nowhere",
    ],
)
async def test_a_request_without_a_good_token_is_refused(
    guarded: EdgeProcess, issuer: Issuer, path: str
) -> None:
    missing = await get(guarded, path)

    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    assert missing.headers["content-type"] == "application/problem+json"
    for token in issuer.bad_tokens().values():
        answer = await get(guarded, path, token)
        assert (answer.status_code, answer.content) == (401, missing.content)
    assert (await get(guarded, path, issuer.token())).status_code in (200, 404)


async def test_writing_needs_a_token_too(guarded: EdgeProcess, issuer: Issuer) -> None:
    path = "/api/v2/realtime/subscribe"

    assert (await post(guarded, path, "x", ["AAPL"])).status_code == 401
    assert (await post(guarded, path, issuer.token(), ["AAPL"])).status_code == 200


async def test_what_holds_no_data_needs_none(guarded: EdgeProcess) -> None:
    for path in ("/", "/page/app.js", "/openapi.json", "/api/v2/realtime/health"):
        assert (await get(guarded, path)).status_code == 200


@pytest.mark.parametrize("name", ["token", "access_token", "anything"])
async def test_a_token_in_the_url_is_refused(
    guarded: EdgeProcess, issuer: Issuer, name: str
) -> None:
    token = issuer.token()
    query = f"?{name}={token}"

    answer = await get(guarded, f"/api/v2/realtime/cache{query}", token)
    handshake = await refusal(guarded, f"{PRICES}{query}", token)

    for status, body in (
        (answer.status_code, answer.text),
        (handshake.status_code, handshake.body.decode()),
    ):
        assert status == 400
        assert "Authorization header" in body
        assert token not in body


async def test_a_page_from_elsewhere_may_send_a_token(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with httpx.AsyncClient(base_url=guarded.url) as http:
        preflight = await http.options(
            "/api/v2/realtime/cache",
            headers={
                "Origin": "https://example.org",
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        refused = await http.get(
            "/api/v2/realtime/cache", headers={"Origin": "https://example.org"}
        )

    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    # Without it, a script could not tell 401 from a network that is down.
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "*"


async def test_older_clients_need_none_where_that_is_open(
    nats_server: NatsProcess, bus: Bus, issuer: Issuer
) -> None:
    async with run_edge(
        nats_server, EDGE_AUTH_KEYS_FILE=str(issuer.path), EDGE_AUTH_LEGACY="open"
    ) as edge:
        async with client(edge, NEWS) as news:
            assert (await news.json())["type"] == "test"
        assert (await get(edge, "/api/v2/realtime/cache")).status_code == 200
        assert (await get(edge, "/api/v3/news")).status_code == 401
        assert (await get(edge, "/api/v3/news", issuer.token())).status_code == 200


async def test_without_keys_nobody_needs_a_token(edge: EdgeProcess) -> None:
    assert (await get(edge, "/api/v2/realtime/cache", "whatever")).status_code == 200
    async with client(edge, f"{NEWS}?token=1") as news:
        assert (await news.json())["type"] == "test"


@pytest.mark.parametrize("path", [PRICES, NEWS])
async def test_a_connection_ends_with_its_token(
    guarded: EdgeProcess, issuer: Issuer, path: str
) -> None:
    async with client(guarded, path, issuer.token(60)) as lasting:
        async with client(guarded, path, issuer.token(1.5)) as brief:
            assert await close_code(brief) == (4001, "")
        await lasting.connection.ping()
        assert lasting.connection.close_code is None

    assert await guarded.service.metric(
        "feedmesh_edge_auth_refused_total", reason="expired"
    ) == (1)


async def test_a_token_may_be_for_some_symbols_only(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer, eventually: Eventually
) -> None:
    for symbol in ("AAPL", "TSLA"):
        await writer.price(symbol, last_price="1.10")
    await eventually(lambda: cached(guarded, issuer, "TSLA"))
    token = issuer.token(symbols=["AAPL", "MSFT"])

    async with client(guarded, PRICES, token) as prices:
        # As with a symbol that nobody has ever heard of: nothing comes.
        await prices.subscribe("TSLA", "AAPL", "NONE")
        assert (await prices.json())["symbol"] == "AAPL"
        await writer.price("TSLA", last_price="1.20")
        await prices.silent()

    every = await get(guarded, "/api/v2/realtime/cache", token)
    assert list(every.json()) == ["AAPL"]
    existing_one = await get(guarded, "/api/v2/realtime/cache/TSLA", token)
    missing_one = await get(guarded, "/api/v2/realtime/cache/NONE", token)
    assert existing_one.status_code == missing_one.status_code == 404
    assert existing_one.text.replace("TSLA", "NONE") == missing_one.text
    pinned = await post(guarded, "/api/v2/realtime/subscribe", token, ["TSLA"])
    assert pinned.status_code == 403
    status = await get(guarded, "/api/v2/realtime/status", token)
    assert set(status.json()["symbols"]) <= {"AAPL"}


async def test_a_token_may_limit_how_many_symbols(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with client(guarded, PRICES, issuer.token(max_symbols=2)) as prices:
        await prices.subscribe("AAPL", "MSFT")
        await prices.subscribe("MSFT", "AAPL")
        await prices.silent()
        await prices.subscribe("TSLA")
        assert (await prices.json())["type"] == "error"


async def test_a_token_may_be_for_some_channels_only(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    token = issuer.token(channels=["news"])

    refused = await refusal(guarded, PRICES, token)
    assert refused.status_code == 403
    assert "insufficient_scope" in refused.headers["www-authenticate"]
    assert (await get(guarded, "/api/v2/realtime/cache", token)).status_code == 403
    assert (await get(guarded, "/api/v3/news", token)).status_code == 200
    async with client(guarded, NEWS, token) as news:
        assert (await news.json())["type"] == "test"


async def heard(client: Client, kind: str) -> Any:
    """Return the next message of *kind*; others before it are dropped."""
    while True:
        message = await client.json()
        if message["type"] == kind:
            return message


async def present(client: Client, token: str) -> Any:
    """Show *token* on a stream; return the answer."""
    await client.send(op="auth", id="me", token=token)
    return await heard(client, "ack")


async def wants(client: Client, *symbols: str) -> Any:
    """Subscribe to prices on a stream; return the answer."""
    await client.send(op="subscribe", id=1, channel="prices", symbols=list(symbols))
    return await heard(client, "ack")


async def test_a_stream_takes_a_token_at_the_handshake(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with client(guarded, STREAM, issuer.token()) as stream:
        assert (await heard(stream, "hello"))["auth"] is False
        assert (await wants(stream, "AAPL"))["accepted"] == ["AAPL"]
    for token in issuer.bad_tokens().values():
        assert (await refusal(guarded, STREAM, token)).status_code == 401


async def test_a_stream_takes_a_token_in_the_first_message(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer
) -> None:
    async with client(guarded, STREAM) as stream:
        assert (await heard(stream, "hello"))["auth"] is True
        answer = await present(stream, issuer.token())
        assert (answer["op"], answer["id"]) == ("auth", "me")
        await wants(stream, "AAPL")
        await writer.price("AAPL", last_price="1.10")
        assert (await heard(stream, "price_update"))["symbol"] == "AAPL"


async def test_a_bad_token_ends_a_stream_without_a_reason(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    for token in ["", "x", *issuer.bad_tokens().values()]:
        async with client(guarded, STREAM) as stream:
            await heard(stream, "hello")
            await stream.send(op="auth", id=1, token=token)
            assert await close_code(stream) == (4001, "")


@pytest.mark.parametrize(
    "first",
    [
        {"op": "subscribe", "channel": "prices", "symbols": ["AAPL"]},
        {"op": "subscribe", "channel": "nothing"},
        {"op": "resume", "subscriptions": [{"channel": "news"}]},
        {"op": "ping"},
        {"op": "list", "id": 1},
        {"op": "unheard-of"},
        {"op": "auth"},
        {"op": "auth", "token": 1},
    ],
)
async def test_a_stream_hears_nothing_before_a_token(
    guarded: EdgeProcess, first: dict[str, Any]
) -> None:
    async with client(guarded, STREAM) as stream:
        await heard(stream, "hello")
        await stream.send(**first)
        with pytest.raises(ConnectionClosed):
            await stream.text()
        assert await close_code(stream) == (4001, "")


async def test_a_stream_waits_ten_seconds_for_a_token(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    started = time.monotonic()
    async with client(guarded, STREAM) as late, client(guarded, STREAM) as early:
        await present(early, issuer.token())
        assert await close_code(late, 15) == (4001, "")
        assert time.monotonic() - started > 9
        assert early.connection.close_code is None


async def test_a_stream_ends_with_its_token_unless_a_newer_one_comes(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with (
        client(guarded, STREAM) as brief,
        client(guarded, STREAM, issuer.token(2.5)) as prolonged,
    ):
        await present(brief, issuer.token(2.5))
        assert (await present(prolonged, issuer.token(60)))["op"] == "auth"
        assert await close_code(brief) == (4001, "")
        assert (await wants(prolonged, "AAPL"))["accepted"] == ["AAPL"]


async def test_a_token_of_another_subject_ends_a_stream(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with client(guarded, STREAM, issuer.token()) as stream:
        await stream.send(op="auth", token=issuer.token(sub="bob"))
        assert await close_code(stream) == (4001, "")


async def test_a_stream_is_told_the_same_of_all_symbols_that_are_not_for_it(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer, eventually: Eventually
) -> None:
    await writer.price("TSLA", last_price="1.10")
    await eventually(lambda: cached(guarded, issuer, "TSLA"))
    async with client(guarded, STREAM) as stream:
        await present(stream, issuer.token(symbols=["AAPL", "MSFT"], max_symbols=1))
        answer = await wants(stream, "TSLA", "AAPL", "NONE", "MSFT")
        assert answer["accepted"] == ["AAPL"]
        assert answer["rejected"] == [
            {"symbol": "TSLA", "code": "not_available"},
            {"symbol": "NONE", "code": "not_available"},
            {"symbol": "MSFT", "code": "too_many_symbols"},
        ]


async def test_a_stream_has_only_the_channels_of_its_token(
    guarded: EdgeProcess, issuer: Issuer
) -> None:
    async with client(guarded, STREAM, issuer.token(channels=["news"])) as stream:
        await stream.send(op="subscribe", id=1, channel="prices", symbols=["AAPL"])
        assert (await heard(stream, "error"))["code"] == "not_available"
        await stream.send(op="subscribe", id=2, channel="status")
        assert (await heard(stream, "error"))["code"] == "not_available"
        await stream.send(op="subscribe", id=3, channel="news")
        assert (await heard(stream, "ack"))["id"] == 3


async def test_a_newer_token_may_take_something_away(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer
) -> None:
    async with client(guarded, STREAM, issuer.token()) as stream:
        await wants(stream, "AAPL", "TSLA")
        for channel in ("news", "status"):
            await stream.send(op="subscribe", id=2, channel=channel)
            await heard(stream, "ack")
        less = issuer.token(symbols=["AAPL"], channels=["prices"])
        answer = await present(stream, less)
        assert answer["rejected"] == [{"symbol": "TSLA", "code": "not_available"}]
        await stream.send(op="list")
        listed = (await heard(stream, "list"))["subscriptions"]
        assert [(one["channel"], one["symbols"]) for one in listed] == [
            ("prices", ["AAPL"])
        ]
        await writer.news("1")
        await writer.price("TSLA", last_price="1.10")
        await writer.price("AAPL", last_price="1.10")
        assert (await heard(stream, "price_update"))["symbol"] == "AAPL"


async def test_a_stream_that_needs_no_token_takes_any(edge: EdgeProcess) -> None:
    async with client(edge, STREAM) as stream:
        assert (await heard(stream, "hello"))["auth"] is False
        assert (await present(stream, "whatever"))["op"] == "auth"
        assert (await wants(stream, "AAPL"))["accepted"] == ["AAPL"]


async def test_limits_hold_for_the_newer_routes_too(
    guarded: EdgeProcess, issuer: Issuer, writer: Writer, eventually: Eventually
) -> None:
    for symbol in ("AAPL", "TSLA"):
        await writer.price(symbol, last_price="1.10")
    await eventually(lambda: cached(guarded, issuer, "TSLA"))
    token = issuer.token(symbols=["AAPL"])

    listed = (await get(guarded, "/api/v3/prices", token)).json()
    assert [price["symbol"] for price in listed["prices"]] == ["AAPL"]
    existing = await get(guarded, "/api/v3/prices/TSLA", token)
    missing = await get(guarded, "/api/v3/prices/NONE", token)
    assert existing.status_code == missing.status_code == 404
    assert existing.text.replace("TSLA", "NONE") == missing.text
    assert (await get(guarded, "/api/v3/prices/TSLA")).status_code == 401


async def test_keys_are_replaced_while_it_runs(
    guarded: EdgeProcess, issuer: Issuer, eventually: Eventually
) -> None:
    path = "/api/v2/realtime/status"
    old = issuer.token()
    assert (await get(guarded, path, old)).status_code == 200
    async with client(guarded, NEWS, old) as news:
        await news.json()
        issuer.key = ed25519.Ed25519PrivateKey.generate()
        issuer.publish(issuer.public_jwk())

        async def is_replaced() -> bool:
            return (await get(guarded, path, issuer.token())).status_code == 200

        await eventually(is_replaced)
        assert (await get(guarded, path, old)).status_code == 401
        # Whoever is in stays until its token expires.
        await news.silent()


async def test_broken_keys_leave_the_old_ones_in_force(
    guarded: EdgeProcess, issuer: Issuer, eventually: Eventually
) -> None:
    issuer.path.write_text('{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}')

    async def is_counted() -> bool:
        name = "feedmesh_edge_auth_key_loads_total"
        return await guarded.service.metric(name, result="broken") == 1

    await eventually(is_counted)
    answer = await get(guarded, "/api/v2/realtime/status", issuer.token())
    assert answer.status_code == 200
    assert "c2hvcnQ" not in "\n".join(guarded.service.lines)


@pytest.mark.parametrize("text", [None, "{}", '{"keys": []}', "c2hvcnQ"])
async def test_it_does_not_start_with_keys_that_are_of_no_use(
    nats_server: NatsProcess, bus: Bus, issuer: Issuer, text: str | None
) -> None:
    issuer.path.unlink()
    if text is not None:
        issuer.path.write_text(text)
    env = edge_env(nats_server, EDGE_AUTH_KEYS_FILE=str(issuer.path))

    async with run_service("edge", env) as service:
        assert await service.exited() == 2

    told = [line for line in service.lines if not line.startswith("{")]
    assert len(told) == 1
    assert "EDGE_AUTH_KEYS_FILE" in told[0]
    assert "c2hvcnQ" not in "".join(service.lines)


async def test_no_token_reaches_a_log_or_a_metric(
    nats_server: NatsProcess, bus: Bus, issuer: Issuer
) -> None:
    secret = base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode()
    issuer.publish(issuer.public_jwk(), {"kty": "oct", "k": secret})
    async with run_edge(
        nats_server, EDGE_AUTH_KEYS_FILE=str(issuer.path), LOG_LEVEL="DEBUG"
    ) as edge:
        bad = issuer.bad_tokens()
        for token in bad.values():
            await refusal(edge, NEWS, token)
            await refusal(edge, f"{NEWS}?token={token}")
            await get(edge, f"/api/v2/realtime/cache?x={token}", token)
            await get(edge, f"/api/v2/realtime/cache/{token}", token)
            await get(edge, f"/{token}", token)
            await post(edge, "/api/v2/realtime/subscribe", token, [token])
        good = issuer.token()
        await get(edge, f"/api/v2/realtime/cache/{good}", good)
        await post(edge, "/api/v2/realtime/subscribe", good, [good])
        async with client(edge, PRICES, good) as prices:
            await prices.send(action="subscribe", symbols=[good])
            await prices.connection.send(good)
            await prices.json()
        for token in bad.values():
            async with client(edge, STREAM) as stream:
                await stream.send(op="auth", id=1, token=token)
                assert await close_code(stream) == (4001, "")
        async with client(edge, STREAM) as stream:
            await stream.send(op="auth", token=good)
            await stream.send(op=good)
            await stream.send(op="list", id=good)
            await stream.send(op="subscribe", channel="prices", symbols=[good])
            await stream.send(op="subscribe", channel=good, since=good)
            await stream.send(op="subscribe", channel="news", since=good)
            await stream.connection.send(good)
            assert (await close_code(stream))[0] == 4000
        ops = await edge.service.ops()
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{ops}/metrics")).text
        issuer.path.write_text(f'{{"keys": [{{"kty": "oct", "k": "{secret}", "x"')
        async with asyncio.timeout(15):
            await edge.service.event("keys of tokens are broken; the old ones are kept")
        await edge.service.stop()
        told = "\n".join(edge.service.lines)

    # Somebody did listen: what may be told was.
    assert "keys of tokens are loaded" in told
    assert "feedmesh_edge_auth_refused_total" in metrics
    assert len(issuer.issued) >= len(bad)
    for token in issuer.issued:
        for part in token.split("."):
            # The unsigned ones end in nothing.
            assert not part or part not in told + metrics
    assert secret not in told + metrics
    assert SUBJECT not in told + metrics
