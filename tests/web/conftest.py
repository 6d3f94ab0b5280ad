"""Fixtures of tests with a browser."""

from browser import browser, open_page

__all__ = ["browser", "open_page"]
