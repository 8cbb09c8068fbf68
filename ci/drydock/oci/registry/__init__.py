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
    choose_login,
    get_base_url,
    is_local,
    read_credentials,
    read_source_credentials,
    require_answer,
)
from drydock.oci.registry.manifest import Descriptor, Manifest
from drydock.oci.registry.referrers import Attachment
from drydock.oci.registry.repository import Repository, ignore_retries, open_repository
from drydock.oci.registry.tls import CA_VARIABLE, create_tls_context, read_ca_certificates

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
    "choose_login",
    "create_tls_context",
    "get_base_url",
    "ignore_retries",
    "is_local",
    "open_repository",
    "read_ca_certificates",
    "read_credentials",
    "read_source_credentials",
    "require_answer",
]
