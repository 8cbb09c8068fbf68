from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from drydock.bootstrap import debian
from drydock.bootstrap.cache import Cache, cache_root
from drydock.bootstrap.processes import CommandRunner
from drydock.errors import EngineError

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
# A test's browser must not look for updates, or load anything that the test does not open.
QUIETLY = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("browser")


# For a module: no other test can run an event loop while Playwright's runs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = _executable()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=list(QUIETLY))
        yield opened
        opened.close()


def _executable() -> str:
    """The path of Chromium: from PATH, or installed by apt. Skips the test if there is neither."""
    if not any(map(shutil.which, NAMES)):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"none of {', '.join(NAMES)} is here, and only root on Debian can install one")
        try:
            debian.install_packages(
                Cache(cache_root(os.environ), CommandRunner(Console(stderr=True))), {"chromium": "chromium"}
            )
        except EngineError as error:
            pytest.skip(f"Chromium could not be installed: {error.message}")
    return next(found for name in NAMES if (found := shutil.which(name)))
