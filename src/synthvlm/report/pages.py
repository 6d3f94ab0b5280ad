"""Templates of HTML pages, in which every value is inert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.safe_text import for_html

if TYPE_CHECKING:
    import jinja2

__all__ = ["page_environment"]


def page_environment(*folders: tuple[str, str]) -> jinja2.Environment:
    """An environment for templates from folders, each a package and a path in it."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(*folder) for folder in folders]),
        autoescape=True,
        finalize=for_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
