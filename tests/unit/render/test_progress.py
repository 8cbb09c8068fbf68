from __future__ import annotations

import io

from rich.console import Console

from drydock.render.progress import ConsoleProgress


def told(*, terminal: bool) -> str:
    words = io.StringIO()
    console = Console(file=words, force_terminal=terminal, width=80)
    with ConsoleProgress(console) as live:
        live.stage_started("build")
        live.stage_started("scan")
        live.stage_finished("build", 41.4, broken=False)
        live.stage_finished("scan", 2.0, broken=True)
    return words.getvalue()


def test_where_nobody_watches_each_stage_has_its_two_lines() -> None:
    assert (
        told(terminal=False)
        == """\
  build             …
  scan              …
  build             took 41.4 s
  scan              broke after 2.0 s
"""
    )


def test_on_a_terminal_what_has_ended_stays_and_what_runs_is_wiped() -> None:
    words = told(terminal=True)
    assert "  build             took 41.4 s" in words
    assert "  scan              broke after 2.0 s" in words
    assert "…" not in words
