"""When certificates end: those that servers show, and those that lie in files."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from cryptography import x509

from prober.metrics import ProberMetrics


__all__ = ["expiry_of", "show_expiries"]

_SECONDS = 5.0


async def expiry_of(endpoint: str) -> float:
    """
    Return when the certificate at *endpoint*, ``host:port`` or a path, ends.

    Raises:
        OSError: If it cannot be had.
        ValueError: If it is no certificate.
    """
    if endpoint.startswith(("/", ".")):
        pem = Path(endpoint).read_bytes()
        certificates = x509.load_pem_x509_certificates(pem)
    else:
        certificates = [x509.load_der_x509_certificate(await _shown(endpoint))]
    return min(c.not_valid_after_utc.timestamp() for c in certificates)


async def _shown(endpoint: str) -> bytes:
    host, _, port = endpoint.rpartition(":")
    # One that has ended, or is not trusted, is to be seen too; nothing is sent there.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(_SECONDS):
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not shown:
            raise ValueError("no certificate was shown")
        return bytes(shown)
    finally:
        writer.transport.abort()


async def show_expiries(endpoints: tuple[str, ...], metrics: ProberMetrics) -> None:
    """Look at each of *endpoints* once."""
    for endpoint in endpoints:
        try:
            ends = await expiry_of(endpoint)
        except (OSError, ValueError):
            ends = 0.0
        metrics.certificate.labels(endpoint).set(ends)
