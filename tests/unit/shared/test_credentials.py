"""New keys for a deployment: complete, different each time, and of the right kind."""

from __future__ import annotations

import pytest

from feedmesh.credentials import manifests, public_key, secret_name
from feedmesh.permissions import IDENTITIES, key_variable
from feedmesh.settings import ServiceSettings


def test_every_identity_gets_a_key_that_the_servers_know() -> None:
    *secrets, keys = manifests()["items"]
    seeds = {item["metadata"]["name"]: item["stringData"]["seed"] for item in secrets}

    assert seeds.keys() == {secret_name(identity) for identity in IDENTITIES}
    assert len(set(seeds.values())) == len(IDENTITIES)
    assert keys["data"] == {
        key_variable(identity): public_key(seeds[secret_name(identity)])
        for identity in IDENTITIES
    }
    for seed in seeds.values():
        ServiceSettings.from_env({"NATS_NKEY": seed})


def test_keys_are_made_for_those_that_are_named_alone() -> None:
    secret, keys = manifests(["edge"])["items"]

    assert secret["metadata"]["name"] == "nats-key-edge"
    assert list(keys["data"]) == ["NKEY_EDGE"]
    with pytest.raises(KeyError, match="nobody"):
        manifests(["edge", "nobody"])
