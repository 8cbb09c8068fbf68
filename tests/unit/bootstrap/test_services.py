from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drydock.bootstrap import services
from drydock.bootstrap.cache import Cache
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms, listener, wait_until, web_server


def test_the_engine_runs_with_runc_and_limits_that_a_small_machine_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_NOFILE: (1024, 4096)}[which])
    assert " ".join(services.engine_command(Path("/kept"), "localhost/drydock-engine:1234")) == (
        "podman --runtime runc run --detach --name drydock-engine --network host --privileged "
        "--ulimit nofile=4096:4096 --ulimit nproc=20000:20000 "
        "--volume /kept/state:/var/lib/dagger "
        "--volume /kept/certificates:/usr/local/share/ca-certificates "
        "--volume /kept/engine.json:/etc/dagger/engine.json "
        "--volume /kept/run:/run/dagger "
        "localhost/drydock-engine:1234"
    )


def test_the_engine_has_a_bounded_cache_and_a_mirror_of_docker_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "REGISTRY", "127.0.0.1:1234")
    assert services.engine_config() == {
        "gc": {"maxUsedSpace": "40GB", "reservedSpace": "10GB", "minFreeSpace": "10GB"},
        "registries": {"docker.io": {"mirrors": ["127.0.0.1:1234"]}, "127.0.0.1:1234": {"http": True}},
    }


def test_an_engine_answers_where_somebody_listens(tmp_path: Path) -> None:
    path = services.socket_path(tmp_path)
    assert path == tmp_path / "run" / "engine.sock"
    assert not services.is_engine_up(path)
    with listener(path):
        assert services.is_engine_up(path)
    # The socket of an engine that was killed stays behind.
    assert path.exists()
    assert not services.is_engine_up(path)


def test_where_nobody_listens_no_registry_answers() -> None:
    assert not services.is_registry_up()


def test_a_registry_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(200) as address:
        monkeypatch.setattr(services, "REGISTRY", address)
        assert services.is_registry_up()


@pytest.mark.parametrize("status", [401, 404, 503])
def test_another_server_is_no_registry_of_ours(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with web_server(status) as address:
        monkeypatch.setattr(services, "REGISTRY", address)
        with pytest.raises(EngineError) as caught:
            services.is_registry_up()
    assert caught.value.message == f"the server on {address} is not a registry of Drydock: it answers {status}"
    assert caught.value.next_step == "ss -ltnp shows which program it is: stop it, then run again"


@contextmanager
def talker(words: bytes) -> Iterator[str]:
    """Somebody who listens, and does not speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(words)

        thread = threading.Thread(target=talk)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_server_without_http_is_no_registry_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with talker(b"SSH-2.0-OpenSSH_9.2\r\n") as address:
        monkeypatch.setattr(services, "REGISTRY", address)
        with pytest.raises(EngineError):
            services.is_registry_up()


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(503) as proxy, web_server(200) as address:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        monkeypatch.setattr(services, "REGISTRY", address)
        assert services.is_registry_up()


# As docker-registry does it: reads its settings, listens where they say, and answers 200 at /v2/.
# Should nobody stop it, it stops itself.
REGISTRY = """\
import http.server, json, signal, sys
signal.alarm(30)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/" else 404)
        self.end_headers()
host, port = json.load(open(sys.argv[2]))["http"]["addr"].split(":")
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def add_registry(programs: FakePrograms) -> None:
    program = programs.path / "docker-registry.py"
    program.write_text(REGISTRY)
    programs.add("docker-registry", f"exec '{sys.executable}' '{program}' \"$@\"")


@pytest.fixture
def logs(cache: Cache) -> None:
    """The folder that an earlier step has made."""
    (cache.root / "logs").mkdir(parents=True)


@pytest.mark.usefixtures("logs")
# It is to outlive the one who started it.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_the_registry_is_started_once_and_just_that_one_is_stopped(cache: Cache, programs: FakePrograms) -> None:
    add_registry(programs)
    try:
        services.start_registry(cache)
        assert services.is_registry_up()
        services.start_registry(cache)
        assert programs.words() == [f"docker-registry serve {cache.root}/registry.yml"]
        assert json.loads((cache.root / "registry.yml").read_text()) == {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": f"{cache.root}/registry"}, "delete": {"enabled": True}},
            "http": {"addr": services.REGISTRY},
        }
        pid = int((cache.root / "registry.pid").read_text())
    finally:
        services.stop_registry(cache.root)
    assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)
    assert not services.is_registry_up()
    assert not (cache.root / "registry.pid").exists()


@pytest.mark.usefixtures("logs")
def test_a_registry_that_dies_is_quoted(cache: Cache, programs: FakePrograms) -> None:
    programs.add("docker-registry", "echo configuration error; exit 1")
    with pytest.raises(EngineError) as caught:
        services.start_registry(cache)
    assert caught.value.message == "the registry did not start"
    assert caught.value.next_step == f"read {cache.root}/logs/registry.log, then run again"
    assert caught.value.log == "configuration error"


def test_the_registry_starts_where_the_logs_were_removed(cache: Cache) -> None:
    with pytest.raises(EngineError, match="the registry did not start"):
        services.start_registry(cache)


def test_somebody_elses_process_is_left_alone(tmp_path: Path) -> None:
    pid = tmp_path / "registry.pid"
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            pid.write_text(str(other.pid))
            services.stop_registry(tmp_path)
            assert other.poll() is None
        finally:
            other.kill()
    assert not pid.exists()
    # And where nobody has that number any more, or nothing was started, there is nothing to stop.
    pid.write_text(str(other.pid))
    services.stop_registry(tmp_path)
    assert not pid.exists()
    services.stop_registry(tmp_path)


IMAGE = "localhost/drydock-engine:1234"
REMOVE = "podman rm --force --time 0 --ignore drydock-engine"


def test_the_engine_is_started_with_the_machines_own_certificates(
    cache: Cache, programs: FakePrograms, said: io.StringIO
) -> None:
    services.CA_CERTIFICATES.mkdir()
    (services.CA_CERTIFICATES / "company.crt").write_text("certificate")
    (services.CA_CERTIFICATES / "README").write_text("")
    path = services.socket_path(cache.root)
    # A socket that an engine left behind is in the way of the next one.
    with listener(path):
        pass
    programs.add("podman", '[ "$1" != inspect ] || echo true')
    start = threading.Thread(target=services.start_engine, args=(cache, IMAGE))
    start.start()
    # The engine takes its time after Podman has returned.
    wait_until(lambda: (cache.root / "logs" / "engine.log").exists())
    with listener(path):
        start.join()
    assert programs.words()[:2] == [REMOVE, " ".join(services.engine_command(cache.root, IMAGE))]
    assert json.loads((cache.root / "engine.json").read_text()) == services.engine_config()
    assert [file.name for file in (cache.root / "certificates").iterdir()] == ["company.crt"]
    assert (cache.root / "state").is_dir()
    assert [line.split()[0] for line in said.getvalue().splitlines()] == ["engine", "engine:"]


def test_an_engine_that_answers_is_not_started_again(cache: Cache, programs: FakePrograms) -> None:
    programs.add("podman", f"echo {IMAGE}")
    with listener(services.socket_path(cache.root)):
        services.start_engine(cache, IMAGE)
    assert programs.words() == ["podman inspect --format {{.ImageName}} drydock-engine"]


def test_an_engine_of_another_image_is_replaced(cache: Cache, programs: FakePrograms) -> None:
    programs.add("podman", 'case "$1" in inspect) echo localhost/drydock-engine:older;; --runtime) exit 9;; esac')
    with listener(services.socket_path(cache.root)), pytest.raises(EngineError):
        services.start_engine(cache, IMAGE)
    assert [call[1] for call in programs.calls()] == ["inspect", "rm", "--runtime"]


def test_an_engine_that_dies_is_quoted(cache: Cache, programs: FakePrograms) -> None:
    programs.add("podman", 'case "$1" in inspect) echo false;; logs) echo out of memory >&2;; esac')
    with pytest.raises(EngineError) as caught:
        services.start_engine(cache, IMAGE)
    assert caught.value.message == "the engine did not start"
    assert caught.value.next_step == f"read {cache.root}/logs/engine.log, then run again"
    assert caught.value.log == "out of memory"


def test_an_engine_that_never_answers_is_not_waited_for_in_eternity(
    cache: Cache, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "START_SECONDS", 0.5)
    programs.add("podman", 'case "$1" in inspect) echo true;; logs) echo thinking;; esac')
    with pytest.raises(EngineError, match="the engine did not start"):
        services.start_engine(cache, IMAGE)


def test_stopping_the_engine_removes_its_container(programs: FakePrograms) -> None:
    services.stop_engine()
    assert programs.words() == ["podman rm --force --time 10 --ignore drydock-engine"]


@pytest.mark.usefixtures("nothing_installed")
def test_where_there_is_no_podman_there_is_no_engine_to_stop(programs: FakePrograms) -> None:
    services.stop_engine()
    assert programs.calls() == []
