"""What goes wrong at a registry: one fault at a time, the outcome that a user sees, and what the registry then has."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio

from drydock.oci import registry
from drydock.oci.registry import Credentials, RetryPolicy
from tests.integration.registry import network, program, proxy
from tests.integration.registry.proxy import ALWAYS, Exchange, Rule
from tests.integration.registry.world import VERSION, Outcome, World, run

MOVED = {"1": "ours", "1.2": "ours", "1.2.3": "ours"}
MANIFEST = r"/manifests/sha256:"
TAG = r"/manifests/1\.2\.3$"
UPLOAD = r"/blobs/uploads/."
BLOB = r"/blobs/sha256:"


@dataclass(frozen=True)
class Fault:
    """A fault: which row of the matrix it is, what breaks (`rules` or `work`), and what must come of it.

    `exit_codes` are those of all runs that took part; `says` are words that only this outcome has; `tags` is which
    image each tag serves at the end, and `there` whose manifests the registry has.
    """

    row: int
    name: str
    exit_codes: tuple[int, ...]
    retries: int = 0
    says: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    there: tuple[str, ...] = ()
    rules: Callable[[World], list[Rule]] = lambda _: []
    work: Callable[[World], Awaitable[list[Outcome]]] | None = None
    locked: bool = False

    async def outcomes(self, world: World) -> list[Outcome]:
        """Let it happen. A run that was right has what it warned of as its sentence; HOST is the registry in all."""
        world.door.rules += self.rules(world)
        outcomes = await self.work(world) if self.work else [await run(world.publish())]
        sentences = [outcome.what or "; ".join(world.warnings) for outcome in outcomes]
        return [
            replace(outcome, what=sentence.replace(world.door.host, "HOST").replace(f"{world.folder}/", ""))
            for outcome, sentence in zip(outcomes, sentences, strict=True)
        ]


async def wrong_password(world: World) -> list[Outcome]:
    world.login = Credentials(program.USER, "another-s3cret")
    return [await run(world.publish())]


async def right_password(world: World) -> list[Outcome]:
    world.login = Credentials(program.USER, program.PASSWORD)
    return [await run(world.publish())]


async def nobody_there(world: World) -> list[Outcome]:
    world.door.host = program.free_host()
    return [await run(world.publish())]


async def impatiently(world: World) -> list[Outcome]:
    world.retry_policy = RetryPolicy(attempts=2, first_wait_seconds=0.001, commit_seconds=1)
    return [await run(world.publish())]


async def again(world: World) -> list[Outcome]:
    await world.publish(directly=True)
    return [await run(world.publish())]


async def other_first(world: World) -> list[Outcome]:
    await world.publish("another", directly=True)
    return [await run(world.publish())]


async def two_at_once(world: World) -> list[Outcome]:
    found: dict[str, Outcome] = {}

    async def one(name: str) -> None:
        found[name] = await run(world.publish(name))

    async with anyio.create_task_group() as group:
        group.start_soon(one, "ours")
        group.start_soon(one, "another")
    for digest, name in world.names.items():
        world.names[digest] = "the winner's" if found[name].exit_code == 0 else "the loser's"
    return sorted(found.values(), key=lambda outcome: outcome.exit_code)


def both_look_then_both_write(_: World) -> list[Rule]:
    looked, wrote = threading.Barrier(2), threading.Barrier(2)
    return [
        # Each looks before it pushes, and again before it writes the tag.
        Rule("GET", TAG, proxy.then(lambda: looked.wait(60)), times=4),
        Rule("PUT", TAG, proxy.then(lambda: wrote.wait(60)), times=2),
    ]


def newer_comes_in_between(world: World) -> list[Rule]:
    """A newer version is published whole after the older one has seen which versions there are."""
    return [
        Rule("GET", "/tags/list", proxy.then(lambda: anyio.run(lambda: world.publish("newer", "1.2.4", directly=True))))
    ]


async def older_after_newer(world: World) -> list[Outcome]:
    await world.publish("newer", "1.2.4", directly=True)
    return [await run(world.publish())]


async def pre_release(world: World) -> list[Outcome]:
    await world.publish("before", "1.2.2", directly=True)
    return [await run(world.publish(tag="1.2.3-rc.1"))]


def rewritten(tag: str) -> Callable[[World], list[Rule]]:
    """Something lets the tag point to another image, right after our push."""

    def rules(world: World) -> list[Rule]:
        async def rewrite() -> None:
            archive, digest = world.image("another")
            async with registry.open_repository(f"{world.host}/{world.name}", None) as repository:
                await repository.push(archive, digest)
                await repository.tag_unverified(digest, tag)

        return [Rule("PUT", f"/manifests/{tag}$", proxy.then(lambda: anyio.run(rewrite)))]

    return rules


async def under_a_branch(world: World) -> list[Outcome]:
    return [await run(world.publish(tag="main"))]


async def another_archive(world: World) -> list[Outcome]:
    _, approved = world.image()
    swapped, _ = world.image("another")
    return [await run(world.publish_archive(swapped, approved))]


async def another_layer(world: World) -> list[Outcome]:
    """One byte of a layer differs, and its name in the archive is the old one."""
    archive, approved = world.image()
    archive.write_bytes(archive.read_bytes().replace(b"oursours", b"oursOurs", 1))
    return [await run(world.publish_archive(archive, approved))]


def overwritten_in_mid_push(world: World) -> list[Rule]:
    archive, _ = world.image()

    def overwrite() -> None:
        content = archive.read_bytes()
        with archive.open("r+b") as file:
            file.write(content.replace(b"oursours", b"OursOurs"))

    return [Rule("POST", "/blobs/uploads/", proxy.first(overwrite))]


def replaced_in_mid_push(world: World) -> list[Rule]:
    archive, _ = world.image()

    def replace() -> None:
        other, _ = world.image("another")
        other.replace(archive)

    return [Rule("POST", "/blobs/uploads/", proxy.first(replace))]


async def given_archive(world: World) -> list[Outcome]:
    """The archive is written before the rules spoil it, and not again."""
    digest = next(digest for digest, name in world.names.items() if name == "ours")
    return [await run(world.publish_archive(world.folder / "ours.tar", digest))]


async def after_another_version(world: World) -> list[Outcome]:
    await world.publish("before", "1.2.2", directly=True)
    return [await run(world.publish())]


async def without_moving_tags(world: World) -> list[Outcome]:
    world.moving_tags = False
    return await after_another_version(world)


async def twice_over(world: World) -> list[Outcome]:
    return [await run(world.publish()), await run(world.publish())]


async def branch_again(world: World) -> list[Outcome]:
    await world.publish("before", "main", directly=True)
    return await under_a_branch(world)


def another_first_and_tags_stay(world: World) -> list[Rule]:
    """Another run writes the version between our look and our write, and the registry lets no tag move."""
    act = proxy.keeps_tags(412, "PRECONDITION")

    def put(exchange: Exchange) -> None:
        anyio.run(lambda: world.publish("another", directly=True))
        act(exchange)

    return [Rule("PUT", TAG, put)]


async def with_a_document(world: World) -> list[Outcome]:
    """Published with a document attached before it has its tags, as a run does it, and all of it found again."""

    async def work() -> None:
        archive, digest = world.image()
        async with registry.open_repository(f"{world.door.host}/{world.name}", None, world.told.append) as repository:
            await repository.push(archive, digest)
        assert len(await world.attach(digest)) == 1
        await world.publish_archive(archive, digest)

    return [await run(work())]


async def two_documents(world: World) -> list[Outcome]:
    """The list of what is attached has to change."""

    async def work() -> None:
        await with_a_document(world)
        async with registry.open_repository(f"{world.door.host}/{world.name}", None, world.told.append) as repository:
            await repository.attach(world.image()[1], "a/document", b"[]", {})

    return [await run(work())]


async def with_a_named_authority(world: World) -> list[Outcome]:
    with (
        network.authority(world) as (path, context),
        network.environment(SSL_CERT_FILE=str(path)),
        network.elsewhere(world, context),
    ):
        return [await run(world.publish())]


async def with_an_unknown_authority(world: World) -> list[Outcome]:
    with network.authority(world) as (_, context), network.elsewhere(world, context):
        return [await run(world.publish())]


async def without_tls(world: World) -> list[Outcome]:
    with network.environment(), network.elsewhere(world, None):
        return [await run(world.publish())]


async def with_tls_on_this_machine(world: World) -> list[Outcome]:
    with network.authority(world) as (_, context), proxy.before(world.host, tls=context) as door:
        world.door, world.retry_policy = door, RetryPolicy(attempts=1)
        return [await run(world.publish())]


async def where_packets_are_dropped(world: World) -> list[Outcome]:
    world.retry_policy = RetryPolicy(attempts=2, first_wait_seconds=0.001, timeout_seconds=0.2)
    with network.full() as host:
        world.door.host = host
        return [await run(world.publish())]


async def by_the_name_of_docker_hub(world: World) -> list[Outcome]:
    """What is asked of Docker Hub goes through a proxy, which leads it to the registry of the test."""
    with (
        network.authority(world, "registry-1.docker.io") as (path, context),
        proxy.before(world.host, tls=context) as door,
        network.tunnel(door.host) as (address, asked),
        network.environment(SSL_CERT_FILE=str(path), HTTPS_PROXY=address),
    ):
        world.door, world.name = door, f"library/{world.name}"
        door.host = "docker.io"
        outcome = await run(world.publish())
        assert set(asked) == {"registry-1.docker.io:443"}
        return [outcome]


def twice(method: str, path: str, status: int, code: str = "") -> Callable[[World], list[Rule]]:
    return lambda _: [Rule(method, path, proxy.answers(status, code), times=2)]


def once(method: str, path: str, act: proxy.Act) -> Callable[[World], list[Rule]]:
    return lambda _: [Rule(method, path, act)]


def always(method: str, path: str, act: proxy.Act) -> Callable[[World], list[Rule]]:
    return lambda _: [Rule(method, path, act, ALWAYS)]


def forgets_blobs(world: World) -> list[Rule]:
    return [Rule("PUT", MANIFEST, proxy.first(lambda: shutil.rmtree(world.layers)))]


OURS = ("ours",)
STAYED = {"1": "before", "1.2": "before", "1.2.2": "before", "1.2.3": "ours"}
ANY_TAG = r"/manifests/(?!sha256:)"
FAULTS = (
    Fault(25, "wrong password", (6,), says="answered 401 UNAUTHORIZED to GET", work=wrong_password, locked=True),
    Fault(25, "no password where one is needed", (6,), says="answered 401 UNAUTHORIZED to GET", locked=True),
    Fault(
        25,
        "no right to write",
        (6,),
        says="answered 403 DENIED to POST blob",
        rules=always("POST", "/blobs/uploads/$", proxy.answers(403, "DENIED")),
    ),
    Fault(
        25,
        "no such repository, and none is made",
        (6,),
        says="answered 404 NAME_UNKNOWN to POST blob",
        rules=always("POST", "/blobs/uploads/$", proxy.answers(404, "NAME_UNKNOWN")),
    ),
    Fault(25, "the right password", (0,), tags=MOVED, there=OURS, work=right_password, locked=True),
    Fault(26, "500 twice to a blob's upload", (0,), 2, tags=MOVED, there=OURS, rules=twice("PUT", UPLOAD, 500)),
    Fault(26, "503 twice to the manifest", (0,), 2, tags=MOVED, there=OURS, rules=twice("PUT", MANIFEST, 503)),
    Fault(26, "429 twice to the version's tag", (0,), 2, tags=MOVED, there=OURS, rules=twice("PUT", TAG, 429)),
    Fault(
        26,
        "blob unknown twice to the manifest",
        (0,),
        2,
        tags=MOVED,
        there=OURS,
        rules=twice("PUT", MANIFEST, 404, "BLOB_UNKNOWN"),
    ),
    Fault(26, "blobs are lost before the manifest", (0,), 1, tags=MOVED, there=OURS, rules=forgets_blobs),
    Fault(
        26, "not found twice right after the push", (0,), 2, tags=MOVED, there=OURS, rules=twice("GET", MANIFEST, 404)
    ),
    Fault(
        26,
        "503 for ever",
        (6,),
        4,
        "answered 503 to PUT manifest, 5 times",
        rules=always("PUT", MANIFEST, proxy.answers(503)),
    ),
    Fault(27, "nobody listens", (6,), 4, "no registry answers at", work=nobody_there),
    Fault(27, "cut once within a blob", (0,), 1, tags=MOVED, there=OURS, rules=once("PUT", UPLOAD, proxy.cuts(1000))),
    Fault(
        27,
        "cut always within a blob",
        (6,),
        4,
        "cut the connection at PUT blob",
        rules=always("PUT", UPLOAD, proxy.cuts(1000)),
    ),
    Fault(
        27,
        "cut between the blobs and the manifest",
        (6,),
        4,
        "cut the connection at PUT manifest",
        rules=always("PUT", MANIFEST, proxy.cuts()),
    ),
    Fault(
        27,
        "cut between the manifest and its tag",
        (6,),
        4,
        "cut the connection at PUT manifest",
        there=OURS,
        rules=always("PUT", TAG, proxy.cuts()),
    ),
    Fault(
        27,
        "the answer to the tag is lost",
        (0,),
        1,
        tags=MOVED,
        there=OURS,
        rules=once("PUT", TAG, proxy.keeps_the_answer),
    ),
    Fault(
        27,
        "silence",
        (6,),
        1,
        "did not answer PUT manifest within 1 s",
        rules=always("PUT", MANIFEST, proxy.silent),
        work=impatiently,
    ),
    Fault(28, "the version exists, with this digest", (0,), tags=MOVED, there=OURS, work=again),
    Fault(
        28,
        "the version exists, with another digest",
        (7,),
        says="exists, with digest sha256:",
        tags=dict.fromkeys(MOVED, "another"),
        there=("another",),
        work=other_first,
    ),
    Fault(
        29,
        "two push one version at once",
        (0, 7),
        says="exists, with digest sha256:",
        tags=dict.fromkeys(MOVED, "the winner's"),
        there=("the loser's", "the winner's"),
        rules=both_look_then_both_write,
        work=two_at_once,
    ),
    Fault(
        29,
        "an older version after a newer one",
        (0,),
        tags={"1": "newer", "1.2": "newer", "1.2.3": "ours", "1.2.4": "newer"},
        there=("newer", "ours"),
        work=older_after_newer,
    ),
    Fault(
        29,
        "an older version began first and finishes last",
        (0,),
        tags={"1": "newer", "1.2": "newer", "1.2.3": "ours", "1.2.4": "newer"},
        there=("newer", "ours"),
        rules=newer_comes_in_between,
    ),
    Fault(
        29,
        "a pre-release moves nothing",
        (0,),
        tags={"1": "before", "1.2": "before", "1.2.2": "before", "1.2.3-rc.1": "ours"},
        there=("before", "ours"),
        work=pre_release,
    ),
    Fault(
        30,
        "something rewrites the tag after our push",
        (6,),
        says=":main serves sha256:",
        tags={"main": "another"},
        there=("another", "ours"),
        rules=rewritten("main"),
        work=under_a_branch,
    ),
    Fault(
        30,
        "something rewrites the version after our push",
        (7,),
        says="exists, with digest sha256:",
        tags={VERSION: "another"},
        there=("another", "ours"),
        rules=rewritten(VERSION),
    ),
    Fault(
        30,
        "a proxy serves another manifest",
        (6,),
        says="other bytes are served as sha256:",
        there=OURS,
        rules=once("GET", MANIFEST, proxy.rewrites(b'{"schemaVersion": 2}')),
    ),
    Fault(30, "the archive is another one", (6,), says="the archive is not what was approved", work=another_archive),
    Fault(
        30,
        "a layer in the archive is another one",
        (6,),
        says="the archive is not what was approved",
        work=another_layer,
    ),
    Fault(
        30,
        "the archive is overwritten in mid-push",
        (6,),
        says="holds other bytes than sha256:",
        rules=overwritten_in_mid_push,
        work=given_archive,
    ),
    Fault(
        30,
        "the archive is replaced in mid-push",
        (0,),
        tags=MOVED,
        there=OURS,
        rules=replaced_in_mid_push,
        work=given_archive,
    ),
    *(
        Fault(
            42,
            f"no tag moves, as {who} says it",
            (0,),
            says=f"1 stays: HOST answered {status} {code} to PUT manifest",
            tags=STAYED,
            there=("before", "ours"),
            rules=always("PUT", ANY_TAG, proxy.keeps_tags(status, code)),
            work=after_another_version,
        )
        for who, status, code in (
            ("Amazon and Google", 400, "TAG_INVALID"),
            ("Harbor", 412, "PRECONDITION"),
            ("Docker Hub", 403, "DENIED"),
        )
    ),
    Fault(
        42,
        "no tag moves, and none is to",
        (0,),
        tags=STAYED,
        there=("before", "ours"),
        rules=always("PUT", ANY_TAG, proxy.keeps_tags(400, "TAG_INVALID")),
        work=without_moving_tags,
    ),
    Fault(
        42,
        "no tag moves, and the version is there with this digest",
        (0, 0),
        tags=MOVED,
        there=OURS,
        rules=always("PUT", ANY_TAG, proxy.keeps_tags(412, "PRECONDITION")),
        work=twice_over,
    ),
    Fault(
        42,
        "no tag moves, and the version is there with another digest",
        (7,),
        says="exists, with digest sha256:",
        tags=dict.fromkeys(MOVED, "another"),
        there=("another",),
        rules=always("PUT", ANY_TAG, proxy.keeps_tags(412, "PRECONDITION")),
        work=other_first,
    ),
    Fault(
        42,
        "no tag moves, and another run is first",
        (7,),
        says="exists, with digest sha256:",
        tags=dict.fromkeys(MOVED, "another"),
        there=("another", "ours"),
        rules=another_first_and_tags_stay,
    ),
    Fault(
        42,
        "no tag moves, and a branch's is the only one",
        (6,),
        says=":main stays at sha256:",
        tags={"main": "before"},
        there=("before", "ours"),
        rules=always("PUT", ANY_TAG, proxy.keeps_tags(403, "DENIED")),
        work=branch_again,
    ),
    Fault(
        42,
        "no tag moves, and one has the list of referrers",
        (6,),
        says="is attached, but cannot be listed",
        tags={**MOVED, "sha256-…": "?"},
        there=("its document", "ours"),
        rules=always("PUT", ANY_TAG, proxy.keeps_tags(400, "TAG_INVALID")),
        work=two_documents,
    ),
    *(
        Fault(
            42,
            f"{status} to the list of referrers",
            (0,),
            tags={**MOVED, "sha256-…": "?"},
            there=("its document", "ours"),
            rules=always("GET", "/referrers/", proxy.answers(status, "UNSUPPORTED")),
            work=with_a_document,
        )
        for status in (400, 405, 406, 501)
    ),
    Fault(
        42,
        "images only",
        (6,),
        says="takes the image, and nothing that belongs to it",
        there=OURS,
        rules=always("PUT", "/manifests/", proxy.takes_images_only),
        work=with_a_document,
    ),
    Fault(
        42,
        "413 to more than 100,000 bytes at once",
        (0,),
        tags=MOVED,
        there=OURS,
        rules=always("PUT|PATCH", UPLOAD, proxy.takes_bodies_up_to(100_000)),
    ),
    Fault(
        42,
        "413 to whatever is sent",
        (6,),
        says="answered 413 to a layer of 200,000 bytes: sha256:",
        rules=always("PUT|PATCH", UPLOAD, proxy.takes_bodies_up_to(1_000)),
    ),
    Fault(42, "an authority that SSL_CERT_FILE names", (0,), tags=MOVED, there=OURS, work=with_a_named_authority),
    Fault(
        42,
        "an authority that nobody names",
        (6,),
        says="the certificate of HOST is not trusted: unable to get local issuer certificate",
        work=with_an_unknown_authority,
    ),
    Fault(42, "plain HTTP where TLS is asked", (6,), says="HOST speaks no TLS: ", work=without_tls),
    Fault(
        42,
        "TLS on this machine",
        (6,),
        says="HOST speaks TLS, and a registry on this machine is asked without",
        work=with_tls_on_this_machine,
    ),
    Fault(
        42,
        "a host that drops packets",
        (6,),
        1,
        "no registry answers at HOST: no connection within 0.2 s",
        work=where_packets_are_dropped,
    ),
    Fault(42, "Docker Hub by its name", (0,), tags=MOVED, there=OURS, work=by_the_name_of_docker_hub),
    Fault(
        42,
        "a redirect to a host without TLS",
        (6,),
        says="HOST sends us to elsewhere.example without TLS",
        there=OURS,
        rules=always("GET", MANIFEST, proxy.answers(307, headers={"Location": "http://elsewhere.example/manifest"})),
    ),
)


def secrets() -> list[str]:
    """What may be in no output: every password that a fault uses, and its base64."""
    passwords = [program.PASSWORD, "another-s3cret"]
    pairs = [base64.b64encode(f"{program.USER}:{password}".encode()).decode() for password in passwords]
    return [*passwords, *pairs, *(base64.b64encode(password.encode()).decode() for password in passwords)]
