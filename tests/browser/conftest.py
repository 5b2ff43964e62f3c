"""A real headless Chromium."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_HOW = "install Debian's package chromium and the test requirements to run the browser tests"


def _without(what: str) -> None:
    """Tests in a browser are skipped where there is none, but never where they are asked for."""
    if os.environ.get("CI") or os.environ.get("BETAHEAD_BROWSER") == "required":
        pytest.fail(f"{what}, but browser tests are required here; {_HOW}")
    pytest.skip(f"{what}; {_HOW}")


@pytest.fixture(scope="session")
def browser() -> Generator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without("Playwright's Python package is not installed")
    if not CHROMIUM.exists():
        _without(f"{CHROMIUM} does not exist")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=_FLAGS, headless=True)
        yield chromium
        chromium.close()
