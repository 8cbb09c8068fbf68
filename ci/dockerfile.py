"""Finds the lines of a Dockerfile that made an image's layers, so that a finding can point at what to change."""

from __future__ import annotations

import re

from report import Image

# BuildKit's history has a RUN without its mounts, and neither has the spaces of the file.
FLAGS_OF_RUN = re.compile(r"^(RUN)((?: --[a-z]+(?:=\S+)?)+)")


def located(image: Image, text: str) -> Image:
    """The image, its layers with the lines on which their instructions begin in the Dockerfile `text`.

    A layer keeps None where its instruction does not stand there as the image names it: the base's own, one with a
    variable that was filled in, or a here-document.
    """
    lines = instructions(text)
    return image.model_copy(
        update={
            "layers": tuple(
                layer.model_copy(update={"dockerfile_line": lines.get(_plain(layer.created_by))})
                for layer in image.layers
            )
        }
    )


def instructions(text: str) -> dict[str, int]:
    """Each instruction as one line, and the line on which it begins, from 1; of two alike the final stage's."""
    found: dict[str, int] = {}
    begins, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        # A comment may stand within an instruction that goes on below it.
        if not words or words.startswith("#"):
            continue
        begins = begins or number
        parts.append(words.removesuffix("\\"))
        if not words.endswith("\\"):
            found[_plain(" ".join(parts))] = begins
            begins, parts = 0, []
    return found


def _plain(instruction: str) -> str:
    return FLAGS_OF_RUN.sub(r"\1", " ".join(instruction.split()))
