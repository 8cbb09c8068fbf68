"""What is done with an image that is published: verify, promote, rescan, reproduce. Each reads as its own order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from packaging.utils import canonicalize_name

from drydock import checks
from drydock.checks import findings, verification
from drydock.checks.verification import Evidence
from drydock.errors import DrydockError, RegistryError, UsageError
from drydock.oci import archive as image
from drydock.oci import diff, diff_summary, registry, tags
from drydock.oci.reference import Reference
from drydock.oci.registry import Descriptor, Manifest, Repository, tagging
from drydock.oci.tags import Name
from drydock.pipeline.plan import SOURCE_LABEL, VERSION_LABEL, Plan
from drydock.pipeline.recorder import Tell, told
from drydock.pipeline.run import Connect
from drydock.pipeline.threads import run_in_thread
from drydock.report import Assessment, CheckResult, Disposition, Release, Verdict, files, units
from drydock.tools import attestations, cosign, revision, trivy
from drydock.tools.cosign import Identity, Verified

LEFT_SHOWN = 10


async def verify(run: Plan, asked: Reference, connect: Connect, tell: Tell) -> Assessment:
    """Judge one image by what its builders signed."""
    run = _reading(run, asked.repository, run.policy.image.repository)
    return (await _verified(run, asked, _distinct(asked.tag), connect, tell)).assessment


@dataclass(frozen=True)
class _Judgement:
    """An assessment, the digest that it is about, and all that anybody trusted signed about that."""

    assessment: Assessment
    digest: str
    trusted: Verified


async def _verified(run: Plan, asked: Reference, named: tuple[str, ...], connect: Connect, tell: Tell) -> _Judgement:
    """Judge an image; each of the tags that are `named` has to fit it."""
    async with registry.opened(asked.repository, run.source_login, tell.notes) as repository:
        digest = await _digest(repository, asked)
        labels = await _labels(repository, digest)
        if isinstance(run.trust, Identity):
            await _require_an_identity(repository, asked, digest)
    async with connect(run, tell.notes) as stages:
        verified = trusted = await told(tell, "verify", stages.verify(asked.repository, digest, run.trust))
        builder = verification.builder(verified, named)
        if isinstance(run.trust, Identity) and re.fullmatch(run.trust.regexp, builder):
            # A statement says itself who built the image: only what that builder's own certificate signed may count.
            alone = cosign.exactly(builder, run.trust.issuer)
            verified = await told(tell, "builder", stages.verify(asked.repository, digest, alone))
    evidence = Evidence(digest, labels, verified, named)
    rows = verification.judge(evidence, run.policy, trust=run.trust, source=run.source, now=datetime.now(UTC))
    against = sum(row.verdict is Verdict.FAIL for row in rows)
    name = Reference(asked.repository, asked.tag, digest)
    conclusion = f"refused    {against} of {len(rows)} lines fail for {name}" if against else f"verified   {name}"
    return _Judgement(Assessment(checks=rows, conclusion=conclusion), digest, trusted)


async def _require_an_identity(repository: Repository, asked: Reference, digest: str) -> None:
    """Raise UsageError if keys signed all that is signed of an image: no identity can be verified then."""
    attachments = repository.attachments(digest, (cosign.BUNDLE_MEDIA_TYPE,))
    bundles = [bundle async for each in attachments if (bundle := cosign.bundle(each.document))]
    if bundles and all(bundle.by_key for bundle in bundles):
        raise UsageError(
            f"{asked} was signed with a key, and no public key was given to verify it",
            likely_cause="it was released on a laptop, and not by a workflow of GitHub Actions",
            next_step=(
                'give the public key of whoever released it: --key FILE, or key = "cosign.pub" under [trust] in the'
                " policy"
            ),
        )


async def promote(run: Plan, source: Reference, target: Reference, connect: Connect, tell: Tell) -> Assessment:
    """Verify an image, then copy it and what verified of it, byte for byte, and tag it last; nothing is rebuilt."""
    run = _reading(run, source.repository, target.repository)
    tag = target.tag or source.tag
    name = revision.named(tag, where="the promoted tag") if tag else Name(tag="")
    # Whoever promotes chooses another name than a version's or a commit's, so there is nothing to compare it with.
    promised = name.tag if name.is_version or name.tag.startswith(tags.BY_COMMIT) else ""
    judged = await _verified(run, source, _distinct(source.tag, promised), connect, tell)
    assessment, digest = judged.assessment, judged.digest
    if assessment.exit_code:
        return assessment
    host = target.repository.partition("/")[0]
    if any(row.name == verification.WORLD and row.verdict is Verdict.WARN for row in assessment.checks) and (
        not registry.is_local(host)
    ):
        raise UsageError(
            f"{source} was built on local base images and cannot leave this machine",
            likely_cause="it was built where no container registry is reached",
            next_step="let a machine with the official images release it, then promote that",
        )
    async with (
        registry.opened(source.repository, run.source_login, tell.notes) as here,
        registry.opened(target.repository, run.login, tell.notes) as there,
    ):
        copied, left = await told(tell, "copy", _copy(here, there, digest, judged.trusted))
        listed = {found.digest for found in await there.referrers(digest)}
        if not listed.issuperset(copied) or await there.digest(digest) != digest:
            raise RegistryError(
                f"{target.repository} does not list all that belongs to {digest}",
                likely_cause="something else writes to the list of its referrers at the same time",
                next_step="run again; what is there already is not sent twice",
            )
        unmoved: Mapping[str, str] = {}
        if name.tag:
            moving_tags = run.policy.image.moving_tags
            named = await told(tell, "tag", tagging.name(there, digest, name, moving_tags=moving_tags))
            unmoved = named.unmoved
    promoted = Reference(target.repository, name.tag, digest)
    rows = (*assessment.checks, _copy_row(copied, left), *checks.unmoved(unmoved))
    return Assessment(checks=rows, conclusion=f"promoted   {promoted}")


async def _copy(
    here: Repository, there: Repository, digest: str, trusted: Verified
) -> tuple[set[str], tuple[Descriptor, ...]]:
    """Copy an image and what was verified of it; the digests of the latter, and what was left.

    Raises RegistryError if something that verified is not there any more.
    """
    verified: list[Manifest] = []
    left: list[Descriptor] = []
    missing = set(trusted.envelopes)
    async with aclosing(here.attachments(digest, (cosign.BUNDLE_MEDIA_TYPE, cosign.SBOM_MEDIA_TYPE))) as attachments:
        async for each in attachments:
            bundle = cosign.bundle(each.document)
            envelope = bundle.envelope if bundle else ""
            if each.manifest and (envelope in trusted.envelopes or attestations.is_sbom(each.document, trusted)):
                verified.append(each.manifest)
                missing.discard(envelope)
            else:
                left.append(each.entry)
    if missing:
        raise RegistryError(
            f"{here.where} does not serve all that verified of {digest}",
            likely_cause="something else wrote to the list of its referrers since, or made it too long to be read",
            next_step="look at what refers to the image (oras discover), remove what is not yours, then run again",
        )
    await here.copy(digest, there, verified)
    return {manifest.digest for manifest in verified}, tuple(left)


def _copy_row(copied: set[str], left: Sequence[Descriptor]) -> CheckResult:
    """How much of what refers to an image was copied; a warning names the rest."""
    because = "no trusted signer vouches for it"
    details = [f"left {each.digest}, {each.artifact_type[:100] or 'of no type'}: {because}" for each in left]
    if len(details) > LEFT_SHOWN:
        details = [*details[:LEFT_SHOWN], f"left {len(details) - LEFT_SHOWN} more"]
    return CheckResult(
        name="copied",
        measured=f"1 image, {len(copied)} of {len(copied) + len(left)} referrers",
        limit="",
        verdict=Verdict.WARN if left else Verdict.PASS,
        details=tuple(details),
    )


async def rescan(run: Plan, releases: Sequence[Release], connect: Connect, tell: Tell) -> Assessment:
    """Scan each released image with today's advisories, and judge its findings by today's policy.

    What is found against it is new: it had none when it was published. One that cannot be scanned keeps no other from
    its line.
    """
    rows: list[CheckResult] = []
    broken_exit_code = 0
    for record in releases:
        try:
            rows.append(await told(tell, f"rescan {record.digest[7:15]}", _rescanned(run, record, connect, tell)))
        except DrydockError as error:
            broken_exit_code = broken_exit_code or error.exit_code
            why = (error.message, error.next_step, *error.log.splitlines())
            rows.append(CheckResult(name=record.image, measured="", limit="", verdict=Verdict.NOT_RUN, details=why))
    counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in (Verdict.FAIL, Verdict.NOT_RUN)}
    images = f"{len(rows)} image{'' if len(rows) == 1 else 's'}"
    against = f"; {counts[Verdict.FAIL]} should be released anew" if counts[Verdict.FAIL] else ""
    unseen = f"; {counts[Verdict.NOT_RUN]} could not be scanned" if counts[Verdict.NOT_RUN] else ""
    conclusion = f"rescanned  {images}{against}{unseen}"
    return Assessment(checks=tuple(rows), conclusion=conclusion, broken_exit_code=broken_exit_code)


async def _rescanned(run: Plan, record: Release, connect: Connect, tell: Tell) -> CheckResult:
    repository = record.image.partition("@")[0].rpartition(":")[0]
    run = _reading(run, repository, run.policy.image.repository)
    python: dict[str, str] = {
        canonicalize_name(each.name): each.version for each in record.packages if each.kind == "python"
    }
    directory = run.report_dir / record.digest.replace(":", "-")
    files.ensure_dir(directory)
    path = directory / "image.tar"
    async with registry.opened(repository, run.source_login, tell.notes) as released:
        await released.pull(record.digest, path)
    facts = await run_in_thread(lambda is_cancelled: image.read_image(path, is_cancelled=is_cancelled))
    async with connect(replace(run, report_dir=directory, locked_packages=python), tell.notes) as stages:
        scan = await trivy.covered(await stages.scan(await stages.hold(path)), facts)
    path.unlink()
    new = [
        findings.in_words(judged)
        for judged in (findings.judge(scan, run.policy) if scan else ())
        if judged.disposition is Disposition.REJECTS
    ]
    # Today's scanner may see one that the release's own did not.
    new += [
        findings.secret_in_words(secret)
        for secret in (findings.judge_secrets(scan, run.policy) if scan else ())
        if secret.disposition is Disposition.REJECTS
    ]
    return CheckResult(
        name=record.image,
        measured=f"{len(new)} new",
        limit="0",
        verdict=Verdict.FAIL if new else Verdict.PASS,
        details=tuple(new),
    )


async def reproduce(run: Plan, digest: str, record: Release | None, connect: Connect, tell: Tell) -> Assessment:
    """Build the same commit again and compare digests; where they differ, say which layers and files do."""
    repository_name = run.policy.image.repository
    if record:
        repository_name = record.image.partition("@")[0].rpartition(":")[0]
    run = _reading(run, repository_name, run.policy.image.repository)
    async with registry.opened(repository_name, run.source_login, tell.notes) as repository:
        labels = await _labels(repository, await _digest(repository, Reference(repository_name, digest=digest)))
        released_from = labels.get(verification.REVISION_LABEL, "")
        if released_from != run.revision.name:
            # A label may say anything, and only a commit is something to type.
            is_commit = re.fullmatch("[0-9a-f]{40,64}", released_from)
            raise UsageError(
                f"{digest} was built from {units.printable(released_from) or 'no commit'},"
                f" and this checkout is {run.revision.name}",
                likely_cause="another commit is checked out, or the work tree holds more than its commit",
                next_step=f"git checkout {released_from}, then run again" if is_commit else "name another image",
            )
        run = _named_alike(run, labels)
        async with connect(run, tell.notes) as stages:
            model = await told(tell, "train", stages.train())
            archive = await told(tell, "build", stages.build(model))
            await stages.recheck_commit()
        built = await run_in_thread(lambda is_cancelled: image.read_image(archive.path, is_cancelled=is_cancelled))
        if built.manifest_digest == digest:
            row = CheckResult(name="digest", measured=digest, limit="", verdict=Verdict.PASS)
            return Assessment(checks=(row,), conclusion=f"reproduced {repository_name}@{digest}")
        path = run.report_dir / "released.tar"
        await told(tell, "pull", repository.pull(digest, path))
    differences = await run_in_thread(partial(diff.between, path, archive.path))
    path.unlink()
    details = tuple(diff_summary.summarize(differences))
    if record and record.pinned_images != {"builder": run.images.builder, "base": run.images.base}:
        details = ("the base images are not those of the release", *details)
    row = CheckResult(
        name="digest", measured=built.manifest_digest, limit=digest, verdict=Verdict.FAIL, details=details
    )
    return Assessment(
        checks=(row,), conclusion=f"differs    {repository_name}@{digest} cannot be had from this commit here"
    )


def _distinct(*names: str) -> tuple[str, ...]:
    """Those tags that there are, each once."""
    return tuple(dict.fromkeys(filter(None, names)))


def _reading(run: Plan, repository: str, written: str) -> Plan:
    """The plan with the credentials for `repository` and for the one that is `written` to; no host gets another's.

    Raises UsageError if the source's own credentials are those of another host.
    """
    login = registry.login_for(repository, run.source_login, run.login)
    if run.source_login and not login:
        host, variables = repository.partition("/")[0], " and ".join(registry.SOURCE_VARIABLES[:2])
        raise UsageError(
            f"{variables} are those of {run.source_login.host}, and not of {host}",
            likely_cause="they were set for another image",
            next_step=(
                f"set {registry.SOURCE_VARIABLES[2]}={host} if they are its credentials, else unset all three; "
                "then run again"
            ),
        )
    return replace(run, source_login=login, login=registry.login_for(written, run.login, run.source_login))


def _named_alike(run: Plan, labels: Mapping[str, str]) -> Plan:
    """The plan with the version and the source's address of a released image: a commit does not know either."""
    version, source_url = labels.get(VERSION_LABEL, ""), labels.get(SOURCE_LABEL, "")
    name = Name(version) if tags.is_version(version) else run.name
    return replace(run, name=name, revision=run.revision.model_copy(update={"source_url": source_url}))


async def _digest(repository: Repository, asked: Reference) -> str:
    found = await repository.digest(asked.digest or asked.tag)
    if found and asked.digest and asked.tag and await repository.digest(asked.tag) != found:
        raise RegistryError(
            f"{asked.repository}:{asked.tag} serves another image than {asked.digest}",
            likely_cause="the tag has moved on since somebody wrote both down",
            next_step="name the image by its digest alone, or find out who moved the tag",
        )
    if found is None:
        raise RegistryError(
            f"there is no {asked}",
            likely_cause="it was never pushed, or its tag or name is misspelt",
            next_step="look it up in the registry; release.json has the digest of the last one that was published",
        )
    return found


async def _labels(repository: Repository, digest: str) -> dict[str, str]:
    """The labels of the image's configuration, which its digest vouches for."""
    manifest = await repository.manifest(digest)
    try:
        config = json.loads(
            await repository.blob(json.loads(manifest.content if manifest else b"")["config"]["digest"])
        )
        labels = (config.get("config") or {}).get("Labels") or {}
        return {str(name): str(value) for name, value in labels.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{repository.where}@{digest} is no image of one platform",
            likely_cause="it is an index of several, or something other than an image",
            next_step="name the manifest of one platform by its digest",
        ) from error
