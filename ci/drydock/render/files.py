"""Writes a report in all its forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from drydock.render import html, markdown, text
from drydock.report import Release, Report, publication
from drydock.report.files import append_text, write_atomic, write_errors


def write_reports(report: Report, record: Release | None, report_dir: Path, environment: Mapping[str, str]) -> None:
    """Write the record of what was published and the report in all its forms; on GitHub its summary and outputs too.

    A run that published nothing leaves an earlier release.json as it is; one that published another image keeps it as
    previous-release.json. Each file is written even if another one fails. Raises the first error.
    """
    published = report.publication
    writes: list[Callable[[], None]] = [
        *([partial(publication.write_record, record, report_dir)] if record else []),
        lambda: write_atomic(report_dir / "report.json", report.model_dump_json(indent=2) + "\n"),
        lambda: write_atomic(report_dir / "report.txt", text.render(report)),
        lambda: write_atomic(report_dir / "summary.md", markdown.render(report)),
        lambda: write_atomic(report_dir / "report.html", html.render(report)),
    ]
    if published and (path := environment.get("GITHUB_OUTPUT")):
        writes.append(partial(append_text, Path(path), f"digest={published.digest}\nimage={published.reference}\n"))
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        writes.append(lambda: append_text(Path(path), markdown.render(report)))
    broken: list[Exception] = []
    for each in writes:
        try:
            with write_errors():
                each()
        except Exception as error:
            broken.append(error)
    if broken:
        raise broken[0]
