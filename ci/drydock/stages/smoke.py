"""Runs the image: as a service that is asked for predictions, and throw-away, to be asked for its updates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import anyio
import dagger
from dagger import PortForward, ReturnType, dag

from drydock.pipeline.plan import Plan
from drydock.report import Answer, Archive, Contract, Malformed, Smoke, Updates
from drydock.stages import archive as archives
from drydock.stages import session
from drydock.tools import apt as pending
from drydock.tools import dagger_log
from drydock.tools import predict_client as conversation

MODELS = "/models"
STOP_SECONDS = 10


async def smoke(plan: Plan, archive: Archive, contract: Contract, outside: dagger.Directory | None) -> Smoke:
    """Start the image as its users will, ask for every golden row, and note which user it runs as.

    `outside` has a model that is not in the image: it is mounted, and named as a user would name it.
    """
    with session.engine_errors():
        return await _smoke(plan, archive, contract, outside)


async def _smoke(plan: Plan, archive: Archive, contract: Contract, outside: dagger.Directory | None) -> Smoke:
    limits = plan.policy.limits
    container = archives.container(plan, archive)
    if outside:
        container = (
            container.with_mounted_directory(MODELS, outside)
            .with_env_variable("MODEL_URI", f"{MODELS}/{contract.artifact.file}")
            .with_env_variable("MODEL_SHA256", contract.artifact.sha256)
        )
    uid = await _uid(container)
    exposed = await _exposed_ports(container)
    port = conversation.port_of(exposed)
    if port is None:
        numbers = ", ".join(map(str, exposed))
        return Smoke(
            uid=uid,
            ready_seconds=None,
            not_ready=f"it exposes the ports {numbers}, and any may answer: EXPOSE {conversation.DEFAULT_PORT}, or one",
        )
    # The engine's own wait for the port has no end where a container never listens; ours has.
    service = container.with_exposed_port(port, experimental_skip_healthcheck=True).as_service(use_entrypoint=True)
    tunnel = dag.host().tunnel(service, ports=[PortForward(backend=port)])
    ready_seconds: float | None = None
    answers: tuple[Answer, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    not_ready = f"not started within {limits.start_seconds} s"
    base_url = ""
    try:
        with anyio.move_on_after(limits.start_seconds):
            running = await tunnel.start()
            base_url = await running.endpoint(scheme="http")
        if base_url:
            # Has an end of its own, which knows the last reason why not.
            ready_seconds, not_ready = await conversation.wait_until_ready(base_url, limits)
        if ready_seconds is not None:
            answers, malformed = await conversation.ask(base_url, contract, limits)
    except dagger.QueryError as error:
        not_ready = dagger_log.first_line(str(error))
    finally:
        # Stopping what has stopped already is not worth a word, and no reason to wait.
        with anyio.move_on_after(STOP_SECONDS, shield=True), suppress(dagger.DaggerError):
            await tunnel.stop(kill=True)
            await service.stop(kill=True)
    last_words = LastWords("", "")
    if ready_seconds is None:
        last_words = await _last_words(container, port, limits.log_lines)
    return Smoke(
        uid=uid,
        ready_seconds=None if ready_seconds is None else round(ready_seconds, 1),
        not_ready="; ".join(filter(None, (not_ready, last_words.ending))),
        log=last_words.log,
        answers=answers,
        tolerance=contract.tolerance,
        malformed=malformed,
    )


async def check_updates(plan: Plan, archive: Archive) -> Updates:
    """Ask the image's package manager, as root and in a throw-away container, which updates are pending."""
    container = archives.container(plan, archive).with_user("0").with_env_variable("DRYDOCK_PERIOD", session.period())
    with session.engine_errors():
        try:
            with anyio.fail_after(plan.policy.scan.timeout_seconds):
                asked = container.with_exec(list(pending.COMMAND), expect=ReturnType.ANY)
                return pending.read(await asked.exit_code(), await asked.stdout(), await asked.stderr())
        except TimeoutError:
            return Updates(reason="apt-get took longer than scan.timeout_seconds")
        except dagger.QueryError as error:
            return Updates(reason=f"the image has no shell to ask in: {dagger_log.first_line(str(error))}")


async def _uid(container: dagger.Container) -> int | None:
    """The uid that a process of this image runs with, asked of the image itself; None where it cannot say."""
    try:
        return int(await container.with_exec(["id", "-u"]).stdout())
    except (dagger.QueryError, ValueError):
        return None


async def _exposed_ports(container: dagger.Container) -> list[int]:
    """The TCP ports that the image says it listens on, in their order."""
    return sorted(
        [
            await port.port()
            for port in await container.exposed_ports()
            if await port.protocol() is dagger.NetworkProtocol.TCP
        ]
    )


@dataclass(frozen=True)
class LastWords:
    """How a container ended, and what it printed."""

    ending: str
    log: str


async def _last_words(container: dagger.Container, port: int, log_lines: int) -> LastWords:
    """Start the image once more for a few seconds, listen, and look whom its port is open to.

    The log of a service, and its sockets, cannot be had.
    """
    try:
        start = [*await container.entrypoint(), *await container.default_args()]
        again = container.with_exec(["sh", "-c", conversation.WATCHED_START, "sh", *start], expect=ReturnType.ANY)
        exit_code, stdout, stderr = await again.exit_code(), await again.stdout(), await again.stderr()
    except dagger.QueryError as error:
        return LastWords("it cannot be started", dagger_log.tail(str(error)))
    printed, _, sockets = stdout.partition(conversation.SOCKETS)
    lines = f"{printed}\n{stderr}".strip().splitlines()
    return LastWords(conversation.ending(exit_code, sockets, port), "\n".join(lines[-log_lines:]))
