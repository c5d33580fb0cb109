"""A browser for the tests that need one."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


def _missing(reason: str) -> None:
    """No browser test can run: on the build server that is a failure, elsewhere a skip that says what to do."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that uses a browser has the mark `browser`."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        _missing("no Chromium found: install one (apt-get install chromium), or set CHROMIUM to the path of a browser")
    return str(found)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[object]:
    """One browser per module: while Playwright runs, asyncio.run is refused in this thread."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed: pip install playwright (its own browsers are not needed)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield running
        running.close()


@contextmanager
def leaving(complaints: list[str]) -> Iterator[None]:
    """Within it a page is left for another: Gradio complains that its connection is gone, if it was not closed yet, and only that is forgiven."""
    before = len(complaints)
    yield
    complaints[before:] = [said for said in complaints[before:] if "AbortError" not in said and "errored out" not in said]


@contextmanager
def visits(browser: Any, desktop: Any, make: Callable[[Any], Any]) -> Iterator[Callable[..., Any]]:
    """Pages that `make` opens in `desktop`, or in a context with settings of its own; none of them may complain or ask a stranger for anything."""
    made: list[Any] = []

    def visit(**settings: Any) -> Any:
        made.append(make(browser.new_context(**settings) if settings else desktop))
        return made[-1]

    yield visit
    for one in made:
        complaints = list(one.complaints)  # closing a page makes Gradio complain that its connection is gone
        if one.context is desktop:
            one.page.close()
        else:
            one.context.close()
        assert one.strangers == []
        assert complaints == []
