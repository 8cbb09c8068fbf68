"""Runs the image: as a service that predicts, and once more to list its pending updates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import anyio
import dagger
from dagger import PortForward, ReturnType, dag

from drydock.pipeline.plan import Plan
from drydock.policy import LimitsSection
from drydock.report import Answer, Archive, Contract, Malformed, Smoke, Updates
from drydock.stages import oci_archive, session
from drydock.tools import apt, dagger_log, predict_client

MODELS = "/models"
STOP_SECONDS = 10


async def smoke(plan: Plan, archive: Archive, contract: Contract, remote_model: dagger.Directory | None) -> Smoke:
    """Start the image as its users will, ask for every golden row, and note which user it runs as.

    `remote_model` has a model that is not in the image: it is mounted, and named as a user would name it.
    """
    with session.engine_errors():
        return await _run_smoke_test(plan, archive, contract, remote_model)


async def _run_smoke_test(
    plan: Plan, archive: Archive, contract: Contract, remote_model: dagger.Directory | None
) -> Smoke:
    limits = plan.policy.limits
    container = load_container(plan, archive, contract, remote_model)
    uid = await _read_uid(container)
    server = await Server.create(container)
    if isinstance(server, str):
        return Smoke(uid=uid, ready_seconds=None, not_ready=server)
    answers: tuple[Answer, ...] = ()
    malformed: tuple[Malformed, ...] = ()
    try:
        ready_seconds, not_ready = await server.start(limits)
        if ready_seconds is not None:
            answers, malformed = await predict_client.send_requests(
                server.base_url,
                contract,
                limits,
                rejects_unknown=plan.policy.model.unknown_categories == "reject",
            )
    finally:
        await server.stop()
    container_exit = ContainerExit("", "")
    if ready_seconds is None:
        container_exit = await _read_exit(container, server.port, limits.log_lines)
    return Smoke(
        uid=uid,
        ready_seconds=None if ready_seconds is None else round(ready_seconds, 1),
        not_ready="; ".join(filter(None, (not_ready, container_exit.ending))),
        log=container_exit.log,
        answers=answers,
        tolerance=contract.tolerance,
        output_tolerances={output.name: output.tolerance for output in contract.outputs},
        malformed=malformed,
    )


def load_container(
    plan: Plan, archive: Archive, contract: Contract, remote_model: dagger.Directory | None
) -> dagger.Container:
    """The image as its users start it. A model that is not in it is mounted, and named as a user would name it."""
    container = oci_archive.load_container(plan, archive)
    if not remote_model:
        return container
    return (
        container.with_mounted_directory(MODELS, remote_model)
        .with_env_variable("MODEL_URI", f"{MODELS}/{contract.artifact.file}")
        .with_env_variable("MODEL_SHA256", contract.artifact.sha256)
    )


@dataclass
class Server:
    """An image that runs as a service. `base_url` is empty until it has started."""

    service: dagger.Service
    tunnel: dagger.Service
    port: int
    base_url: str = ""

    @classmethod
    async def create(cls, container: dagger.Container) -> Server | str:
        """A server that has not started, or the reason why none can be: nobody knows on which port it answers."""
        exposed = await _read_exposed_ports(container)
        port = predict_client.choose_port(exposed)
        if port is None:
            numbers = ", ".join(map(str, exposed))
            only = f"EXPOSE {predict_client.DEFAULT_PORT}, or one"
            return f"it exposes the ports {numbers}, and any may answer: {only}"
        # The engine waits for the port without an end if a container never listens; ours has one.
        service = container.with_exposed_port(port, experimental_skip_healthcheck=True).as_service(use_entrypoint=True)
        return cls(service, dag.host().tunnel(service, ports=[PortForward(backend=port)]), port)

    async def start(self, limits: LimitsSection) -> tuple[float | None, str]:
        """Start it: the seconds until it was ready and "", or None and the reason why it never was."""
        try:
            with anyio.move_on_after(limits.start_seconds):
                running = await self.tunnel.start()
                self.base_url = await running.endpoint(scheme="http")
            if self.base_url:
                # Has an end of its own, which knows the last reason why not.
                return await predict_client.wait_until_ready(self.base_url, limits)
        except dagger.QueryError as error:
            return None, dagger_log.get_first_line(str(error))
        return None, f"not started within {limits.start_seconds} s"

    async def stop(self) -> None:
        """Stop it. Stopping what has stopped already is not worth a word, and no reason to wait."""
        with anyio.move_on_after(STOP_SECONDS, shield=True), suppress(dagger.DaggerError):
            await self.tunnel.stop(kill=True)
            await self.service.stop(kill=True)


async def check_updates(plan: Plan, archive: Archive) -> Updates:
    """Ask the image's package manager, as root and in a throw-away container, which updates are pending."""
    container = oci_archive.load_container(plan, archive).with_user("0")
    container = container.with_env_variable("DRYDOCK_PERIOD", session.get_cache_window())
    with session.engine_errors():
        try:
            with anyio.fail_after(plan.policy.scan.timeout_seconds):
                query = container.with_exec(list(apt.COMMAND), expect=ReturnType.ANY)
                return apt.read_updates(await query.exit_code(), await query.stdout(), await query.stderr())
        except TimeoutError:
            return Updates(reason="apt-get took longer than scan.timeout_seconds")
        except dagger.QueryError as error:
            return Updates(reason=f"the image has no shell to ask in: {dagger_log.get_first_line(str(error))}")


async def _read_uid(container: dagger.Container) -> int | None:
    """Return the uid that a process of this image runs with; None if the image has no `id`."""
    try:
        return int(await container.with_exec(["id", "-u"]).stdout())
    except (dagger.QueryError, ValueError):
        return None


async def _read_exposed_ports(container: dagger.Container) -> list[int]:
    """The TCP ports that the image says it listens on, in their order."""
    return sorted(
        [
            await port.port()
            for port in await container.exposed_ports()
            if await port.protocol() is dagger.NetworkProtocol.TCP
        ]
    )


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended, and what it printed."""

    ending: str
    log: str


async def _read_exit(container: dagger.Container, port: int, log_lines: int) -> ContainerExit:
    """Start the image once more for a few seconds, listen, and look whom its port is open to.

    The log of a service, and its sockets, cannot be had.
    """
    try:
        start = [*await container.entrypoint(), *await container.default_args()]
        again = container.with_exec(["sh", "-c", predict_client.WATCHED_START, "sh", *start], expect=ReturnType.ANY)
        exit_code, stdout, stderr = await again.exit_code(), await again.stdout(), await again.stderr()
    except dagger.QueryError as error:
        return ContainerExit("it cannot be started", dagger_log.get_tail(str(error)))
    printed, _, sockets = stdout.partition(predict_client.SOCKETS)
    lines = f"{printed}\n{stderr}".strip().splitlines()
    return ContainerExit(predict_client.describe_exit(exit_code, sockets, port), "\n".join(lines[-log_lines:]))
