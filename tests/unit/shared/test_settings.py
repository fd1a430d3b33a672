"""Settings: what is set is what is used; what is wrong is named, never shown."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr

from feedmesh.errors import SettingsError
from feedmesh.logs import Redactor, secrets_of
from feedmesh.settings import (
    Duration,
    HttpUrl,
    ServiceSettings,
    Symbols,
    WebSocketUrl,
)


class Settings(ServiceSettings, frozen=True, extra="forbid"):
    own_prefixes: ClassVar[tuple[str, ...]] = ("X_",)

    x_key: SecretStr
    x_wait: Duration = 1.0
    x_symbols: Symbols = ()
    x_url: WebSocketUrl = "ws://localhost"
    x_rest: HttpUrl = "http://localhost"


def read(**environ: str) -> Settings:
    return Settings.from_env({"X_KEY": "hush", **environ})


def test_a_required_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^X_KEY is required$"):
        Settings.from_env({})


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("1.5m", 90), ("1h", 3600)]
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    assert read(X_WAIT=text).x_wait == seconds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X_WAIT", "30"),
        ("X_WAIT", "-1s"),
        ("X_WAIT", "1d"),
        ("X_SYMBOLS", "AAPL,*>"),
        ("X_SYMBOLS", " ".join(f"S{n}" for n in range(20_001))),
        ("X_URL", "http://localhost"),
        ("X_URL", "localhost:80"),
        ("X_URL", "ws://user:hunter2@localhost"),
        ("X_REST", "ws://localhost"),
        ("OPS_PORT", "99999"),
        ("OPS_PORT", "hunter2"),
        ("NATS_URL", ","),
        ("NATS_URL", "nats://me:hunter2@localhost"),
        ("LOG_LEVEL", "hunter2"),
    ],
)
def test_a_bad_value_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: ") as raised:
        read(**{name: value})

    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_misspelt_setting_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^X_KYE is not a setting"):
        read(X_KYE="1")


def test_settings_of_others_are_left_alone() -> None:
    assert read(Y_WHATEVER="1", PATH="/bin").x_wait == 1.0


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\n")

    settings = Settings.from_env({"X_KEY_FILE": str(tmp_path / "key")})

    assert settings.x_key.get_secret_value() == "from file"


def test_value_and_file_at_once_are_refused() -> None:
    with pytest.raises(SettingsError, match="X_KEY and X_KEY_FILE are both set"):
        read(X_KEY_FILE="/nowhere")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match="X_KEY_FILE cannot be read"):
        Settings.from_env({"X_KEY_FILE": "/nowhere"})


def test_symbols_are_normalised_and_counted_once() -> None:
    assert read(X_SYMBOLS="aapl, MSFT\nAAPL").x_symbols == ("AAPL", "MSFT")


def test_several_nats_servers_may_be_named() -> None:
    settings = read(NATS_URL="nats://a:1, tls://b:2")

    assert settings.nats_url == ("nats://a:1", "tls://b:2")


def test_secrets_are_taken_out_of_every_line() -> None:
    settings = read(NATS_PASSWORD="hush-hush")
    formatter = Redactor("test", secrets_of(settings))
    record = logging.LogRecord(
        "t", logging.INFO, "", 0, "key %s 삼성", ("hush-hush hush",), None
    )

    line = formatter.format(record)

    assert "hush" not in line
    assert json.loads(line)["event"] == "key [redacted] [redacted] 삼성"
    assert "hush" not in repr(settings)
