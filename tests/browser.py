"""A real browser for tests of pages: Chromium, installed or named by CHROMIUM.

A page fails its test by an error in its console, an exception, or a request that leaves loopback
and its own file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

__all__ = ["OpenPage", "browser", "faults", "open_page"]

#: How long a page may take: tests say what comes, not how soon.
_PATIENCE_MS = 60_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class OpenPage(Protocol):
    """Opens a page; see the fixture ``open_page``."""

    def __call__(self, url: str, *, dark: bool = False, phone: bool = False) -> Page: ...


# Not of the session: while it is there, no other test of the process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; where there is none, the test is skipped."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("NO BROWSER: pages are not tested; install chromium, or set CHROMIUM")
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages in a fresh profile; what they did wrong fails the test at its end."""
    wrong: list[str] = []
    contexts = []

    def visit(url: str, *, dark: bool = False, phone: bool = False) -> Page:
        width, height = (390, 844) if phone else (1280, 800)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", lambda message: wrong.extend(_errors(message)))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.extend(_leaving(request)))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == [], "\n".join(wrong)


def _errors(message: ConsoleMessage) -> list[str]:
    """An error in the console; but Chromium puts there, too, what a page is told by status 400."""
    is_answer = message.text.startswith("Failed to load resource") and "400" in message.text
    return [message.text] if message.type == "error" and not is_answer else []


def _leaving(request: Request) -> list[str]:
    url = urlsplit(request.url)
    is_own = url.scheme in ("file", "data", "blob") or url.hostname in ("127.0.0.1", "localhost")
    return [] if is_own else [f"a request leaves this machine: {request.url}"]


def faults(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical for people with disabilities."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
