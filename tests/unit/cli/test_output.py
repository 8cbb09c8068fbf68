"""What is said, and what is left behind, if a stream breaks, a signal comes, or Drydock itself is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import anyio
import pytest

from drydock import stages
from drydock.cli import commands
from drydock.errors import BuildError, DrydockError, UsageError
from drydock.pipeline.record import create_record
from drydock.render.files import write_reports
from drydock.report import Archive, Assessment, CheckResult, Report, Scan, Verdict, faults, files, publication
from tests.support import examples
from tests.support.fake_stages import FakeStages
from tests.unit.oci.test_archive import layout

ROOT = Path(__file__).parents[3]
COMMON = ["--config", str(ROOT / "pipeline.toml"), "--tag", "test"]
# Sets the clipboard, clears the screen, and begins a red line.
STEERING = "\x1b]52;c;ZXZpbA==\x1b\\\x1b[2J\x1b[31mred\x07\r"
HARMLESS = "\N{REPLACEMENT CHARACTER}]52;c;ZXZpbA==\N{REPLACEMENT CHARACTER}\\\N{REPLACEMENT CHARACTER}[2J"


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run on GitHub; what they run says nothing to it."""
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "DRYDOCK_IMAGES", "DRYDOCK_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake_stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    """The command line as it is, with stages that need no engine."""
    fake_stages = FakeStages()
    monkeypatch.setattr(stages, "connect", fake_stages.connect)
    return fake_stages


def program(
    trick: str, report_dir: Path, stdout: int | IO[str] | None = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.program", trick, *COMMON, "--report-dir", str(report_dir)],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def written(report_dir: Path) -> list[str]:
    return sorted(path.name for path in report_dir.iterdir() if not path.name.startswith("."))


EVERYTHING = ["release.json", "report.html", "report.json", "report.txt", "summary.md"]


def test_a_reader_that_goes_away_changes_neither_the_verdict_nor_the_record(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = program("good", tmp_path, writer)
    os.close(writer)
    _, stderr = done.communicate(timeout=60)
    assert (done.returncode, written(tmp_path)) == (0, EVERYTHING)
    assert stderr.splitlines()[-1].startswith("  tag               took ")


def test_a_full_disk_under_standard_output_is_exit_code_2_and_the_record_is_there(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = program("good", tmp_path, full)
        _, stderr = done.communicate(timeout=60)
    assert (done.returncode, written(tmp_path)) == (2, EVERYTHING)
    assert stderr.endswith(
        "standard output cannot be written: No space left on device\n"
        "  usually   its disk is full, or its terminal was closed\n"
        "  next      read the report in the report directory; run a command without a report again\n"
    )


def test_a_stream_that_is_no_utf8_shows_what_it_can(tmp_path: Path) -> None:
    done = program("warned", tmp_path, PYTHONIOENCODING="ascii")
    stdout, stderr = done.communicate(timeout=60)
    assert (done.returncode, written(tmp_path)) == (0, EVERYTHING)
    assert "\n         ? libc6 " in stdout
    assert "Traceback" not in stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_run_at_once_while_a_thread_reads_its_archive(tmp_path: Path, number: signal.Signals) -> None:
    run = program("busy", tmp_path)
    assert run.stderr
    while run.stderr.readline() != "reading\n":
        pass
    run.send_signal(number)
    # The thread would go on for a minute.
    stdout, stderr = run.communicate(timeout=10)
    assert run.returncode == 130
    assert stdout.splitlines()[-1].startswith("no verdict inspect broke (exit code 130)")
    assert "Traceback" not in stderr
    assert written(tmp_path) == [name for name in EVERYTHING if name != "release.json"]


class Broken:
    """Standard output on a full disk, for a test within one process."""

    encoding = "utf-8"

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError


def assessment(verdict: Verdict) -> Assessment:
    return Assessment(
        checks=(CheckResult(name="signature", measured="", limit="", verdict=verdict, details=("",)),), conclusion=""
    )


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--tag", "test"],
        ["contract", "{}/fitted.pkl", "{}/rows.csv"],
        ["explain"],
        ["verify", "127.0.0.1:1/name:1.2.3"],
        ["promote", "127.0.0.1:1/name:1.2.3", "127.0.0.1:1/other"],
        ["rescan", "{}/release.json"],
        ["reproduce", examples.MANIFEST_DIGEST],
        ["update-pins", "{}/images.toml"],
    ],
    ids=lambda command: command[0],
)
def test_no_command_ends_with_1_because_its_words_cannot_be_written(
    command: list[str], fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def good(*_: object) -> Assessment:
        return assessment(Verdict.PASS)

    async def locked(*_: object) -> list[str]:
        return ["builder"]

    for name in ("verify", "promote", "rescan", "reproduce"):
        monkeypatch.setattr(commands, name, good)
    monkeypatch.setattr(commands, "update_pins", locked)
    layout(tmp_path / "image.tar", {"a": b"x"})
    (tmp_path / "release.json").write_text(examples.release().model_dump_json())
    for name in ("fitted.pkl", "rows.csv"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(sys, "stdout", Broken())
    typed = [each.format(tmp_path) for each in command]
    folders = (
        [] if command[0] == "update-pins" else ["--config", str(ROOT / "pipeline.toml"), "--report-dir", str(tmp_path)]
    )
    assert commands.main([*typed, *folders]) == 2


def test_a_rejected_image_stays_rejected_if_nothing_can_be_shown(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_stages.scanned = examples.scan([examples.HIGH])
    monkeypatch.setattr(sys, "stdout", Broken())
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 1
    assert '"exit_code": 1' in (tmp_path / "report.json").read_text()


def test_standard_output_that_was_closed_is_no_traceback(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 2
    assert "standard output cannot be written: Bad file descriptor\n" in capsys.readouterr().err
    assert written(tmp_path) == EVERYTHING


def test_progress_that_nobody_can_read_breaks_no_run(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Broken())
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 2
    assert written(tmp_path) == EVERYTHING


@pytest.mark.parametrize("stage", ["connect", "build", "smoke", "tag"])
def test_a_mistake_of_our_own_ends_in_a_report_with_an_exit_code_of_its_own(
    stage: str, fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_stages.breaks = {stage: ZeroDivisionError("division by zero\nsecond line")}
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 70
    shown = capsys.readouterr()
    assert "broke: Drydock itself broke: ZeroDivisionError: division by zero\n" in shown.out
    assert f"  next      report it, with {tmp_path}/traceback.txt, which has the traceback\n" in shown.out
    assert "Traceback" not in shown.out + shown.err
    assert "in _enter\n    raise self.breaks[stage]" in (tmp_path / "traceback.txt").read_text()
    assert '"exit_code": 70' in (tmp_path / "report.json").read_text()


def test_a_mistake_before_there_is_a_report_has_the_same_exit_code(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: object) -> Assessment:
        raise KeyError("no such key")

    monkeypatch.setattr(commands, "verify", wrong)
    asked = ["verify", "127.0.0.1:1/name:1", "--config", str(ROOT / "pipeline.toml")]
    assert commands.main([*asked, "--report-dir", str(tmp_path)]) == 70
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "Drydock itself broke: KeyError: 'no such key'\n"
        "  usually   a mistake in Drydock, which says nothing about the image\n"
        f"  next      report it, with {tmp_path}/traceback.txt, which has the traceback\n"
    )
    assert 'raise KeyError("no such key")' in (tmp_path / "traceback.txt").read_text()


def test_where_the_report_directory_takes_no_file_the_traceback_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist").write_text("a file")
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    error = faults.internal_error(ExceptionGroup("two", [ZeroDivisionError()]), tmp_path / "dist")
    assert error.message == "Drydock itself broke: ZeroDivisionError"
    assert error.next_step == f"report it, with {elsewhere}/traceback.txt, which has the traceback"
    assert "ExceptionGroup: two (1 sub-exception)" in (elsewhere / "traceback.txt").read_text()


def test_a_file_that_cannot_be_written_keeps_no_other_from_being_written(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: Report) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("drydock.render.html.render", wrong)
    (tmp_path / "summary.md").mkdir()
    with pytest.raises(UsageError, match=r"summary\.md cannot be written"):
        write_reports(
            examples.report(), create_record(examples.report()), tmp_path, {"GITHUB_OUTPUT": str(tmp_path / "outputs")}
        )
    assert written(tmp_path) == ["outputs", "release.json", "report.json", "report.txt", "summary.md"]


def test_a_signal_while_the_record_is_written_waits_for_it(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = files.write_atomic

    def interrupted(path: Path, content: str) -> None:
        if path.name == "release.json":
            os.kill(os.getpid(), signal.SIGTERM)
        whole(path, content)

    monkeypatch.setattr(publication, "write_atomic", interrupted)
    assert commands.main([*COMMON, "--report-dir", str(tmp_path)]) == 130
    assert written(tmp_path) == EVERYTHING
    assert "stopped by a signal\n" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_before_anything_is_awaited_is_130_too(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(commands, "create_plan", planned)
    assert commands.main([]) == 130
    assert capsys.readouterr().err == ("stopped by a signal\n  next      run again; nothing has to be cleaned up\n")


def test_ctrl_c_while_python_still_imports_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "anyio.py").write_text("import sys, time\nsys.stderr.write('importing\\n')\ntime.sleep(60)\n")
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "ci" / "main.py")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert started.stderr
    assert started.stderr.readline() == "importing\n"
    started.send_signal(signal.SIGINT)
    _, stderr = started.communicate(timeout=10)
    assert (started.returncode, stderr) == (-signal.SIGINT, "")


def test_a_full_disk_keeps_no_lock_from_being_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with files.lock_directory(tmp_path):
        pass


def test_what_is_awaited_is_stopped_by_a_signal(
    fake_stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def waiting(*_: object) -> Assessment:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(60)
        return assessment(Verdict.PASS)

    monkeypatch.setattr(commands, "verify", waiting)
    asked = ["verify", "127.0.0.1:1/name:1", "--config", str(ROOT / "pipeline.toml")]
    assert commands.main([*asked, "--report-dir", str(tmp_path)]) == 130
    assert "stopped by a signal\n" in capsys.readouterr().err


def test_a_terminal_that_nohup_took_away_stays_away(fake_stages: FakeStages, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with commands.INTERRUPTS.catch_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


USING = re.compile(r"another run is using (.*): process \d+, since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\n")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--tag", "test"],
        ["train"],
        ["contract", "{}/fitted.pkl", "{}/rows.csv"],
        ["verify", "127.0.0.1:1/name:1.2.3"],
        ["promote", "127.0.0.1:1/name:1.2.3", "127.0.0.1:1/other"],
        ["rescan", "{}/release.json"],
    ],
    ids=lambda command: command[0],
)
def test_of_two_runs_in_one_report_directory_the_second_is_refused(
    command: list[str], fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "release.json").write_text(examples.release().model_dump_json())
    for name in ("fitted.pkl", "rows.csv", "sbom.cdx.json"):
        (tmp_path / name).write_text("of the first")
    asked = [*(each.format(tmp_path) for each in command), "--config", str(ROOT / "pipeline.toml")]
    with files.lock_directory(tmp_path):
        assert commands.main([*asked, "--report-dir", str(tmp_path)]) == 2
    what, *rest = capsys.readouterr().err.splitlines(keepends=True)
    assert USING.fullmatch(what)
    assert rest == [
        "  usually   make run was typed in two terminals\n",
        "  next      wait for its end, or name another folder with --report-dir\n",
    ]
    assert fake_stages.called == []
    assert (tmp_path / "sbom.cdx.json").read_text() == "of the first"


def test_the_lock_of_a_run_that_died_is_none(tmp_path: Path) -> None:
    with files.lock_directory(tmp_path):
        pass
    kill = f"""
import os
from drydock.report import files
from pathlib import Path
with files.lock_directory(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", kill], check=False).returncode == -9
    assert "process " in (tmp_path / ".lock").read_text()
    with files.lock_directory(tmp_path):
        assert f"process {os.getpid()}, since " in (tmp_path / ".lock").read_text()


@pytest.mark.parametrize("debug", [False, True])
def test_a_containers_words_steer_no_terminal(
    debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Steering(FakeStages):
        async def scan(self, archive: Archive) -> Scan:
            (tmp_path / "engine.log").write_text(f"said\n{STEERING}\n")
            return await super().scan(archive)

    monkeypatch.setattr(stages, "connect", Steering().connect)
    commands.main([*COMMON, "--report-dir", str(tmp_path), *(["--debug"] if debug else [])])
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert (f"said\n{HARMLESS}" in shown.err) == debug


def failing(error: DrydockError) -> Callable[..., object]:
    async def fails(*_: object) -> Assessment:
        raise error

    return fails


@pytest.mark.parametrize("command", ["train", "contract", "verify", "promote", "reproduce"])
def test_what_a_broken_tool_printed_steers_no_terminal(
    command: str,
    fake_stages: FakeStages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = BuildError(f"it said {STEERING}", likely_cause=STEERING, next_step=STEERING, log=f"first\n{STEERING}\nlast")
    fake_stages.breaks = {"train": error, "contract": error}
    for name in ("verify", "promote", "reproduce"):
        monkeypatch.setattr(commands, name, failing(error))
    (tmp_path / "given").write_text("")
    arguments = {
        "train": [],
        "contract": [str(tmp_path / "given"), str(tmp_path / "given")],
        "verify": ["127.0.0.1:1/name:1.2.3"],
        "promote": ["127.0.0.1:1/name:1.2.3", "127.0.0.1:1/other"],
        "reproduce": [examples.MANIFEST_DIGEST],
    }
    folders = ["--config", str(ROOT / "pipeline.toml"), "--report-dir", str(tmp_path)]
    assert commands.main([command, *arguments[command], *folders]) == 4
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert f"it said {HARMLESS}" in shown.err
    assert "  first\n" in shown.err


def test_a_folder_whose_name_looks_like_markup_is_a_folder(
    fake_stages: FakeStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_dir = tmp_path / "a [bold] dist"
    assert commands.main([*COMMON, "--report-dir", str(report_dir)]) == 0
    assert f"report in {tmp_path}/a [bold] dist/\n" in capsys.readouterr().err
