"""One link of FMP against a scripted upstream: logging in, asking, losing it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integration.ingest_fmp.upstream import (
    LOGGED_IN,
    Answer,
    Session,
    Upstream,
    agree,
    run_upstream,
)
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from feedmesh.ingest.feed import Link, LinkLimits
from feedmesh.ingest.subscriptions import SubscriptionBook
from feedmesh.ingest.wire import tls_context
from feedmesh.metrics import IngestMetrics
from feedmesh.status import LinkState
from ingest_fmp.upstream import FmpDialect


class Bench:
    """A link and what came of it."""

    def __init__(
        self, url: str, *, by_stream: bool, limits: LinkLimits, ca: Path | None
    ) -> None:
        self.registry = CollectorRegistry()
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.paused_slowly: list[bool] = []
        self._news = asyncio.Event()
        self.link = Link(
            FmpDialect(
                "stream" if by_stream else "stocks",
                url,
                SecretStr("key"),
                by_stream=by_stream,
                tls=tls_context(ca),
                ping_seconds=None,
            ),
            SubscriptionBook(
                batch=1 if by_stream else 50, ack_seconds=0.3, refused_seconds=0.5
            ),
            self._take,
            IngestMetrics(self.registry, "fmp"),
            limits,
            pauses=self._pauses,
            changed=self._news.set,
            rests=True,
        )

    async def state(self, wanted: LinkState, reason: str | None = None) -> None:
        """Wait until the link is *wanted*, because of *reason* if one is given."""
        try:
            async with asyncio.timeout(10):
                while True:
                    status = self.link.status()
                    if status.state is wanted and reason in (None, status.reason):
                        return
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"it is {self.link.status()}") from None

    async def confirmed(self, count: int) -> None:
        """Wait until so many subscriptions are agreed to."""
        async with asyncio.timeout(10):
            while self.link.status().confirmed != count:
                self._news.clear()
                await self._news.wait()

    async def frame(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.frames.get()

    def count(self, name: str, **labels: str) -> float:
        labels = {"feed": "fmp", "link": self.link.name} | labels
        value = self.registry.get_sample_value(f"feedmesh_ingest_{name}_total", labels)
        return value or 0.0

    async def _take(self, _: str, frame: bytes, received_ns: int) -> None:
        self.frames.put_nowait(frame)

    def _pauses(self, slow: bool) -> Iterator[float]:
        self.paused_slowly.append(slow)
        while True:
            yield 0.01


@asynccontextmanager
async def linked(
    upstream: Upstream | PlainHttp,
    *symbols: str,
    by_stream: bool = False,
    ca: Path | None = None,
    **limits: Any,
) -> AsyncIterator[Bench]:
    bench = Bench(
        upstream.url,
        by_stream=by_stream,
        limits=LinkLimits(**({"connects_per_minute": 1000} | limits)),
        ca=ca,
    )
    bench.link.want(frozenset(symbols))
    task = asyncio.create_task(bench.link.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.wait([task])


def logs_in(*replies: object) -> Answer:
    """Answer the login by *replies* and agree to all else."""

    async def answer(session: Session, message: dict[str, Any]) -> None:
        if message["event"] != "login":
            await agree(session, message)
            return
        for reply in replies:
            await session.say(reply)

    return answer


async def test_logs_in_and_only_then_subscribes() -> None:
    answered = asyncio.Event()

    async def late(session: Session, message: dict[str, Any]) -> None:
        if message["event"] == "login":
            await asyncio.sleep(0.5)
            assert len(session.asked) == 1
            answered.set()
        await agree(session, message)

    async with run_upstream(late) as upstream, linked(upstream, "AAPL") as bench:
        await bench.confirmed(1)

        assert answered.is_set()
        assert upstream.session.asked == [
            {"event": "login", "data": {"apiKey": "key"}},
            {"event": "subscribe", "data": {"ticker": ["aapl"]}},
        ]


async def test_stays_unconnected_until_something_is_wanted() -> None:
    async with run_upstream() as upstream, linked(upstream) as bench:
        await bench.state(LinkState.IDLE)
        assert upstream.sessions == []

        bench.link.want(frozenset({"AAPL"}))
        await bench.confirmed(1)


async def test_subscribes_and_unsubscribes_while_it_runs() -> None:
    async with run_upstream() as upstream, linked(upstream, "AAPL", "MSFT") as bench:
        await bench.confirmed(2)
        bench.link.want(frozenset({"MSFT", "BRK-B"}))
        await upstream.asked_for("subscribe", "brk-b")
        await upstream.asked_for("unsubscribe", "aapl")
        await bench.confirmed(2)

        assert len(upstream.sessions) == 1


async def test_whole_streams_are_asked_for_one_by_one() -> None:
    streams = ("fmp-crypto-stream", "fmp-us-equities-stream")
    async with (
        run_upstream(logs_in({"event": "login", "data": {"status": 200}})) as upstream,
        linked(upstream, *streams, by_stream=True) as bench,
    ):
        await bench.confirmed(2)

        assert [m["data"] for m in upstream.session.asked[1:]] == [
            {"stream": "fmp-crypto-stream"},
            {"stream": "fmp-us-equities-stream"},
        ]


@pytest.mark.parametrize(
    "reply",
    [LOGGED_IN, {"event": "login", "data": {"status": 200, "message": "x"}}],
    ids=["flat", "nested"],
)
async def test_data_before_the_login_reply_is_kept(reply: object) -> None:
    early = [{"event": "heartbeat"}, "one", "two", reply, "three"]
    async with run_upstream(logs_in(*early)) as upstream, linked(upstream, "A") as it:
        assert [await it.frame() for _ in range(3)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("reply", "state", "reason"),
    [
        (
            {"event": "login", "status": 401, "message": "Unauthorized"},
            LinkState.REFUSED,
            "unauthorized",
        ),
        (
            {"event": "login", "data": {"status": 401, "message": "Unauthorized"}},
            LinkState.REFUSED,
            "unauthorized",
        ),
        (
            {
                "event": "login",
                "status": 401,
                "message": "Connected from another location",
            },
            LinkState.BUSY,
            "slot_taken",
        ),
        (
            {"event": "login", "data": {"message": "Maximum connections reached"}},
            LinkState.BUSY,
            "slot_taken",
        ),
        ({"event": "login", "status": 400}, LinkState.REFUSED, "login_refused"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_refused_login_is_retried_slowly_until_it_is_not(
    reply: object, state: LinkState, reason: str
) -> None:
    async with run_upstream(logs_in(reply)) as upstream, linked(upstream, "A") as bench:
        await bench.state(state, reason)
        assert bench.paused_slowly[-1]
        # The upstream leaves the socket open; closing it is ours.
        await upstream.until(lambda: len(upstream.sessions) >= 3)
        assert upstream.most_open == 1

        upstream.answer = agree
        await bench.confirmed(1)


async def test_a_slot_lost_in_the_running_stream_is_not_fought_for() -> None:
    async with run_upstream() as upstream, linked(upstream, "A") as bench:
        await bench.confirmed(1)
        upstream.answer = logs_in()
        await upstream.session.say(
            {
                "event": "login",
                "status": 401,
                "message": "Connected from another location",
            }
        )

        await bench.state(LinkState.BUSY, "slot_taken")
        assert bench.paused_slowly[-1]


async def test_a_login_without_answer_is_given_up() -> None:
    async with (
        run_upstream(logs_in("not an answer")) as upstream,
        linked(upstream, "A", open_seconds=0.3) as bench,
    ):
        await bench.state(LinkState.DOWN, "open_timeout")
        assert not bench.paused_slowly[-1]


async def test_heartbeats_before_the_login_reply_do_not_stretch_the_limit() -> None:
    async def beats(session: Session, message: dict[str, Any]) -> None:
        while True:
            await session.say({"event": "heartbeat"})
            await asyncio.sleep(0.02)

    async with (
        run_upstream(beats) as upstream,
        linked(upstream, "A", open_seconds=0.3) as bench,
    ):
        await bench.state(LinkState.DOWN, "open_timeout")


async def test_a_missing_acknowledgement_is_asked_for_again() -> None:
    async def deaf(session: Session, message: dict[str, Any]) -> None:
        asked = [m for m in session.asked if m["event"] == "subscribe"]
        if message["event"] == "login" or len(asked) == 3:
            await agree(session, message)

    async with run_upstream(deaf) as upstream, linked(upstream, "A") as bench:
        await bench.confirmed(1)

        assert len(upstream.sessions) == 1
        assert bench.count("subscriptions_unanswered") == 2


async def test_a_plan_without_any_of_the_streams_is_a_refusal() -> None:
    async def refuses(session: Session, message: dict[str, Any]) -> None:
        status = 200 if message["event"] == "login" else 401
        await session.say(
            {"event": message["event"], "status": status, "message": "Unauthorized"}
            if status == 401
            else LOGGED_IN
        )

    async with (
        run_upstream(refuses) as upstream,
        linked(upstream, "one", "two", by_stream=True) as bench,
    ):
        await bench.state(LinkState.REFUSED, "subscribe_refused")


async def test_a_plan_without_one_of_the_streams_brings_the_others() -> None:
    async def picky(session: Session, message: dict[str, Any]) -> None:
        if message["data"].get("stream") == "a-not-in-the-plan":
            await session.say({"event": "subscribe", "status": 401})
        else:
            await agree(session, message)

    async with (
        run_upstream(picky) as upstream,
        linked(upstream, "a-not-in-the-plan", "b-in-the-plan", by_stream=True) as bench,
    ):
        await bench.confirmed(1)
        await bench.state(LinkState.LIVE)
        # It is asked for again later, and the link goes on all the while.
        await upstream.until(lambda: len(upstream.session.asked) >= 4)
        upstream.answer = agree
        await bench.confirmed(2)

        assert len(upstream.sessions) == 1


async def test_after_a_loss_everything_is_subscribed_again() -> None:
    async with run_upstream() as upstream, linked(upstream, "AAPL", "MSFT") as bench:
        await bench.confirmed(2)
        bench.link.want(frozenset({"MSFT", "KEY"}))
        await bench.confirmed(2)
        upstream.session.connection.transport.abort()
        await upstream.until(lambda: len(upstream.sessions) == 2)
        await upstream.asked_for("subscribe", "msft", "key")
        await bench.confirmed(2)

        assert bench.count("reconnects", reason="dropped") == 1
        assert upstream.most_open == 1


async def test_silence_is_noticed_and_heartbeats_are_not_silence() -> None:
    async with (
        run_upstream() as upstream,
        linked(upstream, "A", silence_seconds=0.6) as bench,
    ):
        await bench.confirmed(1)
        for _ in range(12):
            await upstream.session.say({"event": "heartbeat"})
            await asyncio.sleep(0.1)
        assert len(upstream.sessions) == 1

        await upstream.until(lambda: len(upstream.sessions) == 2)
        assert bench.count("reconnects", reason="silent") == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "closed_1000"),
        (1001, "closed_1001"),
        (1008, "closed_1008"),
        (1011, "closed_1011"),
        (1012, "closed_1012"),
        (4000, "closed_other"),
    ],
)
async def test_every_close_is_followed_by_a_reconnect(code: int, reason: str) -> None:
    async with run_upstream() as upstream, linked(upstream, "A") as bench:
        await bench.confirmed(1)
        await upstream.session.connection.close(code)
        await upstream.until(lambda: len(upstream.sessions) == 2)

        assert bench.count("reconnects", reason=reason) == 1


async def test_a_frame_over_the_limit_ends_the_connection_not_the_link() -> None:
    async with run_upstream() as upstream, linked(upstream, "A") as bench:
        await bench.confirmed(1)
        await upstream.session.say("x" * (10 * 1024 * 1024))
        await upstream.until(lambda: len(upstream.sessions) == 2)

        assert bench.count("reconnects", reason="frame_too_big") == 1


async def test_binary_and_fragmented_frames_and_pings_between_them_arrive() -> None:
    async with run_upstream() as upstream, linked(upstream, "A") as bench:
        await bench.confirmed(1)
        connection = upstream.session.connection
        await connection.send(b"\x00\xff")

        async def parts() -> AsyncIterator[str]:
            yield "one "
            await connection.ping()
            yield "frame"

        await connection.send(parts())

        assert [await bench.frame(), await bench.frame()] == [b"\x00\xff", b"one frame"]


class PlainHttp:
    """Answers every upgrade with one status, like a proxy that has a bad day."""

    def __init__(self, status: int, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} No", "Content-Length: 0", "Connection: close"]
        self._answer = ("\r\n".join([*lines, *headers]) + "\r\n\r\n").encode()
        self.connects: list[float] = []
        self.url = ""

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connects.append(asyncio.get_running_loop().time())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def run_plain_http(status: int, *headers: str) -> AsyncIterator[PlainHttp]:
    plain = PlainHttp(status, *headers)
    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        plain.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield plain


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        (401, LinkState.REFUSED, "http_401"),
        (403, LinkState.REFUSED, "http_403"),
        (404, LinkState.DOWN, "http_404"),
        (429, LinkState.DOWN, "http_429"),
        (502, LinkState.DOWN, "http_502"),
        (200, LinkState.DOWN, "http_other"),
    ],
)
async def test_a_refused_upgrade_is_mapped(
    status: int, state: LinkState, reason: str
) -> None:
    async with run_plain_http(status) as plain, linked(plain, "A") as bench:
        await bench.state(state, reason)


async def test_an_upstream_that_asks_us_to_wait_is_obeyed() -> None:
    async with (
        run_plain_http(429, "Retry-After: 1") as plain,
        linked(plain, "A") as bench,
    ):
        await bench.state(LinkState.DOWN, "http_429")
        async with asyncio.timeout(5):
            while len(plain.connects) < 2:
                await asyncio.sleep(0.05)

    assert plain.connects[1] - plain.connects[0] >= 1


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with (
        run_upstream() as elsewhere,
        run_plain_http(301, f"Location: {elsewhere.url}") as plain,
        linked(plain, "A") as bench,
    ):
        await bench.state(LinkState.DOWN, "http_301")
        assert elsewhere.sessions == []


_OPENSSL = """
[ca]
default_ca = test
[test]
database = {folder}/index
new_certs_dir = {folder}
default_md = sha256
rand_serial = yes
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
subjectAltName = IP:{address}
"""


class Certificate(NamedTuple):
    """What a server needs, and the file that makes a client trust it."""

    server: ssl.SSLContext
    path: Path


def certificate(folder: Path, address: str, until: str) -> Certificate:
    """Make a certificate that vouches for itself; *until* as in ASN.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    (folder / "index").touch()
    config = folder / "openssl.cnf"
    config.write_text(_OPENSSL.format(folder=folder, address=address))
    key, request, path = (folder / n for n in ("key.pem", "request.pem", "server.pem"))
    for command in (
        f"req -new -newkey rsa:2048 -nodes -keyout {key} -out {request} -subj /CN=test",
        f"ca -batch -selfsign -notext -config {config} -keyfile {key} -in {request}"
        f" -out {path} -startdate 20200101000000Z -enddate {until}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return Certificate(context, path)


async def test_extra_certificates_are_trusted(tmp_path: Path) -> None:
    made = certificate(tmp_path, "127.0.0.1", "20490101000000Z")
    async with (
        run_upstream(tls=made.server) as upstream,
        linked(upstream, "A", ca=made.path) as bench,
    ):
        await bench.confirmed(1)


@pytest.mark.parametrize(
    ("address", "until", "trusted"),
    [
        ("127.0.0.1", "20490101000000Z", False),
        ("127.0.0.1", "20210101000000Z", True),
        ("127.0.0.2", "20490101000000Z", True),
    ],
    ids=["self-signed", "expired", "wrong host"],
)
async def test_a_certificate_that_does_not_hold_is_never_accepted(
    tmp_path: Path, address: str, until: str, trusted: bool
) -> None:
    made = certificate(tmp_path, address, until)
    async with (
        run_upstream(tls=made.server) as upstream,
        linked(upstream, "A", ca=made.path if trusted else None) as bench,
    ):
        await bench.state(LinkState.DOWN, "tls")
        # Not a byte of the login has left.
        assert upstream.sessions == []
