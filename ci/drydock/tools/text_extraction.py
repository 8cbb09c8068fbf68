"""What Trivy looks for no secret in: binary files, and layers that it takes for a base image's. As text, for Trivy.

A binary file becomes the text that is in it, as `strings` shows it. Machine code is left out: it is much of an image,
and if it holds a token, that was in a source, which is no part of the image. What is compressed shows nothing.
https://github.com/aquasecurity/trivy/blob/v0.74.0/pkg/fanal/analyzer/secret/secret.go
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from drydock.oci.archive import open_archive
from drydock.oci.layers import MAX_UNPACKED_BYTES, Budget, iter_layer
from drydock.oci.layout import clean_path

HEAD_BYTES = 300
ELF = b"\x7fELF"
# Trivy reads the text in these by itself.
BYTECODE = ".pyc"
# Its own rule for what is binary: https://github.com/aquasecurity/trivy/blob/v0.74.0/pkg/fanal/utils/utils.go
CONTROL = re.compile(rb"[\x00-\x06\x0b\x0e-\x1a\x1c-\x1f\x7f]")
# The shortest text that is worth a line; no token is shorter. UTF-16 has a zero after each letter.
TEXT = re.compile(rb"[\t\x20-\x7e]{12,}|(?:[\t\x20-\x7e]\x00){12,}")
BLOCK_BYTES = 1024 * 1024
# Of the block before, for a text that goes on in the next one.
OVERLAP_BYTES = 4096
CMD = ("CMD", "/bin/sh -c #(nop)  CMD")


def extract_texts(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_UNPACKED_BYTES,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """Write what Trivy does not look into as text files in `folder`; the path in the image by each file's name.

    Raises what `archive.read_image` raises.
    """
    paths: dict[str, str] = {}
    with open_archive(archive) as layout:
        _, manifest, config = layout.read_image()
        budget = Budget(max_bytes, is_cancelled)
        base_layers = count_base_layers(config)
        for number, layer in enumerate(manifest["layers"]):
            for tar, member in iter_layer(layout, layer["digest"], budget):
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                path = clean_path(member.name)
                texts = _iter_text(path, content, is_looked_into=number >= base_layers)
                if first := next(texts, b""):
                    name = f"{len(paths)}.txt"
                    paths[name] = path
                    with (folder / name).open("wb") as file:
                        file.write(first)
                        file.writelines(texts)
    return paths


def count_base_layers(config: dict[str, Any]) -> int:
    """How many layers Trivy takes for those of a base image: all up to the last CMD that a layer comes after.

    https://github.com/aquasecurity/trivy/blob/v0.74.0/pkg/fanal/image/image.go
    """
    history = config.get("history") or []
    layers_after = 0
    for number in reversed(range(len(history))):
        if not history[number].get("empty_layer"):
            layers_after += 1
        elif layers_after and str(history[number].get("created_by", "")).startswith(CMD):
            return sum(not entry.get("empty_layer") for entry in history[:number])
    return 0


def _iter_text(path: str, content: IO[bytes], *, is_looked_into: bool) -> Iterator[bytes]:
    """The text of a file that Trivy does not look into, in lines; nothing of other files."""
    block = content.read(BLOCK_BYTES)
    is_binary = CONTROL.search(block[:HEAD_BYTES]) is not None
    if block.startswith(ELF) or (is_looked_into and (not is_binary or path.endswith(BYTECODE))):
        return
    while block:
        following = content.read(BLOCK_BYTES)
        if is_binary:
            for found in TEXT.finditer(block):
                yield found[0].replace(b"\0", b"") + b"\n"
            # A text may be cut at the block's end: it is said once more with what follows.
            block = block[-OVERLAP_BYTES:] + following if following else b""
        else:
            yield block
            block = following
