from __future__ import annotations

import pytest

from drydock.errors import UsageError
from drydock.oci import reference
from drydock.oci.reference import Reference

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("127.0.0.1:5000/name", Reference("127.0.0.1:5000/name")),
        ("127.0.0.1:5000/name:1.2.3", Reference("127.0.0.1:5000/name", "1.2.3")),
        (f"ghcr.io/owner/name@{DIGEST}", Reference("ghcr.io/owner/name", digest=DIGEST)),
        (f"ghcr.io/owner/name:1@{DIGEST}", Reference("ghcr.io/owner/name", "1", DIGEST)),
    ],
)
def test_an_image_is_named_as_docker_names_it(words: str, read: Reference) -> None:
    assert reference.parse_reference(words) == read
    assert str(read) == words


@pytest.mark.parametrize(
    "words",
    ["name", "name:1", "ghcr.io/Owner/name", "ghcr.io/name@sha256:12", "ghcr.io/name:", "ghcr.io/name:a b", "", DIGEST],
)
def test_what_names_no_image_says_what_does(words: str) -> None:
    with pytest.raises(UsageError) as refused:
        reference.parse_reference(words)
    assert refused.value.message == f"{words!r} names no image"
