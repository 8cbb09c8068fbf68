"""The comparison with the image before: each thing that can be wrong with that image is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import dagger
import pytest
from dagger._exceptions import QueryErrorValue
from gql import GraphQLRequest

from drydock.errors import RegistryError, ScanError
from drydock.oci.reference import Reference
from drydock.oci.registry.manifest import parse_manifest
from drydock.pipeline.previous import PreviousImage
from drydock.policy import LimitsSection
from drydock.report import Archive, Drift, Finding, Model, Verdict
from drydock.stages import drift
from drydock.stages.session import Session
from tests.integration.registry import archives
from tests.support import examples
from tests.support.http_server import Request, Response, serve

BEFORE, AFTER = "before", "after"
IMAGE = Reference(examples.REPOSITORY, "1.2.2", f"sha256:{'b2' * 32}")
CONTRACT: dict[str, Any] = {"task": "classification", "features": ["width", "height"], "labels": ["small", "large"]}


def manifest(size_bytes: int) -> bytes:
    blob = {"mediaType": archives.LAYER, "digest": f"sha256:{'0' * 64}", "size": size_bytes}
    return archives.encoded({"schemaVersion": 2, "mediaType": archives.IMAGE, "config": blob, "layers": [blob]})


OLD_MANIFEST = manifest(84)


def predict(request: Request, large: float = 5.0, contract: dict[str, Any] | None = CONTRACT) -> Response:
    """A model that calls a width of more than `large` large."""
    if request.path == "/model":
        return Response(200, json.dumps({"contract": contract}).encode()) if contract else Response(404)
    rows = json.loads(request.body)["features"]
    rows = rows if isinstance(rows[0], list) else [rows]
    predictions = [{"label": "large" if row[0] > large else "small"} for row in rows]
    return Response(200, json.dumps({"predictions": predictions}).encode())


@dataclass
class Stand:
    """Two images that the tests start and stop; each test says what is wrong with one of them."""

    folder: Path
    urls: dict[str, str]
    pulled: bytes | RegistryError | None = OLD_MANIFEST
    not_ready: dict[str, str] = field(default_factory=dict)
    in_image: object = None
    findings: tuple[Finding, ...] | Exception = (examples.HIGH,)
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def compare(self, previous: PreviousImage | None = None) -> Drift:
        own = manifest(90)
        archives.write(
            self.folder / "image.tar", {archives.digest_of(own): own}, archives.described(own, archives.IMAGE)
        )
        plan = examples.plan(self.folder)
        model = Model(examples.CONTRACT, None, self.folder)
        before = previous or PreviousImage(IMAGE)
        archive = Archive(path=self.folder / "image.tar", handle=None)
        return anyio.run(drift.compare, Session(print), plan, before, archive, model, None)


@pytest.fixture
def answers() -> dict[str, Callable[[Request], Response]]:
    return {BEFORE: predict, AFTER: predict}


@pytest.fixture
def stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Callable[[Request], Response]]
) -> Iterator[Stand]:
    with ExitStack() as stack:
        urls = {
            name: f"http://{stack.enter_context(serve(lambda request, name=name: answers[name](request)))}"  # type: ignore[misc]
            for name in answers
        }
        stand = Stand(tmp_path, urls)

        class Server:
            def __init__(self, name: str) -> None:
                self.name, self.base_url = name, stand.urls[name]

            @classmethod
            async def create(cls, name: str) -> Server | str:
                return stand.urls[name] if stand.urls[name].startswith("it exposes") else cls(name)

            async def start(self, _: LimitsSection) -> tuple[float | None, str]:
                stand.started.append(self.name)
                return (None, stand.not_ready[self.name]) if self.name in stand.not_ready else (0.1, "")

            async def stop(self) -> None:
                stand.stopped.append(self.name)

        async def pull(*arguments: object) -> object:
            path = arguments[-1]
            assert isinstance(path, Path)
            path.write_text("the image before")
            if isinstance(stand.pulled, Exception):
                raise stand.pulled
            return parse_manifest(stand.pulled, archives.IMAGE) if stand.pulled else None

        async def find_vulnerabilities(*_: object) -> tuple[Finding, ...]:
            if isinstance(stand.findings, Exception):
                raise stand.findings
            return stand.findings

        async def read_contract(_: object) -> object:
            if isinstance(stand.in_image, Exception):
                raise stand.in_image
            return stand.in_image

        async def sync() -> None: ...

        monkeypatch.setattr(drift, "Server", Server)
        monkeypatch.setattr(drift, "_pull", pull)
        monkeypatch.setattr(drift, "_read_contract", read_contract)
        monkeypatch.setattr("drydock.stages.drift.scanner.find_vulnerabilities", find_vulnerabilities)
        monkeypatch.setattr("drydock.stages.drift.host.load_file", lambda _: SimpleNamespace(sync=sync))
        monkeypatch.setattr("drydock.stages.drift.oci_archive.load_container", lambda *_: BEFORE)
        monkeypatch.setattr("drydock.stages.drift.smoke.load_container", lambda *_: AFTER)
        yield stand


def judged(found: Drift) -> list[Verdict]:
    facts = examples.facts()
    facts.drift = found
    rejects = examples.policy(drift={"answers": "reject", "schema": "reject"})
    return [examples.judge(name, facts, rejects).verdict for name in ("answers as before", "schema as before")]


def test_two_images_that_answer_alike(stand: Stand) -> None:
    found = stand.compare()
    assert (found.image, found.digest, found.reason) == (str(IMAGE), IMAGE.digest, "")
    assert found.notes == ("the contract has no reference rows",)
    assert [(group.origin, group.rows, group.labels_changed) for group in found.groups] == [
        ("golden", 2, 0),
        ("between", 1, 0),
    ]
    assert found.compressed_bytes
    assert (found.compressed_bytes.before, found.compressed_bytes.after) == (84, 90)
    assert found.findings_before == (examples.HIGH,)
    assert found.median_seconds
    assert judged(found) == [Verdict.PASS, Verdict.PASS]
    assert sorted(stand.stopped) == [AFTER, BEFORE]
    assert not (stand.folder / "previous.tar").exists()


def test_a_model_that_answers_otherwise_is_rejected(
    stand: Stand, answers: dict[str, Callable[[Request], Response]]
) -> None:
    answers[AFTER] = lambda request: predict(request, large=8.5)
    found = stand.compare()
    assert [(group.rows, group.labels_changed) for group in found.groups] == [(2, 1), (1, 0)]
    assert judged(found) == [Verdict.FAIL, Verdict.PASS]


def test_without_an_image_before_nothing_is_pulled_or_started(stand: Stand) -> None:
    found = stand.compare(PreviousImage(reason="it is the first one"))
    assert found == Drift(reason="it is the first one")
    assert (judged(found), stand.started) == ([Verdict.SKIP, Verdict.SKIP], [])


def test_the_same_image_is_not_started(stand: Stand) -> None:
    stand.pulled = None
    found = stand.compare()
    assert found.reason == f"it is the same image as {IMAGE}"
    assert (judged(found), stand.started) == ([Verdict.SKIP, Verdict.SKIP], [])


def test_an_image_that_cannot_be_pulled_is_a_reason_and_leaves_no_file(stand: Stand) -> None:
    stand.pulled = RegistryError("the registry has no blob", next_step="push it again")
    found = stand.compare()
    assert found.reason == "the image before cannot be pulled: the registry has no blob"
    assert judged(found) == [Verdict.SKIP, Verdict.SKIP]
    assert not (stand.folder / "previous.tar").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [(BEFORE, "the image before did not start: it hangs"), (AFTER, "the new image did not start: it hangs")],
)
def test_an_image_that_does_not_start_is_a_reason(name: str, reason: str, stand: Stand) -> None:
    stand.not_ready[name] = "it hangs"
    found = stand.compare()
    assert found.reason == reason
    assert judged(found) == [Verdict.SKIP, Verdict.SKIP]
    # What is known without an answer is there.
    assert found.compressed_bytes
    assert found.findings_before == (examples.HIGH,)
    assert sorted(stand.stopped) == [AFTER, BEFORE]


def test_an_image_of_many_ports_and_one_that_the_engine_cannot_read_are_reasons(stand: Stand) -> None:
    stand.in_image = dagger.QueryError([QueryErrorValue("no such layer")], GraphQLRequest("{ container { id } }"))
    assert stand.compare().reason == "the image before cannot be started: no such layer"
    stand.urls[BEFORE] = "it exposes the ports 1, 2, and any may answer: EXPOSE 8000, or one"
    assert stand.compare().reason == f"the image before cannot be asked: {stand.urls[BEFORE]}"


def test_an_image_that_answers_500_is_a_reason_and_its_schema_is_judged(
    stand: Stand, answers: dict[str, Callable[[Request], Response]]
) -> None:
    answers[BEFORE] = lambda request: predict(request) if request.path == "/model" else Response(500)
    found = stand.compare()
    assert (found.reason, found.median_seconds) == ("the image before answered HTTP 500", None)
    assert judged(found) == [Verdict.SKIP, Verdict.PASS]


def test_an_image_of_another_task_is_a_reason_and_a_change_of_the_schema(
    stand: Stand, answers: dict[str, Callable[[Request], Response]]
) -> None:
    answers[BEFORE] = lambda request: predict(request, contract={**CONTRACT, "task": "regression", "labels": []})
    found = stand.compare()
    assert found.reason == "the image before has another task: regression, and this one classification"
    assert judged(found) == [Verdict.SKIP, Verdict.FAIL]


def features(*names: str) -> dict[str, Any]:
    return {**CONTRACT, "features": list(names)}


@pytest.mark.parametrize(
    ("names", "rows", "reason"),
    [
        (("height", "width"), [[2.0, 1.0], [9.0, 8.0]], ""),
        (("width",), [[1.0], [8.0]], ""),
        (("width", "height", "depth"), [], "no row has the features of both images"),
    ],
)
def test_an_image_with_other_features_is_asked_for_those_that_it_knows(
    names: Sequence[str],
    rows: list[list[float]],
    reason: str,
    stand: Stand,
    answers: dict[str, Callable[[Request], Response]],
) -> None:
    seen: list[Any] = []

    def answer(request: Request) -> Response:
        if request.path == "/predict":
            seen.append(json.loads(request.body)["features"])
        return predict(request, contract=features(*names))

    answers[BEFORE] = answer
    found = stand.compare()
    assert found.reason == reason
    # All of them in one list, after those that were timed; the last one is between two.
    assert (seen[-1][:-1] if seen else []) == rows
    assert judged(found)[1] is Verdict.FAIL


def test_golden_rows_of_the_image_before_are_asked_as_well(stand: Stand) -> None:
    stand.in_image = {**features("height", "width", "depth"), "golden": [{"features": [4.0, 3.0, 1.0]}]}
    found = stand.compare()
    assert [(group.origin, group.rows) for group in found.groups] == [("golden", 3), ("between", 1)]


def test_an_image_without_a_contract_is_asked_what_the_new_one_takes(
    stand: Stand, answers: dict[str, Callable[[Request], Response]]
) -> None:
    answers[BEFORE] = lambda request: predict(request, contract=None)
    found = stand.compare()
    assert found.schema_changes is None
    assert judged(found) == [Verdict.PASS, Verdict.SKIP]
    stand.in_image = features("width", "height")
    assert judged(stand.compare()) == [Verdict.PASS, Verdict.PASS]


def test_an_image_that_cannot_be_scanned_is_compared_all_the_same(stand: Stand) -> None:
    stand.findings = ScanError("Trivy stopped without a report", next_step="read its log")
    found = stand.compare()
    assert (found.findings_before, judged(found)) == (None, [Verdict.PASS, Verdict.PASS])
