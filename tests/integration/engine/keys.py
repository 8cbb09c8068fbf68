"""Key pairs as a user has them, made by the pinned cosign itself."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import anyio

from drydock import stages
from drydock.report import Images
from drydock.stages import signer
from drydock.tools import cosign
from tests.integration.engine.project import REPOSITORY_ROOT
from tests.support import examples


@dataclass(frozen=True)
class KeyPair:
    """The files cosign.key and cosign.pub, and the password of the first."""

    folder: Path
    password: str

    @property
    def public(self) -> Path:
        """Whom to trust."""
        return self.folder / "cosign.pub"

    @property
    def environment(self) -> dict[str, str]:
        """What a run needs to sign with it."""
        return {cosign.KEY_VARIABLE: str(self.folder / "cosign.key"), cosign.PASSWORD_VARIABLE: self.password}


def pinned() -> Images:
    """The images of this world."""
    pins = Path(os.environ.get("DRYDOCK_IMAGES") or REPOSITORY_ROOT / "images.toml")
    return Images.model_validate(tomllib.loads(pins.read_text()))


def made(folder: Path, password: str) -> KeyPair:
    """A new pair in `folder`."""
    images = pinned()

    async def make() -> None:
        async with stages.connect(examples.plan(folder, images=images)):
            cosign.write_key_pair(await signer.generate_key_pair(images.cosign, password), folder)

    anyio.run(make)
    return KeyPair(folder, password)
