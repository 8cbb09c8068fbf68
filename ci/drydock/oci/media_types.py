"""The media types, digests and names that the OCI formats share. Imports only the standard library.

Sources: https://github.com/opencontainers/image-spec/blob/v1.1.0/media-types.md for media types and digests,
https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md for whiteouts.
"""

from __future__ import annotations

import hashlib
import re

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY_JSON = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# The end of an image's name that no tag can move.
PINNED = re.compile(rf"@{DIGEST.pattern}$")

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# How tar writes an extended attribute: https://www.gnu.org/software/tar/manual/html_node/Extended-attributes.html
XATTR_PREFIX = "SCHILY.xattr."
WHITEOUT_PREFIX = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"


def compute_digest(content: bytes) -> str:
    """The digest that names these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob_name(digest: str) -> str:
    """The file in an image layout that holds the blob with this digest."""
    return "blobs/" + digest.replace(":", "/")
