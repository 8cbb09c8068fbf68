"""What bench/serve.py writes about its numbers. No test judges the numbers themselves."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench import chart, serve, servers
from bench.serve import Measurement
from bench.servers import Unavailable, run_checked

ROOT = Path(__file__).parents[3]
RESULTS = json.loads(serve.RESULTS.read_text(encoding="utf-8"))
SVG = "{http://www.w3.org/2000/svg}"


def measured(rate: float, p99_ms: float) -> Measurement:
    load = {"requests_per_second": rate, "p50_ms": 0.5, "p99_ms": p99_ms, "errors": 0, "generator_busy": 0.25}
    return Measurement(
        start_seconds=0.3, rss_bytes=40_000_000, pss_bytes=30_000_000, processes=1, loads={1: load, 32: load}
    )


@pytest.fixture
def results() -> dict[str, Any]:
    """Drydock, a peer, one that cannot be had, and the ceiling."""
    ours, _, plain, bento, *_, ceiling = servers.list_servers()
    return {
        "servers": [
            serve.summarize(ours, 14_000_000, [measured(9_000, 4), measured(8_000, 6), measured(10_000, 5)]),
            serve.summarize(plain, 233_000_000, [measured(200, 300)]),
            {"name": bento.name, "is_peer": True, "unavailable": "`uv venv` ended with exit code 2"},
            serve.summarize(ceiling, 0, [measured(2_500, 20)]),
        ]
    }


def test_a_row_has_the_median_its_range_and_the_ratio_to_the_fastest_peer(results: dict[str, Any]) -> None:
    assert serve.render_markdown(results) == (
        "| server | requests/s, 1 client | 32 clients | times the fastest peer | p50, p99 in ms, 1 client | 32 clients "
        "| start, s | RSS, MB | packages, MB |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {servers.list_servers()[0].name} | 9,000 (8,000 to 10,000) | 9,000 (8,000 to 10,000) "
        "| 45.0 | 0.50, 5.00 | 0.50, 5.00 "
        "| 0.30 | 40 | 14 |\n"
        "| FastAPI + scikit-learn | 200 (200 to 200) | 200 (200 to 200) | 1.0 | 0.50, 300.00 | 0.50, 300.00 "
        "| 0.30 | 40 | 233 |\n"
        "| BentoML | not measured: `uv venv` ended with exit code 2 |  |  |  |  |  |  |  |\n"
        "| FastAPI that predicts nothing | 2,500 (2,500 to 2,500) | 2,500 (2,500 to 2,500) | 12.5 | 0.50, 20.00 "
        "| 0.50, 20.00 | 0.30 | 40 |  |\n"
    )


def test_the_picture_has_a_bar_for_whoever_was_measured_the_fastest_first(results: dict[str, Any]) -> None:
    drawn = ElementTree.fromstring(chart.draw_chart(results))  # noqa: S314 - our own
    bars = drawn.findall(f"{SVG}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "none", "peer"]
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths == sorted(widths, reverse=True)
    words = ["".join(text.itertext()) for text in drawn.findall(f"{SVG}text")]
    assert [word for word in words if " ms)" in word] == ["9,000 (5.0 ms)", "2,500 (20.0 ms)", "200 (300 ms)"]


def test_the_ceiling_is_no_peer(results: dict[str, Any]) -> None:
    assert chart.fastest_peer_rate(results) == 200


def test_a_command_that_fails_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"^`python -c .*` ended with exit code 1: no$"):
        run_checked(["python", "-c", "import sys; sys.exit('no')"], tmp_path)


def test_the_docs_and_the_picture_have_the_figures_of_the_last_run() -> None:
    assert serve.render_markdown(RESULTS) in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert chart.PATH.read_text(encoding="utf-8") == chart.draw_chart(RESULTS)


def test_each_server_has_a_lock_with_hashes() -> None:
    for server in servers.list_servers():
        assert "--hash=sha256:" in server.lock.read_text(encoding="utf-8"), server.name


def test_a_new_run_takes_the_place_of_the_old_one_in_the_docs(results: dict[str, Any]) -> None:
    old = f"Above.\n\n{serve.render_markdown({'servers': results['servers'][:1]})}\nBelow.\n\n| another | table |\n"
    assert (
        serve.replace_table(old, results)
        == f"Above.\n\n{serve.render_markdown(results)}\nBelow.\n\n| another | table |\n"
    )
