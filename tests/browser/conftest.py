"""A real headless Chromium, and pages opened in it that are watched for what they must not do."""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from report_pages import comparison, fixed_run, learned_run

from betahead.report.written import write_report

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


@dataclass
class Opened:
    """A page in the browser.

    Args:
        page: of Playwright.
        complaints: errors and warnings of its console.
        asked: addresses that it asked for, besides its own, also those that the browser refused.
        reached: those of them that would have reached the network.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)

    @property
    def quiet(self) -> bool:
        """Whether it neither complained nor asked for anything."""
        return not (self.complaints or self.asked or self.reached)


def _without(what: str) -> None:
    """Tests in a browser are skipped where there is none, but never where they are asked for."""
    if os.environ.get("CI") or os.environ.get("BETAHEAD_BROWSER") == "required":
        pytest.fail(f"{what}, but browser tests are required here; {_HOW}")
    pytest.skip(f"{what}; {_HOW}")


# Playwright keeps an event loop running, which other tests of the process must not find.
@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def opened(browser: Any) -> Generator[Callable[..., Opened]]:
    """Opens a file at a width; every request but that for the file itself is refused and kept."""
    contexts: list[Any] = []

    def open_(path: Path, width: int = 1440, *, scheme: str = "light") -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Opened(page=context.new_page())
        address = path.absolute().as_uri()

        def route(asked: Any) -> None:
            if asked.request.url == address:
                asked.continue_()
            else:
                found.reached.append(asked.request.url)
                asked.abort()

        context.route("**/*", route)
        found.page.on("request", lambda one: one.url == address or found.asked.append(one.url))
        found.page.on("console", lambda one: one.type in ("error", "warning") and found.complaints.append(one.text))
        found.page.on("pageerror", lambda one: found.complaints.append(str(one)))
        found.page.goto(address)
        found.page.wait_for_function("document.documentElement.dataset.ready === 'true'", timeout=60_000)
        return found

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="package")
def desk(opened: Callable[..., Opened], pages: dict[str, Path]) -> Callable[[str], Opened]:
    """A page as it is seen at a desk, opened once for all tests that only look and click."""
    return cache(lambda kind: opened(pages[kind]))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run, of two runs, and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    learned, fixed, compared = (make(tmp_path_factory.getbasetemp()) for make in (learned_run, fixed_run, comparison))
    given = {"run": [learned], "runs": [learned, fixed], "comparison": [compared]}
    return {name: write_report(paths, folder / f"{name}.html").path for name, paths in given.items()}
