"""What fails around a run while it runs: the one who started it, the engine, the disk, the caches."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import dagger
import pytest
from dagger import dag

from tests.integration.engine import slow_registry
from tests.integration.engine.project import Project
from tests.integration.engine.second_engine import VARIABLE, SecondEngine

SLOW = "RUN echo waiting; sleep 60\n"


def test_a_build_that_is_stopped_leaves_nothing_half_done_and_the_next_run_works(tiny: Project) -> None:
    process = started_and_building(tiny)
    process.send_signal(signal.SIGINT)
    finished = tiny.finish(process)
    tiny.assert_broken(finished, "build", 130)
    tiny.edit("Dockerfile", SLOW, "")
    assert tiny.run().exit_code == 0


def test_a_push_that_is_stopped_moves_no_tag_and_leaves_the_earlier_record(tiny: Project) -> None:
    assert tiny.run().exit_code == 0
    record = tiny.root / "dist" / "release.json"
    manifest, recorded = tiny.manifest("test").content, record.read_bytes()
    tiny.edit("service/server.py", '"not a row"', '"no row"')
    with slow_registry.served() as (host, upload):
        process = tiny.start(environment={"DRYDOCK_REPOSITORY": f"{host}/{tiny.repository}"})
        assert upload.begun.wait(120), process.communicate(timeout=60)[0]
        process.send_signal(signal.SIGTERM)
        finished = tiny.finish(process)
        # The connection is gone with the run, so that nothing can arrive later.
        assert upload.cut.wait(60)
    assert finished.exit_code == 130, finished.output
    last = "no verdict push broke (exit code 130); no tag leads to what was pushed"
    assert finished.output.splitlines()[-1] == last
    assert "Traceback" not in finished.output
    assert finished.report["publication"] is None
    assert tiny.names() == ["test"]
    assert tiny.manifest("test").content == manifest
    assert record.read_bytes() == recorded
    again = tiny.run()
    assert again.exit_code == 0, again.output
    assert again.report["publication"]["digest"] in record.read_text()


def test_an_engine_that_dies_in_mid_build_is_said_in_seconds(tiny: Project, engine: SecondEngine) -> None:
    process = started_and_building(tiny, engine.environment)
    kill_under(process, engine)
    finished = tiny.finish(process)
    tiny.assert_broken(finished, "build", 3)
    assert finished.report["contract"]["name"] == "tiny"
    assert "make run starts one" in finished.report["failures"][0]["next_step"]


def test_an_engine_that_dies_while_the_image_is_looked_at_is_said_in_seconds(
    tiny: Project, engine: SecondEngine
) -> None:
    tiny.edit("service/server.py", "http.server.Threading", "import time; time.sleep(60)\nhttp.server.Threading")
    process = tiny.start(environment=engine.environment)
    assert process.stdout
    # Whatever looks at the image begins at once.
    assert any(line.startswith("  pending-updates ") for line in process.stdout)
    kill_under(process, engine)
    finished = tiny.finish(process)
    assert finished.exit_code == 3, finished.output
    assert {"smoke", "scan"} <= {failure["stage"] for failure in finished.report["failures"]}
    assert {failure["exit_code"] for failure in finished.report["failures"]} == {3}
    assert finished.row("image size")["verdict"] == "PASS"
    assert "make run starts one" in finished.report["failures"][0]["next_step"]
    assert "Traceback" not in finished.output
    tiny.assert_nothing_pushed(finished)


@pytest.fixture
def small_disk(tiny: Project) -> Iterator[Path]:
    """A report directory on a disk of its own, which a test may fill."""
    disk = tiny.root / "dist"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100M", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"only who may mount has a disk to fill: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# The image in miniature has 45 MB, and the scanner's documents 1 MB.
@pytest.mark.parametrize(
    ("room_bytes", "broken"),
    [(0, "train"), (1_000_000, "build"), (100_000, "scan")],
    ids=["nothing fits", "the image does not fit", "the scanner's documents do not fit"],
)
def test_a_full_disk_is_said_and_so_is_what_was_known(
    tiny: Project, small_disk: Path, room_bytes: int, broken: str
) -> None:
    if broken == "scan":
        assert tiny.run("--no-push").exit_code == 0
        room_bytes += (small_disk / "image.tar").stat().st_size
        for path in small_disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    space = os.statvfs(small_disk)
    (small_disk / "somebody else's").write_bytes(bytes(space.f_bavail * space.f_bsize - room_bytes))
    finished = tiny.run()
    assert finished.exit_code == 2, finished.output
    assert f"  {broken:<17} broke after " in finished.output
    assert "cannot be written: No space left on device\n" in finished.output
    assert finished.output.splitlines()[-1] == (
        "  next      free some space, or name another folder with --report-dir, then run again"
    )
    assert "nothing was pushed\n" in finished.output
    assert "Traceback" not in finished.output
    tiny.assert_nothing_pushed(finished)


def test_a_run_from_empty_caches_has_the_verdict_of_the_one_before(
    tiny: Project, engine: SecondEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, engine.environment[VARIABLE])
    first = tiny.run("--no-push")
    anyio.run(emptied)
    second = tiny.run("--no-push")
    assert (first.exit_code, second.exit_code) == (0, 0), second.output
    assert second.report["findings"] == first.report["findings"]
    timed = ("starts in time", "answers in time")
    assert [row for row in second.report["checks"] if row["name"] not in timed] == [
        row for row in first.report["checks"] if row["name"] not in timed
    ]


async def emptied() -> None:
    """The engine forgets what no other run is using at this moment."""
    async with dagger.connection():
        await dag.engine().local_cache().prune()


def started_and_building(project: Project, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A run that is in mid-build, and will be for a minute."""
    project.edit("Dockerfile", "USER 10001", f"{SLOW}USER 10001")
    process = project.start(environment=environment)
    log = project.root / "dist" / "engine.log"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and "] RUN echo waiting; " in log.read_text(errors="replace"):
            time.sleep(1)
            return process
        time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate()[0])


def kill_under(process: subprocess.Popen[str], engine: SecondEngine) -> None:
    """Kill the engine, wait for the run to end of itself, and start the engine again for the tests that follow."""
    try:
        engine.kill()
        # The client library alone would wait for five minutes. Raises TimeoutExpired.
        process.wait(timeout=60)
    finally:
        process.kill()
        engine.start()
