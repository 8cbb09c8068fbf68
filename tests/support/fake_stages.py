"""The stages of a run without an engine: each returns what the test set, and records its call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from drydock.checks import Approval
from drydock.pipeline.plan import Plan
from drydock.pipeline.previous import PreviousImage
from drydock.report import Archive, Drift, Image, Model, Publication, Report, Scan, Signing, Smoke, Updates
from drydock.tools.cosign import KeyPair, Trust, Verified
from tests.support import examples


@dataclass
class FakeStages:
    """A good image by default; `breaks` has what a stage raises, `interrupted_in` the stage in which Ctrl-C comes."""

    image: Image = field(default_factory=examples.image)
    smoked: Smoke = field(default_factory=examples.smoke)
    scanned: Scan = field(default_factory=examples.scan)
    drift: Drift = field(default_factory=examples.drift)
    updated: Updates = field(default_factory=Updates)
    verified: Verified = field(default_factory=lambda: Verified("no signatures found", {}, {}))
    breaks: dict[str, BaseException] = field(default_factory=dict)
    interrupted_in: str = ""
    interrupt: Callable[[], None] = lambda: None
    plans: list[Plan] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    publication: Publication = field(default_factory=examples.publication)
    approvals: list[Approval] = field(default_factory=list)
    verdicts: list[Report] = field(default_factory=list)
    trusted: list[Trust] = field(default_factory=list)
    trained_to: list[Path] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)
    described: list[tuple[object, ...]] = field(default_factory=list)
    description: str = "model      of a test\n"

    @asynccontextmanager
    async def connect(self, plan: Plan, on_retry: Callable[[str], None] = print) -> AsyncIterator[FakeStages]:
        self.plans.append(plan)
        await self._enter("connect")
        yield self
        self.called.append("disconnect")

    async def check_registry(self) -> None:
        await self._enter("check-registry")

    async def check_signing_key(self) -> None:
        await self._enter("check-signing-key")

    async def generate_key_pair(self, password: str) -> KeyPair:
        self.passwords.append(password)
        await self._enter("generate-key-pair")
        return KeyPair("private", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")

    async def train(self) -> Model:
        await self._enter("train")
        return Model(examples.CONTRACT, None, Path())

    async def train_to(self, directory: Path) -> None:
        self.trained_to.append(directory)
        await self._enter("train")

    async def create_contract(self, model: Path, data: Path, options: Sequence[str]) -> str:
        self.described.append((model, data, options))
        await self._enter("contract")
        return self.description

    async def build(self, model: Model) -> Archive:
        await self._enter("build")
        return examples.archive(Path("image.tar"))

    async def recheck_commit(self) -> None:
        if "commit" in self.breaks:
            raise self.breaks["commit"]

    async def inspect(self, archive: Archive) -> Image:
        await self._enter("inspect")
        return self.image

    async def smoke(self, archive: Archive, model: Model) -> Smoke:
        await self._enter("smoke")
        return self.smoked

    async def find_previous(self) -> PreviousImage:
        await self._enter("find-previous")
        return PreviousImage(reason="the repository has no image before this one")

    async def compare(self, previous: PreviousImage, archive: Archive, model: Model) -> Drift:
        await self._enter("drift")
        return self.drift

    async def scan(self, archive: Archive) -> Scan:
        await self._enter("scan")
        return self.scanned

    async def check_updates(self, archive: Archive) -> Updates:
        await self._enter("pending-updates")
        return self.updated

    async def push(self, approval: Approval) -> None:
        self.approvals.append(approval)
        await self._enter("push")

    async def attest(self, approval: Approval, verdict: Report) -> Signing:
        self.verdicts.append(verdict)
        await self._enter("attest")
        return examples.SIGNED

    async def tag(self, approval: Approval) -> Publication:
        await self._enter("tag")
        return self.publication

    async def import_archive(self, path: Path) -> Archive:
        return examples.archive(path)

    async def verify(self, repository: str, digest: str, trust: Trust) -> Verified:
        self.trusted.append(trust)
        await self._enter("verify")
        return self.verified

    async def _enter(self, stage: str) -> None:
        self.called.append(stage)
        await anyio.sleep(0)
        if stage in self.breaks:
            raise self.breaks[stage]
        if stage == self.interrupted_in:
            self.interrupt()
            await anyio.sleep_forever()


class RecordingListener:
    """Records what a run reports of its progress."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def stage_started(self, stage: str) -> None:
        self.events.append(("started", stage))

    def stage_finished(self, stage: str, duration_seconds: float, *, broken: bool) -> None:
        self.events.append(("broke" if broken else "finished", stage))

    def message(self, sentence: str) -> None:
        self.events.append(("message", sentence))
