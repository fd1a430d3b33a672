"""A real nats-server as in production: TLS, and an nkey for each identity."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mesh import free_block

from feedmesh.credentials import new_seed, public_key
from feedmesh.permissions import (
    IDENTITIES,
    accounts_config,
    inbox_prefix,
    key_variable,
)


_DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates; :attr:`file` is what those trust who trust it."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.crt"
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key.public_key(), _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .add_extension(usage, True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *hosts: str, valid: dt.timedelta = _DAY
    ) -> tuple[Path, Path]:
        """Return certificate and key for 127.0.0.1 and *hosts*, *valid* from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName(
            [
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                *(x509.DNSName(host) for host in hosts),
            ]
        )
        certificate = (
            self._builder(subject, key.public_key(), valid)
            .add_extension(names, False)
            .sign(self._key, hashes.SHA256())
        )
        paths = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * _DAY)
            .not_valid_after(now + valid)
        )


class Keys:
    """A fresh nkey for each identity."""

    def __init__(self) -> None:
        self.seeds = {name: new_seed() for name in IDENTITIES}

    def public(self) -> dict[str, str]:
        """Return what the servers are given: public keys, by variable."""
        return {
            key_variable(name): public_key(seed) for name, seed in self.seeds.items()
        }


class SecuredNats:
    """
    A server that only lets identities in, by TLS.

    Attributes:
        url: Where clients find it.
        authority: Who signed its certificate.
        keys: What it lets in, from its next start on.
    """

    def __init__(self, folder: Path, valid: dt.timedelta = _DAY) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_block(1)
        self.url = f"nats://127.0.0.1:{self.port}"
        # Authorities of one name would be taken for one another.
        self.authority = Authority(folder, folder.name)
        self.keys = Keys()
        self._server: Process | None = None
        certificate, key = self.authority.issue("server", valid=valid)
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n'
            f'jetstream {{ store_dir: "{folder}/data", sync_interval: always }}\n'
            + accounts_config()
        )

    def identity(self, name: str) -> dict[str, str]:
        """Return the settings with which a service is *name*."""
        return {
            "NATS_URL": self.url,
            "NATS_NKEY": self.keys.seeds[name],
            "NATS_CA_FILE": str(self.authority.file),
            "NATS_INBOX": inbox_prefix(name),
        }

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self._server = await start_server(self._config, self.keys.public())
        await listening(self.port, self._server)

    async def stop(self) -> None:
        """End it, as a crash would."""
        if self._server is not None:
            if self._server.returncode is None:
                self._server.kill()
            await self._server.wait()
            self._server = None


@asynccontextmanager
async def run_secured_nats(
    folder: Path, *, valid: dt.timedelta = _DAY
) -> AsyncIterator[SecuredNats]:
    """Run a server while the context is open; its certificate is *valid* from now."""
    server = SecuredNats(folder, valid)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def start_server(config: Path, env: Mapping[str, str]) -> Process:
    """Start a server with *config*."""
    return await create_subprocess_exec(
        str(Path(sys.executable).parent / "nats-server"),
        *("--config", str(config)),
        env=dict(env),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )


async def listening(port: int, server: Process) -> None:
    """Wait until *server* listens on *port*."""
    async with asyncio.timeout(20):
        while server.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise AssertionError("the server ended; its configuration is wrong")
