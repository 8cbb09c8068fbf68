"""TLS to a registry: which authorities are trusted, and what it means when no TLS comes about."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import certifi

from drydock.errors import RegistryError, UsageError

# The variable that OpenSSL, Go, curl and most tools read: a PEM file with certificates of authorities.
CA_VARIABLE = "SSL_CERT_FILE"
# OpenSSL's codes for a chain that ends in no authority that is trusted: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and its
# like. https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})


def create_tls_context(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the public authorities, and besides them those in the file that SSL_CERT_FILE names.

    Raises UsageError if that file has no certificates.
    """
    return _create_context(environment.get(CA_VARIABLE, ""))


def read_ca_certificates(environment: Mapping[str, str]) -> str:
    """The text of the file that SSL_CERT_FILE names; "" if it is not set.

    Raises UsageError if that file has no certificates.
    """
    path = environment.get(CA_VARIABLE, "")
    _create_context(path)
    return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""


def explain_tls_error(host: str, error: BaseException) -> RegistryError | None:
    """What kept TLS with `host` from coming about, if that is what `error` comes from."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    if not isinstance(cause, ssl.SSLCertVerificationError):
        reason = getattr(cause, "reason", None) or str(cause)
        return RegistryError(
            f"{host} speaks no TLS: {reason.replace('_', ' ').lower()}",
            likely_cause="it is set up for plain HTTP, and only a registry on this machine is asked so",
            next_step="give the registry a certificate, or name the port where it speaks TLS",
        )
    what = f"the certificate of {host} is not trusted: {cause.verify_message}"
    if cause.verify_code in UNKNOWN_AUTHORITY:
        return RegistryError(
            what,
            likely_cause="a private authority issued it, or a proxy on the way shows its own",
            next_step=f"set {CA_VARIABLE} to a PEM file with that authority's certificate, then run again",
        )
    return RegistryError(
        what,
        likely_cause="it has run out, or is the certificate of another name",
        next_step="give the registry a certificate for its name that is still valid, then run again",
    )


# Reading the public authorities takes longer than a request.
@cache
def _create_context(path: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    if path:
        try:
            context.load_verify_locations(cafile=path)
        except OSError as error:  # which an SSLError is
            raise UsageError(
                f"{CA_VARIABLE} names no certificates: {path}: {error.strerror or error}",
                likely_cause="it is another file, or one in the binary form DER",
                next_step=f"set {CA_VARIABLE} to a PEM file: it has lines with BEGIN CERTIFICATE",
            ) from error
    return context
