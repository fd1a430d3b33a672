"""What `make run` would start, for every kind of environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.plan import Plan, PlanError, make_plan


def plan(taken: frozenset[int] = frozenset(), **environ: str) -> Plan:
    return make_plan(environ, Path("/data"), lambda port: port not in taken)


def names(made: Plan) -> list[str]:
    return [process.name for process in made.processes]


def env(made: Plan, name: str) -> dict[str, str]:
    return dict(next(p for p in made.processes if p.name == name).env)


def test_without_keys_everything_is_simulated() -> None:
    made = plan()

    assert names(made) == [
        "nats",
        "streams",
        "simulator",
        "edge",
        "ingest-fmp",
        "ingest-ls",
        "prober",
    ]
    assert made.simulated == ("fmp", "ls")
    assert env(made, "ingest-fmp")["FMP_STOCKS_URL"] == "ws://127.0.0.1:9101"
    assert env(made, "ingest-fmp")["FMP_STREAM_URL"] == "ws://127.0.0.1:9104"
    assert env(made, "ingest-ls")["LS_WS_URL"] == "ws://127.0.0.1:9106/websocket"


def test_a_key_means_the_real_upstream() -> None:
    made = plan(FMP_API_KEY="k")

    assert made.simulated == ("ls",)
    fmp = env(made, "ingest-fmp")
    assert fmp["FMP_CRYPTO_URL"] == "wss://crypto.financialmodelingprep.com"
    assert fmp["FMP_SYMBOLS"]


def test_with_all_keys_nothing_is_simulated() -> None:
    made = plan(FMP_API_KEY="k", LS_APP_KEY="a", LS_APP_SECRET_FILE="/s")

    assert "simulator" not in names(made)
    assert env(made, "ingest-ls")["LS_REST_URL"].startswith("https://")


def test_half_a_key_is_no_key() -> None:
    assert plan(LS_APP_KEY="a").simulated == ("fmp", "ls")


def test_a_url_of_ones_own_is_kept() -> None:
    made = plan(FMP_API_KEY="k", FMP_STOCKS_URL="wss://proxy.example/stocks")

    assert env(made, "ingest-fmp")["FMP_STOCKS_URL"] == "wss://proxy.example/stocks"


def test_another_nats_is_used_and_none_is_started() -> None:
    made = plan(NATS_URL="nats://elsewhere:4222")

    assert "nats" not in names(made)
    assert made.nats_url == "nats://elsewhere:4222"
    assert env(made, "edge")["NATS_URL"] == "nats://elsewhere:4222"


@pytest.mark.parametrize(("servers", "copies"), [(1, "1"), (3, "3")])
def test_streams_have_a_copy_on_each_of_three_servers(
    servers: int, copies: str
) -> None:
    url = ",".join(f"nats://n{number}:4222" for number in range(servers))
    made = plan(NATS_URL=url)
    streams = next(p for p in made.processes if p.name == "streams")

    assert streams.command.endswith(f"--replicas {copies}")


def test_a_port_in_use_is_stepped_over_where_nobody_chose_it() -> None:
    made = plan(frozenset({4222, 9201, 9103}))

    assert made.nats_url == "nats://127.0.0.1:4223"
    assert env(made, "ingest-fmp")["FMP_STOCKS_URL"] == "ws://127.0.0.1:9111"
    assert "9201" not in {env(made, n)["OPS_PORT"] for n in ("edge", "ingest-ls")}


def test_the_port_of_the_page_is_not_changed_in_silence() -> None:
    with pytest.raises(PlanError, match="port 8080 is in use; set EDGE_PORT"):
        plan(frozenset({8080}))


def test_a_chosen_port_must_be_one() -> None:
    with pytest.raises(PlanError, match="EDGE_PORT must be a port"):
        plan(EDGE_PORT="http")


def test_no_key_is_ever_on_a_command_line() -> None:
    made = plan(FMP_API_KEY="hush", LS_APP_KEY="hush", LS_APP_SECRET="hush")

    assert not any("hush" in process.command for process in made.processes)


def test_every_service_has_an_ops_port_of_its_own() -> None:
    made = plan()

    assert len(set(made.ops_urls.values())) == 4
