from __future__ import annotations

from pathlib import Path

import pytest

from drydock.errors import BuildError
from drydock.tools import dockerfile
from tests.support import examples

TEXT = """\
# The base.
FROM base AS build
COPY . /src

RUN --mount=type=cache,target=/root/.cache --network=none \\
    make   all \\
# why it is stripped
    && strip app
FROM base
COPY --from=build /src/app /app
COPY . /src
RUN echo a\\b
"""


def test_each_stage_is_found_by_its_name() -> None:
    text = f"{TEXT}FROM --platform=linux/amd64 \\\n  base as Contract\nRUN echo FROM base AS none\n"
    assert dockerfile.find_stages(text) == {"build", "contract"}


def test_each_instruction_is_found_on_the_line_on_which_it_begins() -> None:
    assert dockerfile.find_instructions(TEXT) == {
        "FROM base AS build": 2,
        "RUN make all && strip app": 5,
        "FROM base": 9,
        "COPY --from=build /src/app /app": 10,
        # Of two alike the one of the final stage, whose layers an image has.
        "COPY . /src": 11,
        "RUN echo a\\b": 12,
    }


# Each line of a heredoc looks like an instruction.
BODY = "USER root\nHEALTHCHECK NONE\nRUN --mount=type=secret,id=body make\n\n# comment\n"


@pytest.mark.parametrize(
    ("instruction", "ends"),
    [
        ("RUN <<EOF", ["EOF"]),
        ("COPY <<EOF /app/start.sh", ["EOF"]),
        ("add <<EOF <<other /app/", ["EOF", "other"]),
        ("COPY <<A <<'B' <<\"C\" /app/", ["A", "B", "C"]),
        ("RUN <<-EOF", ["\t\tEOF"]),
        ("RUN <<-EOF sh", ["EOF"]),
        ("RUN <<'EOF' sh -x", ["EOF"]),
        ('RUN <<"EOF" sh -x', ["EOF"]),
        ('RUN <<-"E.O-F" sh', ["\tE.O-F"]),
        ("RUN 3<<EOF cat /dev/fd/3", ["EOF"]),
        ("RUN make && \\\n    cat <<EOF > /x", ["EOF"]),
        ("RUN echo 'it is' \"it's\" <<EOF", ["EOF"]),
        ("ONBUILD RUN <<EOF", ["EOF"]),
    ],
)
def test_the_lines_of_a_heredoc_are_no_instructions(instruction: str, ends: list[str]) -> None:
    bodies = "".join(f"{BODY}EOF2\n EOF\n{end}\n" for end in ends)
    text = f"FROM base\nHEALTHCHECK CMD a\n{instruction}\n{bodies}RUN --mount=type=secret,id=own make\nUSER 1\n"
    assert list(dockerfile.find_instructions(text).values()) == [1, 2, 3, text.count("\n") - 1, text.count("\n")]
    assert dockerfile.find_healthcheck(text) == {"Test": ["CMD-SHELL", "a"]}
    assert dockerfile.find_secrets(text) == {"own": False}


@pytest.mark.parametrize(
    "instruction",
    [
        'RUN echo "a <<EOF b"',
        "RUN a='b <<EOF c' make",
        'RUN echo "it\\" <<EOF"',
        "RUN cat <<<EOF",
        "RUN echo $((1<<EOF))",
        "RUN cat << EOF",
        "ENV A=<<EOF",
        "LABEL a <<EOF",
        'RUN ["cat", "<<EOF"]',
    ],
)
def test_what_is_no_heredoc_hides_no_instruction(instruction: str) -> None:
    assert list(dockerfile.find_instructions(f"FROM base\n{instruction}\nUSER 1\n").values()) == [1, 2, 3]


def test_the_end_of_a_heredoc_is_its_name_alone() -> None:
    text = "FROM base\nRUN <<EOF\n\tEOF\nEOF \nUSER 1\nEOF\nUSER 2\n"
    assert dockerfile.find_instructions(text) == {"FROM base": 1, "RUN <<EOF": 2, "USER 2": 7}


def test_a_heredoc_that_does_not_end_is_the_rest_of_the_file() -> None:
    assert dockerfile.find_instructions("FROM base\nRUN <<EOF\nUSER 1\n") == {"FROM base": 1, "RUN <<EOF": 2}


def test_layers_know_their_lines_and_the_base_has_none() -> None:
    made = [
        examples.BASE.model_copy(update={"created_by": created_by})
        for created_by in ("pulled from base", "RUN make all && strip app", "COPY --from=build /src/app /app", "")
    ]
    located = dockerfile.add_line_numbers(examples.image(*made), TEXT)
    assert [layer.dockerfile_line for layer in located.layers] == [None, 5, 10, None]
    assert [layer.created_by for layer in located.layers] == [layer.created_by for layer in made]


def test_a_continued_word_is_one_word() -> None:
    assert dockerfile.find_instructions("RUN echo a\\\nb\n") == {"RUN echo ab": 1}


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n# comment\n", "\n\\\n"])
def test_an_instruction_that_the_end_of_the_file_cuts_is_one_as_for_docker(end: str) -> None:
    text = f"FROM base\nRUN --mount=type=secret,id=own make \\{end}"
    assert dockerfile.find_instructions(text) == {"FROM base": 1, "RUN make": 2}
    assert dockerfile.find_secrets(text) == {"own": False}
    assert dockerfile.find_healthcheck(f"FROM base\nHEALTHCHECK CMD a \\{end}") == {"Test": ["CMD-SHELL", "a"]}


def test_a_last_backslash_alone_is_no_instruction() -> None:
    assert dockerfile.find_instructions("FROM base\n\\\n") == {"FROM base": 1}
    assert dockerfile.find_secrets("FROM base\n\\\n") == {}


HEALTHCHECK = """\
FROM base AS build
HEALTHCHECK --interval=1s CMD of the build
FROM base
HEALTHCHECK CMD ["before"]
healthcheck --interval=10s --timeout=1m30s \\
# why it is asked so late
    --start-period=500ms --start-interval=1.5s --retries=4 \\
    cmd ["python", "-c",  "a  'b' $C"]
USER 1
"""


def test_the_final_stages_last_healthcheck_is_the_images() -> None:
    assert dockerfile.find_healthcheck(HEALTHCHECK) == {
        "Test": ["CMD", "python", "-c", "a  'b' $C"],
        "Interval": 10_000_000_000,
        "Timeout": 90_000_000_000,
        "StartPeriod": 500_000_000,
        "StartInterval": 1_500_000_000,
        "Retries": 4,
    }


@pytest.mark.parametrize(
    ("words", "test"),
    [
        ("CMD curl -f  'http://a/ b' || exit 1", ["CMD-SHELL", "curl -f  'http://a/ b' || exit 1"]),
        ("CMD ['single', 'quotes']", ["CMD-SHELL", "['single', 'quotes']"]),
        ('CMD ["a", 1]', ["CMD-SHELL", '["a", 1]']),
        ("CMD --interval=1s", ["CMD-SHELL", "--interval=1s"]),
        ("--interval=0 --timeout=0s --retries=0 CMD a", ["CMD-SHELL", "a"]),
        ("NONE", ["NONE"]),
        ("--interval=1s NONE", ["NONE"]),
    ],
)
def test_a_healthcheck_has_a_command_words_for_a_shell_or_nothing(words: str, test: list[str]) -> None:
    assert dockerfile.find_healthcheck(f"FROM base\nHEALTHCHECK {words}\n") == {"Test": test}


@pytest.mark.parametrize(
    ("duration", "nanoseconds"),
    [("1h2m3s", 3723 * 10**9), ("1.5ms", 1_500_000), (".5s", 500_000_000), ("2us", 2000), ("2µs", 2000), ("7ns", 7)],
)
def test_a_duration_is_read_as_go_reads_it(duration: str, nanoseconds: int) -> None:
    assert dockerfile.find_healthcheck(f"FROM base\nHEALTHCHECK --interval={duration} CMD a") == {
        "Test": ["CMD-SHELL", "a"],
        "Interval": nanoseconds,
    }


@pytest.mark.parametrize("words", ["", "CMD", "curl", "--every=1s CMD a", "--interval=10 CMD a", "--retries=x CMD a"])
def test_a_healthcheck_that_docker_does_not_take_is_no_image(words: str) -> None:
    with pytest.raises(BuildError, match=r"^HEALTHCHECK has .*, which Docker does not take$"):
        dockerfile.find_healthcheck(f"FROM base\nHEALTHCHECK {words}\n")


def test_without_a_healthcheck_there_is_none() -> None:
    assert dockerfile.find_healthcheck(TEXT) is None
    assert dockerfile.find_healthcheck("FROM base AS other\nHEALTHCHECK CMD a\nFROM base\n") is None


def test_a_stage_has_the_healthcheck_of_the_one_it_begins_with() -> None:
    text = "FROM base AS first\nHEALTHCHECK CMD a\nFROM base as other\nFROM --platform=linux/amd64 first\nUSER 1\n"
    assert dockerfile.find_healthcheck(text) == {"Test": ["CMD-SHELL", "a"]}


@pytest.mark.parametrize(
    ("instruction", "secrets"),
    [
        ("RUN --mount=type=secret,id=pip,target=/etc/pip.conf make", {"pip": False}),
        ("RUN --network=none --mount=type=secret,id=a --mount=type=secret,id=b make", {"a": False, "b": False}),
        (
            "run --mount=type=cache,target=/c \\\n    --mount=type=secret,target=/etc/netrc \\\n    make",
            {"netrc": False},
        ),
        ("RUN --mount=type=secret,source=a,dst=/b make", {"a": False}),
        ("RUN --mount=type=secret,id=a,required make", {"a": True}),
        ("RUN --mount=type=secret,id=a,required=true,env=A make", {"a": True}),
        ("RUN --mount=type=secret,id=a,required=false make", {"a": False}),
        ("RUN --mount=type=bind,target=/x make", {}),
        ("RUN make --mount=type=secret,id=a", {}),
        ("COPY --from=x a b", {}),
        ("RUN", {}),
    ],
)
def test_the_secrets_that_instructions_mount(instruction: str, secrets: dict[str, bool]) -> None:
    assert dockerfile.find_secrets(f"FROM base\n{instruction}\nUSER 1\n") == secrets


def test_a_secret_that_one_of_two_steps_requires_is_required() -> None:
    mount = "RUN --mount=type=secret,id=a{} make\n"
    assert dockerfile.find_secrets(mount.format("") + mount.format(",required") + mount.format("")) == {"a": True}


def test_a_dockerfile_that_is_not_there_has_no_text(tmp_path: Path) -> None:
    assert dockerfile.read_dockerfile(tmp_path / "Dockerfile") == ""
    (tmp_path / "Dockerfile").write_bytes(b"FROM a # \xff")
    assert dockerfile.read_dockerfile(tmp_path / "Dockerfile") == "FROM a # \N{REPLACEMENT CHARACTER}"
