"""Images and policies that are broken in one way each, and the one gate that has to say so.

A mutant is a project with a few edits: in the image in miniature where any image will do, in the shipped one where the
model or its server is what is broken. It is pushed like any other, so a mutant that survives is in the registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.engine.conftest import copied, in_miniature
from tests.integration.engine.project import REGISTRY, Finished, Project

PUBLISHED = "published"
USER = "USER 10001:10001"
TOKEN = "ghp_" + "A1b2C3d4E5f6" * 3
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()

ANSWERS = "answers /predict as trained"
NON_ROOT = "runs as non-root"
SECRETS = "secrets in the image"
SEVERE = "HIGH or CRITICAL"
BLIND = "coverage broke (exit code 5)"


@dataclass(frozen=True)
class Edit:
    """One thing that is broken: in `file`, `old` becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A broken project: which gate catches it, and words that only its own reason has."""

    name: str
    gate: str
    says: str
    edits: tuple[Edit, ...]
    shipped: bool = False
    says_too: tuple[str, ...] = ()
    # With an unbroken image that was published before, in a repository of its own.
    compared: bool = False

    def unsaid(self, reason: str) -> list[str]:
        """Those of its words that a reason does not have."""
        return [words for words in (self.says, *self.says_too) if words not in reason]

    def project(self, root: Path) -> Project:
        """The broken project, in a folder and a repository of its own."""
        project = copied(root) if self.shipped else in_miniature(root)
        for edit in self.edits:
            project.edit(edit.file, edit.old, edit.new)
        if self.compared:
            before = in_miniature(root.with_name(f"{root.name}-before"))
            digest = before.run().report["publication"]["digest"]
            rejecting = f'previous = "{REGISTRY}/{before.repository}@{digest}"\nanswers = "reject"\nschema = "reject"\n'
            project.edit("pipeline.toml", "[limits]", f"[drift]\n{rejecting}\n[limits]")
        return project


def caught_by(finished: Finished) -> str:
    """Every gate that stopped a run: the checks that failed, else the stage that broke, else nothing did."""
    if finished.failed():
        return ", ".join(finished.failed())
    if failures := finished.report.get("failures"):
        return f"{failures[0]['stage']} broke (exit code {finished.exit_code})"
    return PUBLISHED if finished.report.get("publication") else f"nothing, but exit code {finished.exit_code}"


def reason(finished: Finished) -> str:
    """What the gate said."""
    words = [detail for row in finished.report["checks"] if row["verdict"] == "FAIL" for detail in row["details"]]
    words += [f"{row['measured']}" for row in finished.report["checks"] if row["verdict"] == "FAIL"]
    words += [failure["message"] for failure in finished.report["failures"]]
    return "\n".join(words)


def last(instruction: str) -> tuple[Edit, ...]:
    """An instruction before the Dockerfile's user is set, as root."""
    return (Edit("Dockerfile", f"\n{USER}\n", f"\n{instruction}\n{USER}\n"),)


def user(instruction: str) -> tuple[Edit, ...]:
    """Another user, or none."""
    return (Edit("Dockerfile", f"\n{USER}\n", f"\n{instruction}\n"),)


def squashed(instruction: str) -> tuple[Edit, ...]:
    """An instruction whose removals are in no layer: out of several layers Trivy reads what a later one removed."""
    return (
        Edit("Dockerfile", "FROM ${BASE_IMAGE}", "FROM ${BASE_IMAGE} AS whole"),
        *last(f"{instruction}\nFROM scratch\nCOPY --from=whole / /\nENV PATH=/usr/local/bin:/usr/bin"),
    )


def package(name: str, version: str) -> tuple[Edit, ...]:
    """A package as a scanner knows it."""
    folder = f"/usr/local/lib/python3.13/site-packages/{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    return last(f"RUN mkdir {folder} && printf '{metadata}' >{folder}/METADATA")


def policy(section: str, line: str) -> Edit:
    """A line more in a section of the policy."""
    return Edit("pipeline.toml", f"[{section}]\n", f"[{section}]\n{line}\n")


def ignored(finding: str, expires: object) -> Edit:
    """An ignore, in the policy's first lines' place."""
    entry = f'[[ignore]]\nid = "{finding}"\nreason = "none"\nowner = "nobody"\nexpires = {expires}\n\n'
    return Edit("pipeline.toml", "[image]\n", f"{entry}[image]\n")


# Where Trivy's allow rules and patterns do not look unless they are switched off. One image has them all.
HIDDEN = (
    *("app/tests/config.env", "app/test.env", "app/deploy-test.env", "app/example.env", "app/NOTES.md"),
    *("usr/share/app/config.env", "usr/lib/app/config.env", "usr/include/config.env", "usr/lib/gems/config.env"),
    *("usr/local/lib/python3.13/site-packages/app/settings.py", "usr/local/go/config.env", "opt/vendor/app/config.env"),
    *(
        "app/locale/config.env",
        "app/x.dist-info/config.env",
        "opt/yarn-v1.2/config.env",
        "usr/src/wordpress/config.env",
    ),
    *("var/log/anaconda/x.log", "app/node_modules/a/config.js", "app/.git/config", "app/go.mod", "app/go.sum"),
    *("app/package-lock.json", "app/yarn.lock", "app/pnpm-lock.yaml", "app/Pipfile.lock", "app/Gemfile.lock"),
    *(f"app/a.{ending}" for ending in ("jpg", "png", "gif", "doc", "pdf", "bin", "svg", "socket", "deb", "rpm")),
    *(f"app/a.{ending}" for ending in ("zip", "gz", "gzip", "tar", "pyc")),
)
HIDDEN_PICKLE = "app/artifacts/weights.pkl"
PARTS = ((4, "one"), (5, "two"), (6, "three"))
# Of the label that the model says, as one with a threshold has it.
LESS_PROBABLE = '"probabilities": {"small": 0.25, "large": 0.75}'
IMPATIENT = Edit("pipeline.toml", "start_seconds = 60", "start_seconds = 10")

GOOD = (
    Mutant("the image in miniature, unbroken", PUBLISHED, "", ()),
    Mutant("the shipped image, unbroken", PUBLISHED, "", (), shipped=True),
)

MUTANTS = (
    Mutant("USER root", NON_ROOT, "USER root, uid 0", user("USER root")),
    Mutant("USER 0", NON_ROOT, "USER 0, uid 0", user("USER 0")),
    Mutant("USER 0:0", NON_ROOT, "USER 0:0, uid 0", user("USER 0:0")),
    Mutant("no USER", NON_ROOT, "USER not set, uid 0", user("")),
    Mutant(
        "uid 0 under another name",
        NON_ROOT,
        "USER toor, uid 0",
        user("RUN echo toor:x:0:0::/:/bin/sh >>/etc/passwd\nUSER toor"),
    ),
    Mutant(
        "a user by name, which nobody can prove",
        NON_ROOT,
        "USER app, uid 10001",
        user("RUN echo app:x:10001:0::/:/bin/sh >>/etc/passwd\nUSER app"),
    ),
    Mutant(
        "a layer of 210 MB",
        "largest layer",
        "RUN mkdir /data && truncate -s 210MB /data/big (Dockerfile:13): /data 210 MB",
        last("RUN mkdir /data && truncate -s 210MB /data/big"),
    ),
    Mutant(
        "an image of 510 MB",
        "image size",
        "largest: /three",
        # Each of another length: copies of one file would be waste.
        last("\n".join(f"RUN mkdir /{name} && truncate -s 13{number}MB /{name}/big" for number, name in PARTS)),
    ),
    Mutant(
        "135 MB that a later layer removed",
        "wasted space",
        "/big removed 135 MB",
        last("RUN truncate -s 135MB /big\nRUN rm /big"),
    ),
    Mutant(
        "a token in ENV", SECRETS, "github-pat in the image's history or environment", last(f"ENV GITHUB_TOKEN={TOKEN}")
    ),
    Mutant(
        "a token in a file",
        SECRETS,
        "github-pat in /app/config.env",
        last(f"RUN echo 'GITHUB_TOKEN={TOKEN}' >/app/config.env"),
    ),
    Mutant(
        "a token in a file that a later layer removed",
        SECRETS,
        "github-pat in ",
        last(f"RUN echo 'GITHUB_TOKEN={TOKEN}' >/app/config.env\nRUN rm /app/config.env"),
    ),
    Mutant(
        "a token in each place where scanners do not look",
        SECRETS,
        f"github-pat in /{HIDDEN[0]}",
        # Layers before a CMD are those of a base image to Trivy, and it looks for no secret in them.
        last(
            f"RUN for file in {' '.join(HIDDEN)}; do"
            f" mkdir -p /$(dirname $file) && echo 'GITHUB_TOKEN={TOKEN}' >/$file; done"
            # A pickle's first bytes.
            f"\nRUN printf '\\200\\004\\225\\000%s' GITHUB_TOKEN={TOKEN} >/{HIDDEN_PICKLE}"
            '\nCMD ["none"]\nRUN true'
        ),
        says_too=tuple(f"github-pat in /{path}" for path in (*HIDDEN[1:], HIDDEN_PICKLE)),
    ),
    Mutant(
        "a server that only its own container reaches",
        ANSWERS,
        "it listens on port 8000 for its own container only",
        (Edit("service/server.py", 'HOST = "0.0.0.0"', 'HOST = "127.0.0.1"'), IMPATIENT),
    ),
    Mutant(
        "a start that hangs",
        ANSWERS,
        "it was running after 5 s, and did not listen on port 8000",
        (Edit("service/server.py", "http.server.Threading", "while True: pass\nhttp.server.Threading"), IMPATIENT),
    ),
    Mutant(
        "a start that crashes",
        ANSWERS,
        "no licence for this model",
        (
            Edit("service/server.py", "import json\n", 'import json\nraise SystemExit("no licence for this model")\n'),
            IMPATIENT,
        ),
    ),
    Mutant(
        "a start that takes too long",
        "starts in time",
        "or raise limits.ready_seconds",
        (
            Edit("service/server.py", "import json\n", "import json\nimport time\ntime.sleep(2)\n"),
            Edit("pipeline.toml", "ready_seconds = 60", "ready_seconds = 1"),
        ),
    ),
    Mutant(
        "classes in the wrong order",
        ANSWERS,
        "expected versicolor, got virginica",
        (
            Edit(
                "service/model.py",
                "labels, numbers = interface.labels, ",
                "labels, numbers = [interface.labels[0], *reversed(interface.labels[1:])], ",
            ),
        ),
        shipped=True,
    ),
    Mutant(
        "columns in another order",
        ANSWERS,
        "expected ",
        (
            Edit(
                "service/http/parsing.py",
                "= [self._one.decode(body).features]",
                "= [self._one.decode(body).features[::-1]]",
            ),
        ),
        shipped=True,
    ),
    Mutant(
        "a threshold that the server drops",
        ANSWERS,
        "expected small, got large",
        (
            Edit("service/train.py", '"probabilities": {"small": 0.75, "large": 0.25}', LESS_PROBABLE),
            Edit("service/server.py", '{"label": row["label"],', '{"label": max(row[P], key=row[P].get),'),
            Edit("service/server.py", 'HOST = "0.0.0.0"\n', 'HOST = "0.0.0.0"\nP = "probabilities"\n'),
        ),
    ),
    Mutant(
        "a model that is worse than the policy allows",
        "model is good enough",
        "accuracy 0.85, limit >= 0.9",
        (
            Edit("service/train.py", '"accuracy": 1.0', '"accuracy": 0.85'),
            Edit("pipeline.toml", "[limits]", "[quality]\nmin = {accuracy = 0.9}\n\n[limits]"),
        ),
    ),
    Mutant(
        "a model that changed half of the labels",
        "answers as before",
        "golden row 2: large → small",
        (
            Edit(
                "service/train.py",
                '"large", "probabilities": {"small": 0.125, "large": 0.875}',
                '"small", "probabilities": {"small": 0.875, "large": 0.125}',
            ),
        ),
        says_too=("1 of 2 changed, shift 0.38", "shift of a probability: mean 0.38"),
        compared=True,
    ),
    Mutant(
        "a feature that has another name",
        "schema as before",
        "feature added: length",
        (Edit("service/train.py", '"name": "size"', '"name": "length"'),),
        says_too=("feature removed: size",),
        compared=True,
    ),
    Mutant(
        "probabilities that are rounded",
        ANSWERS,
        "expected probabilities {",
        (Edit("service/model.py", "dict(zip(names, row,", "dict(zip(names, [round(each, 1) for each in row],"),),
        shipped=True,
    ),
    Mutant(
        "a server that takes anything",
        "refuses malformed requests",
        "a string for a number: HTTP 200",
        (Edit("service/server.py", "self.answer(400,", "self.answer(200,"),),
    ),
    Mutant(
        "a package with a HIGH",
        SEVERE,
        "CVE-2024-24762 HIGH python-multipart 0.0.6, fixed in 0.0.7",
        package("python-multipart", "0.0.6"),
    ),
    Mutant("a package with a CRITICAL", SEVERE, " CRITICAL ", package("pyyaml", "5.3")),
    Mutant(
        "a HIGH whose ignore expired",
        SEVERE,
        f"its ignore expired on {YESTERDAY} (nobody)",
        (*package("python-multipart", "0.0.6"), ignored("CVE-2024-24762", YESTERDAY)),
    ),
    Mutant(
        "an ignore of nothing",
        "no expired or unused ignores",
        "CVE-2024-24762 matches nothing",
        (
            ignored("CVE-2024-24762", YESTERDAY + timedelta(days=30)),
            policy("image", ""),
            Edit("pipeline.toml", "[limits]", '[scan]\nunused_ignores = "reject"\n\n[limits]'),
        ),
    ),
    Mutant(
        "a security update that waits",
        "no security update pending",
        "libssl3t64 3.5.0-1 → ",
        (
            *last("RUN sed -i '/^Package: libssl3t64$/,/^$/s/^Version: .*/Version: 3.5.0-1/' /var/lib/dpkg/status"),
            Edit("pipeline.toml", "[limits]", '[scan]\npending_updates = "reject"\n\n[limits]'),
        ),
    ),
    Mutant(
        "packages without their dist-info",
        BLIND,
        "the scanner saw 0 of the lock's 1 packages, not tiny",
        squashed("RUN rm -rf /usr/local/lib/python3.13/site-packages/*.dist-info"),
    ),
    Mutant(
        "no os-release",
        BLIND,
        "the scanner saw no operating system and 0 system packages, expected ",
        squashed("RUN rm /etc/os-release /usr/lib/os-release /etc/debian_version"),
    ),
    Mutant(
        "no package database",
        BLIND,
        "the scanner saw debian and 0 system packages, expected at least 1",
        squashed("RUN rm -r /var/lib/dpkg"),
    ),
)
