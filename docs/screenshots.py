"""Take the pictures of docs/images: python docs/screenshots.py RUN [--to docs/images].

RUN is a finished run; those of the docs are of `synthvlm run tiny --limit 240`. It needs Chromium,
and playwright, which the tests bring along.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import synthvlm

WIDTH, HEIGHT = 1280, 800
_QUALITY = 82


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "images")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for file in take(browser, options.run, options.to):
            print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
        browser.close()


def take(browser: Browser, run: Path, folder: Path) -> Iterator[Path]:
    """Take the pictures of a run, one after another.

    Args:
        browser: Chromium.
        run: A run with a report and embeddings.
        folder: Where they are written, as WebP.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(browser, (run / "report/index.html").resolve().as_uri()) as page:
        yield _save(page, folder / "report.webp")
    with synthvlm.view(run) as server:
        with _opened(browser, server.address) as page:
            page.wait_for_selector(".cell img")
            yield _save(page, folder / "explorer.webp")
            page.locator(".cell").nth(1).click()
            page.wait_for_selector("#pair[open]")
            yield _save(page, folder / "explorer-pair.webp")
            page.keyboard.press("Escape")
            page.locator("#tab-map").click()
            compute = page.get_by_role("button", name="Compute the map")
            compute.or_(page.locator("#map")).first.wait_for()
            if compute.is_visible():
                compute.click()
            page.wait_for_selector("#map", timeout=600_000)
            page.locator("#map-color").select_option("clip_score")
            page.wait_for_selector(".legend svg.ramp")
            yield _save(page, folder / "explorer-map.webp")
        with _opened(browser, server.address, dark=True, phone=True) as page:
            page.wait_for_selector(".cell img")
            yield _save(page, folder / "explorer-phone.webp")


@contextmanager
def _opened(browser: Browser, url: str, dark: bool = False, phone: bool = False) -> Iterator[Page]:
    width, height = (390, 700) if phone else (WIDTH, HEIGHT)
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def _save(page: Page, file: Path) -> Path:
    page.wait_for_timeout(500)  # until images are decoded
    Image.open(io.BytesIO(page.screenshot())).save(file, quality=_QUALITY, method=6)
    return file


if __name__ == "__main__":
    main()
