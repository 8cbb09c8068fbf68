"""A private certificate authority, and servers on this machine under names that are not this machine's."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "registry.example"


def authority(directory: Path, *names: str, days: int = 30) -> tuple[Path, ssl.SSLContext]:
    """The certificate of an authority of its own, in PEM, and what serves these names with a certificate of its.

    A name may be an IP address; without any it is NAME. Negative `days` make a certificate that has run out.
    """
    key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of a test")])
    own = _certificate(subject, subject, key, key, days=30).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    server = _certificate(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of a test")]), subject, server_key, key, days=days
    ).add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names or (NAME,)]), critical=False)
    ca_path, chain_path, key_path = (directory / file for file in ("ca.pem", "server.pem", "server.key"))
    ca_path.write_bytes(own.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    chain_path.write_bytes(server.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain_path, key_path)
    return ca_path, context


@contextmanager
def named(*names: str) -> Iterator[None]:
    """Let these names lead to 127.0.0.1; to a client they are not this machine."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *given: Any, **more: Any) -> Any:  # noqa: ANN401 - as the original has it
        name = host.decode() if isinstance(host, bytes) else host
        return look_up("127.0.0.1" if name in (names or (NAME,)) else host, *given, **more)

    with mock.patch("socket.getaddrinfo", getaddrinfo):
        yield


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
