from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from drydock.bootstrap import processes
from drydock.bootstrap.cache import Cache
from drydock.errors import EngineError
from tests.unit.bootstrap.conftest import FakePrograms


def test_a_tool_that_succeeds_is_quiet_and_its_words_are_kept(
    cache: Cache, programs: FakePrograms, said: io.StringIO, tmp_path: Path
) -> None:
    programs.add("tool", 'echo "to everybody"; echo "to the one who looks" >&2; cat; echo "$COLOUR"; pwd')
    log = cache.log_path("tool")
    cache.runner.run(["tool", "a b"], log, environment={"COLOUR": "green"}, stdin="typed\n", cwd=tmp_path)
    assert programs.calls() == [["tool", "a b"]]
    assert log.read_text() == f"to everybody\nto the one who looks\ntyped\ngreen\n{tmp_path}\n"
    assert said.getvalue() == ""


def test_a_tool_that_fails_is_quoted_with_its_last_words(cache: Cache, programs: FakePrograms) -> None:
    lines = [f"line {number}" for number in range(1, 26)]
    programs.add("tool", "\n".join(f"echo '{line}'" for line in lines) + "\nexit 7")
    log = cache.log_path("tool")
    with pytest.raises(EngineError) as caught:
        cache.runner.run(["tool", "build", "--fast", "everything"], log)
    assert caught.value.message == "tool build --fast … failed with exit code 7"
    assert caught.value.next_step == (f"read {log}; drydock bootstrap continues with what is not finished yet")
    assert caught.value.log == "\n".join(lines[-20:])
    assert log.read_text().splitlines() == lines


def test_a_tool_that_is_missing_is_an_error_with_a_next_step(cache: Cache) -> None:
    with pytest.raises(EngineError):
        cache.runner.run(["no-such-tool"], cache.log_path("tool"))


def test_a_long_tool_says_now_and_then_what_it_is_at(
    cache: Cache, programs: FakePrograms, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HEARTBEAT_SECONDS", 0)
    tool = programs.add("tool", "echo first; echo second; echo; exec sleep 1.5")
    cache.runner.run([str(tool)], cache.log_path("tool"))
    (line,) = said.getvalue().splitlines()
    assert line.split() == ["tool", line.split()[1], "s", "second"]


def test_an_interrupted_call_takes_its_tool_with_it(
    cache: Cache, programs: FakePrograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(log: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "read_last_line", interrupt)
    programs.add("tool", f"echo $$ >'{tmp_path}/pid'; exec sleep 60")
    with pytest.raises(KeyboardInterrupt):
        cache.runner.run(["tool"], cache.log_path("tool"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_step_that_breaks_has_no_end(cache: Cache, said: io.StringIO) -> None:
    with pytest.raises(RuntimeError), cache.runner.step("building"):
        raise RuntimeError
    assert said.getvalue() == "  building …\n"


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("echo; echo ' answer '", "answer"),
        ("echo answer; echo warning >&2", "answer"),
        ("true", ""),
        ("echo answer; exit 1", None),
        ("echo answer; exec sleep 60", None),
    ],
)
def test_a_short_question_has_an_answer_or_none(programs: FakePrograms, script: str, printed: str | None) -> None:
    programs.add("tool", script)
    # Only the one that sleeps needs all of the time.
    assert processes.read_output(["tool"], timeout_seconds=1 if "sleep" in script else 20) == printed


def test_who_is_missing_has_no_answer() -> None:
    assert processes.read_output(["no-such-tool"]) is None


def test_the_last_line_is_the_last_one_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n  half a w\xc3rd  \n \n\n")
    assert processes.read_last_line(log) == "half a w\ufffdrd"
    log.write_text("\n")
    assert processes.read_last_line(log) == ""


def test_a_programs_words_steer_no_terminal(
    cache: Cache, programs: FakePrograms, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "HEARTBEAT_SECONDS", 0)
    tool = programs.add("tool", r"printf 'red \033[31m\033]52;c;ZXZpbA==\007\n'; exec sleep 1.5")
    cache.runner.run([str(tool)], cache.log_path("tool"))
    cache.runner.print_line("first \x1b[2J\nsecond")
    assert "\x1b" not in said.getvalue()
    assert "red \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}]52;c;ZXZpbA==" in said.getvalue()
    assert "first \N{REPLACEMENT CHARACTER}[2J second\n" in said.getvalue()
