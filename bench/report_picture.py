"""Draws docs/report.png from the page of a run: `python -m bench.report_picture dist/iris-classifier/report.html`.

On the left a desktop by day, on the right a phone by night. It needs Chromium on PATH.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

PATH = Path(__file__).parents[1] / "docs" / "report.png"
NAMES = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 1000
DESKTOP, PHONE = (1280, HEIGHT), (400, HEIGHT)
SCALE = 1
FRAME = """<!doctype html>
<style>
body {{ margin: 0; padding: 20px; display: inline-flex; gap: 20px; background: #8b9099 }}
img {{ height: {height}px; border-radius: 6px }}
</style>
<body>{images}</body>"""


def main() -> None:
    """Take both screenshots, and put them side by side."""
    parser = argparse.ArgumentParser(prog="python -m bench.report_picture")
    parser.add_argument("page", type=Path, help="the report.html of a run")
    page: Path = parser.parse_args().page
    executable = next((found for name in NAMES if (found := shutil.which(name))), None)
    if executable is None:
        sys.exit("bench      there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        address = page.resolve().as_uri()
        shots = [_shot(browser, address, DESKTOP, "light"), _shot(browser, address, PHONE, "dark")]
        PATH.write_bytes(_side_by_side(browser, shots))
        browser.close()


def _shot(browser: Browser, address: str, size: tuple[int, int], colors: Literal["light", "dark"]) -> bytes:
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colors, device_scale_factor=SCALE)
    page.goto(address)
    return page.screenshot()


def _side_by_side(browser: Browser, shots: list[bytes]) -> bytes:
    images = "".join(f'<img src="data:image/png;base64,{base64.b64encode(shot).decode()}">' for shot in shots)
    page = browser.new_page(viewport={"width": 1800, "height": 1100}, device_scale_factor=SCALE)
    page.set_content(FRAME.format(height=HEIGHT, images=images))
    return page.locator("body").screenshot()


if __name__ == "__main__":
    main()
