"""Which settings of the door are refused at the start."""

from __future__ import annotations

import pytest

from edge.settings import Settings
from feedmesh.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("*", ("*",)),
        ("feed.example.org", ("feed.example.org",)),
        (" a.example , *.b.example ", ("a.example", "*.b.example")),
        ("[::1],127.0.0.1", ("[::1]", "127.0.0.1")),
    ],
)
def test_hosts_are_names(text: str, hosts: tuple[str, ...]) -> None:
    assert Settings.from_env({"EDGE_HOSTS": text}).edge_hosts == hosts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGE_HOSTS", "https://a.example"),
        ("EDGE_HOSTS", "a.example:8080"),
        ("EDGE_HOSTS", "a.example/"),
        ("EDGE_HOSTS", "a.*.example"),
        ("EDGE_HOSTS", ","),
        ("EDGE_HANDSHAKE", "0s"),
        ("EDGE_HANDSHAKE", "10"),
        ("EDGE_ARRIVALS", "0"),
        ("EDGE_ARRIVALS_BURST", "-1"),
        ("EDGE_SPARE_CONNECTIONS", "0"),
    ],
)
def test_a_senseless_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: value})
