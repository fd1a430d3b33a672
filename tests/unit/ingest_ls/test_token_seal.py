"""Only who has the account's secret can read the token of another replica."""

from __future__ import annotations

from pydantic import SecretStr

from ingest_ls.token import Token
from ingest_ls.token_seal import TokenSeal


TOKEN = Token("eyJh.b.c", 1_784_000_000.0)


def test_a_replica_of_the_same_account_reads_the_token() -> None:
    text = TokenSeal(SecretStr("secret")).close(TOKEN)

    assert TOKEN.value not in text
    assert TokenSeal(SecretStr("secret")).open(text) == TOKEN


def test_nobody_else_does() -> None:
    text = TokenSeal(SecretStr("secret")).close(TOKEN)

    assert TokenSeal(SecretStr("another")).open(text) is None


def test_a_broken_text_is_no_token() -> None:
    seal = TokenSeal(SecretStr("secret"))
    text = seal.close(TOKEN)

    for broken in ("", "=", "ä", text[:-8], "A" + text[1:], text[:40]):
        assert seal.open(broken) is None


def test_a_token_is_sealed_once() -> None:
    seal = TokenSeal(SecretStr("secret"))

    assert seal.close(TOKEN) is seal.close(TOKEN)
    assert seal.close(TOKEN) != seal.close(Token("another", 1.0))
