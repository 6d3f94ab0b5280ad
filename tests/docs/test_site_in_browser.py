"""The built site in a real browser: see tests/browser.py for what fails a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from browser import OpenPage, faults


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=built / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("place", "dark", "phone"),
    [
        ("", False, False),
        ("tutorials/notebook/", True, False),
        ("selection/", False, True),
    ],
)
def test_pages_load_and_can_be_read(
    place: str, dark: bool, phone: bool, address: str, open_page: OpenPage
) -> None:
    page = open_page(address + place, dark=dark, phone=phone)
    page.wait_for_selector("article h1")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert faults(page) == []


def test_search_finds_a_setting(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("guidance_scale")
    page.locator("a[href*='reference/recipe/'][href$='#generation']").wait_for()
