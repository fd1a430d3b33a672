"""A browser for the end-to-end tests; see `e2e.page.browser`."""

from __future__ import annotations

from e2e.page.browser import browser_page


__all__ = ["browser_page"]
