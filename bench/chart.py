"""Draws bench/serve.json as a chart for the docs: bars on a logarithmic scale, legible on light and dark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

PATH = Path(__file__).parents[1] / "docs" / "serve.svg"
WIDTH, LEFT, BAR, GAP = 760, 210, 20, 34
TOP = 64
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .note { font-size: 11px; fill: #59636e }
  .title { font-weight: 600; font-size: 14px }
  .ours { fill: #0969da } .peer { fill: #8c959f } .none { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
  .grid { stroke: #d1d9e0 } .range { stroke: #1f2328; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .ours { fill: #4493f8 } .peer { fill: #6e7681 }
    .none { stroke: #9198a1 } .grid { stroke: #3d444d } .range { stroke: #f0f6fc }
  }
"""


def fastest_peer_rate(results: dict[str, Any]) -> float:
    """The requests a second, at 32 clients, of the fastest peer that predicts; 0 if none was measured."""
    return max(
        (_rate(server) for server in results["servers"] if server["is_peer"] and "clients" in server), default=0.0
    )


def draw_chart(results: dict[str, Any]) -> str:
    """Draw the chart as SVG."""
    measured = sorted((server for server in results["servers"] if "clients" in server), key=_rate, reverse=True)
    decades = (1, math.ceil(math.log10(max(map(_rate, measured)))))
    height = TOP + GAP * len(measured) + 34
    label = "Requests a second at 32 clients, by server, on a logarithmic scale"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="8" y="22">Requests a second, 32 clients, one worker on one core</text>',
        '<text class="note" x="8" y="40">logarithmic; in brackets the time in which 99 of 100 were answered; '
        "the thin line is from the slowest round to the fastest</text>",
    ]
    for decade in range(decades[0], decades[1] + 1):
        x = _x(10**decade, decades)
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{height - 26}"/>')
        lines.append(f'<text class="note" x="{x}" y="{height - 10}" text-anchor="middle">{10**decade:,}</text>')
    for number, server in enumerate(measured):
        lines += _bar(server, TOP + GAP * number, decades)
    return "\n".join([*lines, "</svg>", ""])


def _bar(server: dict[str, Any], y: int, decades: tuple[int, int]) -> list[str]:
    load = server["clients"]["32"]
    rate, slowest = load["requests_per_second"], load["p99_ms"]["median"]
    kind = "peer" if server["is_peer"] else "ours" if server["name"].startswith("Drydock") else "none"
    x, middle = _x(rate["median"], decades), y + BAR // 2
    low, high = _x(rate["min"], decades), _x(rate["max"], decades)
    duration = f"{slowest:.1f} ms" if slowest < 100 else f"{slowest:,.0f} ms"
    return [
        f'<text x="{LEFT - 8}" y="{middle + 5}" text-anchor="end">{escape(server["name"])}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{x - LEFT:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="range" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(x, high) + 8:.1f}" y="{middle + 5}">{rate["median"]:,.0f} '
        f'<tspan class="note">({duration})</tspan></text>',
    ]


def _x(rate: float, decades: tuple[int, int]) -> float:
    room = WIDTH - LEFT - 120
    return round(LEFT + room * (math.log10(max(rate, 10 ** decades[0])) - decades[0]) / (decades[1] - decades[0]), 1)


def _rate(server: dict[str, Any]) -> float:
    return float(server["clients"]["32"]["requests_per_second"]["median"])
