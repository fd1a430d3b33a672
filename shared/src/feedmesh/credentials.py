"""
Fresh keys for the identities of a deployment: ``python -m feedmesh.credentials``.

Prints manifests for ``kubectl apply -f -``: a Secret with the seed of each identity,
for the service that is it, and the public keys in one ConfigMap, for the servers.
Nothing is kept: who loses a seed makes a new key. Given names, it makes keys for those
identities only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import nkeys  # type: ignore[import-untyped]

from feedmesh.permissions import IDENTITIES, key_variable


__all__ = ["KEYS_CONFIG_MAP", "manifests", "new_seed", "public_key", "secret_name"]

KEYS_CONFIG_MAP = "nats-identities"


def new_seed() -> str:
    """Return the seed of a new key of a user of NATS."""
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode()


def public_key(seed: str) -> str:
    """Return the public key that belongs to *seed*."""
    public: bytes = nkeys.from_seed(seed.encode()).public_key
    return public.decode()


def secret_name(identity: str) -> str:
    """Return the name of the Secret with the seed of *identity*."""
    return f"nats-key-{identity}"


def manifests(identities: Iterable[str] = tuple(IDENTITIES)) -> dict[str, Any]:
    """
    Return Secrets and ConfigMap with new keys for *identities*, as one list.

    Raises:
        KeyError: If there is no such identity.
    """
    seeds = {name: new_seed() for name in identities}
    if unknown := seeds.keys() - IDENTITIES.keys():
        raise KeyError(", ".join(sorted(unknown)))
    secrets = [
        _object("Secret", secret_name(name), stringData={"seed": seed})
        for name, seed in seeds.items()
    ]
    public = {key_variable(name): public_key(seed) for name, seed in seeds.items()}
    keys = _object("ConfigMap", KEYS_CONFIG_MAP, data=public)
    return {"apiVersion": "v1", "kind": "List", "items": [*secrets, keys]}


def _object(kind: str, name: str, **content: dict[str, str]) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "feedmesh",
        "labels": {"app.kubernetes.io/part-of": "feedmesh"},
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | content


if __name__ == "__main__":
    try:
        print(json.dumps(manifests(sys.argv[1:] or tuple(IDENTITIES)), indent=2))
    except KeyError as error:
        sys.exit(f"no identity is called {error}; there are {', '.join(IDENTITIES)}")
