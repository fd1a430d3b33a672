"""Settings: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedmesh.errors import SettingsError
from ingest_fmp.settings import Settings


REAL = {"FMP_STOCKS_URL": "wss://websockets.financialmodelingprep.com"}


def test_the_defaults_work_with_a_simulator_on_this_machine() -> None:
    settings = Settings.from_env({})

    assert set(settings.urls) == {"stocks", "crypto", "forex"}
    assert settings.ops_port == 9202
    assert settings.fmp_silence == 75
    assert not settings.key_goes_nowhere


@pytest.mark.parametrize(
    ("env", "named"),
    [
        (REAL, "FMP_API_KEY"),
        (REAL | {"FMP_API_KEY": "simulator"}, "FMP_API_KEY"),
        ({"FMP_CRYPTO_URL": "ws://10.0.0.1:9102"}, "FMP_API_KEY"),
        ({"FMP_PRODUCT": "stream", "FMP_STREAM_URL": "ws://a:1"}, "FMP_API_KEY"),
        ({"FMP_PRODUCT": "both"}, "FMP_PRODUCT"),
        ({"FMP_PRODUCT": "stream", "FMP_STREAMS": " , "}, "FMP_STREAMS"),
        ({"FMP_SYMBOLS": "*"}, "FMP_SYMBOLS"),
        ({"FMP_SYMBOLS": "AAPL,>"}, "FMP_SYMBOLS"),
        ({"FMP_SYMBOLS": "AAPL,005930"}, "FMP_SYMBOLS"),
        ({"FMP_SYMBOLS": ",".join(f"A{n}" for n in range(20_001))}, "FMP_SYMBOLS"),
        ({"FMP_SILENCE": "75"}, "FMP_SILENCE"),
        ({"FMP_SILENCE": "0s"}, "FMP_SILENCE"),
        ({"FMP_GRACE": "soon"}, "FMP_GRACE"),
        ({"FMP_PING": "-1s"}, "FMP_PING"),
        ({"FMP_STOCKS_URL": "http://localhost"}, "FMP_STOCKS_URL"),
        ({"FMP_STOCKS_URL": "ws://user:hunter2@localhost"}, "FMP_STOCKS_URL"),
        ({"FMP_CA_FILE": "/nowhere.pem"}, "FMP_CA_FILE"),
        ({"FMP_SYMBOL": "AAPL"}, "FMP_SYMBOL is not a setting"),
        ({"FMP_API_KEY": "a", "FMP_API_KEY_FILE": "/b"}, "FMP_API_KEY_FILE"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_setting_is_refused_by_its_name(env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_env(env)

    text = str(raised.value)
    assert named in text
    assert "\n" not in text
    assert "hunter2" not in text


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")

    with pytest.raises(SettingsError, match="FMP_CA_FILE"):
        Settings.from_env({"FMP_CA_FILE": str(path)})


def test_a_key_opens_the_real_upstream() -> None:
    settings = Settings.from_env(REAL | {"FMP_API_KEY": "s3cret"})

    assert "s3cret" not in repr(settings)


def test_urls_of_the_other_product_do_not_matter() -> None:
    Settings.from_env(REAL | {"FMP_PRODUCT": "stream"})


def test_the_key_of_a_simulator_elsewhere_is_given_on_purpose() -> None:
    Settings.from_env(
        {
            "FMP_API_KEY": "simulator",
            "FMP_STOCKS_URL": "ws://simulator:9101",
            "FMP_CRYPTO_URL": "ws://simulator:9102",
            "FMP_FOREX_URL": "ws://simulator:9103",
        }
    )


def test_a_key_that_stays_on_this_machine_is_worth_a_warning() -> None:
    assert Settings.from_env({"FMP_API_KEY": "s3cret"}).key_goes_nowhere
    assert Settings.from_env(
        {"FMP_API_KEY": "s3cret", "FMP_STOCKS_URL": "ws://[::1]:9101"}
    ).key_goes_nowhere


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-file\n")

    settings = Settings.from_env(REAL | {"FMP_API_KEY_FILE": str(path)})

    assert settings.fmp_api_key.get_secret_value() == "from-file"


def test_symbols_are_in_upper_case_and_count_once() -> None:
    settings = Settings.from_env({"FMP_SYMBOLS": "aapl, AAPL brk-b"})

    assert settings.fmp_symbols == ("AAPL", "BRK-B")


def test_everything_is_for_the_stream_product() -> None:
    settings = Settings.from_env({"FMP_SYMBOLS": "*", "FMP_PRODUCT": "stream"})

    assert settings.everything
