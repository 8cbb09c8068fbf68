"""Speaks to a registry: pushes, reads back, tags, attaches, copies and pulls, byte for byte. No other room does.

The protocol is the OCI distribution specification: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
Every digest is computed from the bytes that the registry served.
"""

from drydock.oci.registry.client import (
    ATTEMPTS,
    HOST_VARIABLE,
    PASSWORD_VARIABLE,
    SOURCE_VARIABLES,
    TIMEOUT_SECONDS,
    USER_VARIABLE,
    Credentials,
    RetryPolicy,
    base_url,
    credentials,
    is_local,
    login_for,
    require_answer,
    source_credentials,
)
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.referrers import Attachment
from drydock.oci.registry.repository import Repository, ignore_retries, open_repository
from drydock.oci.registry.tls import CA_VARIABLE, ca_certificates, tls_context

__all__ = [
    "ATTEMPTS",
    "CA_VARIABLE",
    "HOST_VARIABLE",
    "PASSWORD_VARIABLE",
    "SOURCE_VARIABLES",
    "TIMEOUT_SECONDS",
    "USER_VARIABLE",
    "Attachment",
    "Credentials",
    "Descriptor",
    "Manifest",
    "Repository",
    "RetryPolicy",
    "base_url",
    "ca_certificates",
    "credentials",
    "ignore_retries",
    "is_local",
    "login_for",
    "open_repository",
    "require_answer",
    "source_credentials",
    "tls_context",
]
