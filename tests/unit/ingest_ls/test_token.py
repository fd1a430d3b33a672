"""The life of a token: taken once, kept, renewed early, replaced when rejected."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest_ls.korea import KST
from ingest_ls.token import Token, TokenKeeper, expiry_of


MORNING = datetime(2026, 7, 15, 9, 0, tzinfo=KST)


def jwt(exp: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": exp}).encode()).rstrip(b"=")
    return f"head.{claims.decode()}.sign"


class Issuer:
    """An endpoint that gives out numbered tokens, and a clock."""

    def __init__(self, **reply: Any) -> None:
        self.reply = reply or {"expires_in": 86400}
        self.issued = 0
        self.time = MORNING

    async def __call__(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.issued += 1
        return {"access_token": f"t{self.issued}", **self.reply}

    def now(self) -> datetime:
        return self.time

    def keeper(self, file: Path | None = None) -> TokenKeeper:
        return TokenKeeper(self, self.now, file)


@pytest.mark.parametrize(
    ("reply", "hours"),
    [
        ({"expires_in": 3600}, 1),
        ({"expires_in": "3600"}, 1),
        ({"expire_in": "3600"}, 1),
        ({"expires_in": "soon", "expire_in": 7200}, 2),
        ({"access_token": jwt(MORNING.timestamp() + 3600)}, 1),
        ({"access_token": "not.a.jwt"}, 22),
        ({}, 22),
    ],
    ids=str,
)
def test_when_a_token_ends(reply: dict[str, Any], hours: int) -> None:
    end = expiry_of(reply, MORNING)

    assert end == (MORNING + timedelta(hours=hours)).timestamp()


async def test_a_token_is_taken_once_for_all() -> None:
    issuer = Issuer()
    keeper = issuer.keeper()

    tokens = await asyncio.gather(*(keeper.token() for _ in range(20)))

    assert set(tokens) == {"t1"}


async def test_what_another_replica_told_is_trusted_after_our_term() -> None:
    """Else it is gone if that replica dies before it tells its token again."""
    issuer = Issuer()
    keeper = issuer.keeper()
    assert await keeper.token() == "t1"
    keeper.adopt(Token("theirs", (MORNING + timedelta(hours=9)).timestamp()))
    keeper.start_over()

    assert await keeper.token() == "theirs"


async def test_what_we_took_ourselves_is_not_trusted_after_our_term() -> None:
    """Another may have taken one since, which ends ours."""
    issuer = Issuer()
    keeper = issuer.keeper()
    keeper.adopt(Token("theirs", MORNING.timestamp()))
    assert await keeper.token() == "t1"
    keeper.start_over()

    assert await keeper.token() == "t2"


async def test_a_token_is_renewed_before_it_ends() -> None:
    issuer = Issuer(expires_in=3600)
    keeper = issuer.keeper()
    await keeper.token()

    issuer.time += timedelta(minutes=50)
    assert await keeper.token() == "t1"
    issuer.time += timedelta(minutes=6)
    assert await keeper.token() == "t2"


async def test_a_token_that_is_born_shortly_before_its_end_is_used_to_its_end() -> None:
    """All end at 07:00 in Korea: taking another at 06:58 and again gains nothing."""
    issuer = Issuer(expires_in=120)
    keeper = issuer.keeper()
    assert await keeper.token() == await keeper.token() == "t1"

    issuer.time += timedelta(seconds=120)
    assert await keeper.token() == "t2"


async def test_a_rejected_token_is_replaced_but_not_in_a_storm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    issuer = Issuer()
    keeper = issuer.keeper()
    monkeypatch.setattr("asyncio.sleep", sleep)
    for _ in range(5):
        await keeper.token()
        keeper.reject()

    assert issuer.issued == 5
    waits = [seconds for seconds in slept if seconds]
    assert waits == sorted(waits)
    assert waits[0] == 10
    assert len(waits) == 4


async def test_a_token_outlives_a_restart_in_a_file_that_only_we_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    issuer = Issuer()
    await issuer.keeper(file).token()

    assert await issuer.keeper(file).token() == "t1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token":1}', "\x00"])
async def test_a_broken_file_is_ignored_and_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)

    assert await Issuer().keeper(file).token() == "t1"
    assert json.loads(file.read_text())["token"] == "t1"


async def test_a_rejected_token_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    issuer = Issuer()
    keeper = issuer.keeper(file)
    await keeper.token()
    keeper.reject()

    assert not file.exists()
