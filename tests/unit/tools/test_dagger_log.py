from __future__ import annotations

import pytest

from drydock.tools import dagger_log


def test_a_failed_instruction_shows_what_it_printed_and_not_what_others_did() -> None:
    log = """\
11  : [0.1s] | Collecting numpy
12  : \x1b[1mRUN pip install\x1b[0m
12  : [0.3s] | ERROR: No matching distribution found for nonesuch
11  : [0.4s] | Installing numpy
12  : [1m2.5s] | exit status 1
12  : RUN pip install ERROR [0.5s]
12  : ! process "/bin/sh -c pip install nonesuch" did not complete successfully: exit code: 1
11  : RUN pip install numpy ERROR [0.5s]
11  : ! process "/bin/sh -c pip install numpy" did not complete successfully: exit code: 137: context canceled
9   : Container.export ERROR [0.6s]
9   : ! process "/bin/sh -c pip install nonesuch" did not complete successfully: exit code: 1
"""
    assert dagger_log.find_failed_output(log) == "ERROR: No matching distribution found for nonesuch\nexit status 1"
    assert dagger_log.find_failed_output("") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("INFO downloading\nFATAL\tno  space left [traceparent:00-11]\n \n", "FATAL no space left"),
        ("\n \n", "no message"),
        ("", "no message"),
        ("b\n" + "a" * 400, "a" * 300),
    ],
)
def test_a_tools_last_words_are_cut_to_one_line(words: str, said: str) -> None:
    assert dagger_log.get_last_line(words) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("failed: x [traceparent:00-11]", "failed: x"),
        ("\n  a\t b\nc", " a b"),
        ("", "no message"),
        ("a" * 400, "a" * 300),
    ],
)
def test_the_engines_words_are_cut_to_one_line(words: str, said: str) -> None:
    assert dagger_log.get_first_line(words) == said


def test_what_was_said_is_not_said_again() -> None:
    assert dagger_log.skip_first_line("the one line") == ""
    assert dagger_log.skip_first_line("the first\nthe second\nthe third\n") == "the second\nthe third"


def test_a_tail_has_no_tracing_numbers() -> None:
    assert dagger_log.get_tail("a [traceparent:00-11]\nb") == "a\nb"
    assert dagger_log.get_tail("\n".join(map(str, range(100)))).splitlines() == list(map(str, range(80, 100)))


def test_a_log_has_no_line_of_a_secret_and_no_password_of_an_address_in_one() -> None:
    configuration = "[global]\nindex-url = https://ana:p%40ss-5b1f@pypi.example/simple\nno-index = true\n"
    log = """\
12  : [0.3s] | Could not load '/etc/pip.conf', line: 2 'index-url = https://ana:p%40ss-5b1f@pypi.example/simple\\n'
12  : [0.4s] | 401 for p@ss-5b1f, and for p%40ss-5b1f
12  : [0.5s] | the token is canary-77c0, and true is no secret
"""
    assert (
        dagger_log.mask_secrets(log, [configuration, "canary-77c0\n", "true"])
        == """\
12  : [0.3s] | Could not load '/etc/pip.conf', line: 2 '***\\n'
12  : [0.4s] | 401 for ***, and for ***
12  : [0.5s] | the token is ***, and true is no secret
"""
    )
    assert dagger_log.mask_secrets(log, []) == log
