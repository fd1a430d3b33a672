"""
Makes clients' tokens where nobody else does: `python k8s/tokens.py prober >token`.

The first time it makes the key that signs them, `signing.pem`, and `jwks.json`, which
verifies them and is what edges are given. Keep `signing.pem` where no service is.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm


AUDIENCE = "feedmesh"
_DAY = 86_400


def key_set(key: Ed25519PrivateKey) -> str:
    """Return the JWK set that verifies what *key* has signed."""
    jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return json.dumps({"keys": [jwk | {"kid": _name(key)}]})


def token(key: Ed25519PrivateKey, subject: str, days: float) -> str:
    """Return a token for *subject* that holds for *days* from now on."""
    claims = {"sub": subject, "aud": AUDIENCE, "exp": int(time.time() + days * _DAY)}
    return jwt.encode(claims, key, "EdDSA", headers={"kid": _name(key)})


def _name(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()[:16]


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """Return the key in *folder*; the first time, make it and what verifies it."""
    path = folder / "signing.pem"
    if path.exists():
        known = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(known, Ed25519PrivateKey), f"{path} is not of this program"
        return known
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(0o600, exist_ok=False)
    path.write_bytes(pem)
    (folder / "jwks.json").write_text(key_set(key))
    return key


def main() -> None:
    """Print a token for whom the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("subject", help="whose token it is")
    parser.add_argument("--days", type=float, default=365, help="how long it holds")
    arguments = parser.parse_args()
    print(token(signing_key(Path()), arguments.subject, arguments.days))


if __name__ == "__main__":
    main()
