"""The manifests as values, and this house's own rules for them: what neither a schema nor kube-score asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
# What the Dockerfile says of itself; test_manifests.py holds both against it.
USER, PORT = 10001, 8000
PROBES = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
# What a server has that was just asked to end: it answers what is in flight.
ENDING_SECONDS = 10


def breaches(documents: list[Document]) -> list[str]:
    """What a rendered set of manifests does against the rules, a line each."""
    specs = [spec for document in documents for spec in pod_specs(document)]
    return [
        *([] if specs else ["nothing here runs the model"]),
        *(line for spec in specs for line in _of_pods(spec)),
        *(line for kind in ("PodDisruptionBudget", "NetworkPolicy") for line in _missing(documents, kind)),
        *(line for document in documents for line in _of_objects(document)),
        *_unnamed_ports(documents, specs),
    ]


def pod_specs(document: Document) -> list[Document]:
    """What the pods that come of a document are like."""
    match document["kind"]:
        case "Deployment":
            return [document["spec"]["template"]["spec"]]
        case "InferenceService":
            return [document["spec"]["predictor"]]
    return []


def labels(document: Document) -> dict[str, str]:
    """The labels of the pods that come of a document: KServe hands on those of the InferenceService."""
    metadata = document["spec"]["template"]["metadata"] if document["kind"] == "Deployment" else document["metadata"]
    return dict(metadata["labels"])


def _missing(documents: list[Document], kind: str) -> Iterator[str]:
    for pods in (document for document in documents if pod_specs(document)):
        selectors = [
            document["spec"].get("selector") or document["spec"].get("podSelector") or {}
            for document in documents
            if document["kind"] == kind
        ]
        if not any(selector.get("matchLabels", {}).items() <= labels(pods).items() for selector in selectors):
            yield f"no {kind} is for the pods"


def _unnamed_ports(documents: list[Document], specs: list[Document]) -> Iterator[str]:
    containers = [container for spec in specs for container in spec["containers"]]
    names = {port["name"] for container in containers for port in container.get("ports", [])}
    asked = [
        port["targetPort"]
        for document in documents
        if document["kind"] == "Service"
        for port in document["spec"]["ports"]
    ]
    asked += [container[probe]["httpGet"]["port"] for container in containers for probe in PROBES if probe in container]
    yield from (f"no port is called {name}" for name in asked if name not in names)


def _of_pods(spec: Document) -> Iterator[str]:
    own = spec.get("securityContext", {})
    if own.get("runAsNonRoot") is not True or own.get("runAsUser") != USER:
        yield f"the pod does not run as {USER}"
    if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "the pod has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod has a token"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"the pod has {name}"
    for volume in spec.get("volumes", []):
        if not volume.get("emptyDir", {}).get("sizeLimit"):
            yield f"volume {volume['name']} is no emptyDir with a limit"
    for container in spec["containers"]:
        yield from _of_container(container)
        waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not waits:
            yield "the last requests find nobody: there is no preStop"
        if spec.get("terminationGracePeriodSeconds", 30) < waits + ENDING_SECONDS:
            yield "the server is killed while it answers"


def _of_container(container: Document) -> Iterator[str]:
    if not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", container["image"]):
        yield f"{container['image']} is not pinned by its digest"
    if [port["containerPort"] for port in container.get("ports", [])] != [PORT]:
        yield f"the container's port is not {PORT}"
    for probe, path in PROBES.items():
        if container.get(probe, {}).get("httpGet", {}).get("path") != path:
            yield f"no {probe} asks {path}"
    own = container.get("securityContext", {})
    if own.get("readOnlyRootFilesystem") is not True:
        yield "the root file system can be written to"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged") is not False:
        yield "the container can get more rights"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "the container keeps a capability"
    # A value of its own would hold instead of the pod's.
    for name in ("runAsUser", "runAsNonRoot", "seccompProfile"):
        if name in own:
            yield f"the container has a {name} of its own"
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}):
        yield "memory has no limit"
    if "cpu" not in resources.get("requests", {}):
        yield "the autoscaler's percentage is of nothing: no CPU is asked for"


def _of_objects(document: Document) -> Iterator[str]:
    spec = document["spec"]
    match document["kind"]:
        case "PodDisruptionBudget":
            # minAvailable lets no node drain as soon as there are no more pods than that.
            if "minAvailable" in spec or spec.get("maxUnavailable") in (None, 0, "0%"):
                yield "the budget lets no node drain"
        case "HorizontalPodAutoscaler" if spec.get("minReplicas", 1) < 2:
            yield "the autoscaler goes below two pods"
        case "InferenceService":
            if spec["predictor"].get("minReplicas", 1) < 2:
                yield "the autoscaler goes below two pods"
            mode = document["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
            if mode != "Standard":
                yield f"KServe's mode is {mode}, and not Standard"
        case "NetworkPolicy":
            if set(spec.get("policyTypes", [])) != {"Ingress", "Egress"} or spec.get("egress"):
                yield "the network policy lets something out"
            if any([port["port"] for port in rule.get("ports", [])] != [PORT] for rule in spec.get("ingress", [])):
                yield f"the network policy lets in more than port {PORT}"
        case "Service" if spec.get("type") != "ClusterIP":
            yield "the service can be reached from outside of the cluster"


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's schema as `kubectl --validate=strict` reads it: no field that it does not name."""
    inside = {name: closed(each) if isinstance(each, dict) else each for name, each in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        inside.setdefault("additionalProperties", False)
    return inside
