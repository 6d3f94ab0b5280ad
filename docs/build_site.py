"""Build the documentation as a site, into site/: python docs/build_site.py, or make docs.

Pages are written for GitHub. They are copied to build/pages, with their links to each other
changed to the places that they have there; then Zensical builds them, and every warning (a link
or an anchor that leads nowhere) is an error. Nothing is fetched.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "zensical.toml"
#: Pages that lie outside of docs/, and where the site has them.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "experiments/claim/README.md": "claim.md",
}
#: Code, in which nothing is a link; links.
CODE_OR_LINK = re.compile(r"^```.*?^```$|`[^`\n]+`|\]\((?P<link>[^)\s]+)\)", re.M | re.S)


def main() -> None:
    """Build the site."""
    sys.exit(build(ROOT))


def build(folder: Path) -> int:
    """Build the site in a folder, from the pages of this one.

    Args:
        folder: Where `build/pages` and `site` are written.

    Returns:
        An exit status.
    """
    pages = folder / "build/pages"
    shutil.rmtree(pages, ignore_errors=True)
    copy_pages(pages)
    differ = sorted(set(page_names(pages)) ^ set(nav_pages(CONFIG)))
    if differ:
        sys.exit(f"zensical.toml: nav and pages differ in: {', '.join(differ)}")
    if folder != ROOT:
        shutil.copy(CONFIG, folder)
    return strictly(folder)


def strictly(folder: Path) -> int:
    """Let Zensical build the pages of a folder; the exit status is not 0 if it warns."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, check=False).returncode


def copy_pages(to: Path) -> None:
    """Copy all pages and pictures to a folder, with their links changed."""
    places = site_places()
    for name, place in places.items():
        source, target = ROOT / name, to / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            text = notebook_page(json.loads(source.read_text("utf-8")))
        elif source.suffix == ".md":
            text = source.read_text("utf-8")
        else:
            shutil.copyfile(source, target)
            continue
        target.write_text(with_links(text, name, places), "utf-8")


def site_places() -> dict[str, str]:
    """Where the site has each file, both as paths with slashes: from the root, from the pages."""
    places = dict(OUTSIDE)
    for path in sorted((ROOT / "docs").rglob("*")):
        place = path.relative_to(ROOT / "docs")
        if path.suffix in {".md", ".png", ".svg", ".webp", ".css", ".js"}:
            places[f"docs/{place.as_posix()}"] = place.as_posix()
        elif path.suffix == ".ipynb":
            places[f"docs/{place.as_posix()}"] = place.with_suffix(".md").as_posix()
    return places


def with_links(text: str, name: str, places: dict[str, str]) -> str:
    """A page with the links that it has in the site.

    Raises:
        SystemExit: A link leads to no page of the site.
    """

    def changed(match: re.Match[str]) -> str:
        link = match["link"]
        if link is None or link.startswith(("http://", "https://", "mailto:", "#")):
            return match[0]
        path, mark, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(name), path))
        if target not in places:
            sys.exit(f"{name}: links to {link}, of which the site has no page")
        place = os.path.relpath(places[target], os.path.dirname(places[name]) or ".")
        return f"]({place}{mark}{anchor})"

    return CODE_OR_LINK.sub(changed, text)


def page_names(pages: Path) -> Iterator[str]:
    """Paths of the pages in a folder."""
    for path in pages.rglob("*.md"):
        yield path.relative_to(pages).as_posix()


def nav_pages(config: Path) -> Iterator[str]:
    """Paths of the pages that the navigation names."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        else:
            for part in node.values() if isinstance(node, dict) else node:
                yield from walk(part)

    return walk(tomllib.loads(config.read_text("utf-8"))["project"]["nav"])


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: its texts, its code, and what each cell showed."""
    blocks = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        blocks += filter(None, map(_output, cell["outputs"]))
    return "\n\n".join(blocks) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        # In one line, so that nothing in it is read as Markdown.
        html = " ".join("".join(data["text/html"]).split("\n"))
        return f'<div class="notebook-output">{html}</div>'
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            image = base64.b64encode(base64.b64decode("".join(data[kind]))).decode()
            return f'<img class="notebook-output" alt="" src="data:{kind};base64,{image}">'
    text = "".join(data.get("text/plain", "")).rstrip()
    return f"```text\n{text}\n```" if text else ""


if __name__ == "__main__":
    main()
