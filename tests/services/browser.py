"""A browser of this machine, to look at pages as people do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoBrowserHereError(RuntimeError):
    """No browser was found on the PATH."""


@contextmanager
def start_browser() -> Iterator[Browser]:
    """A browser without a window; raises `NoBrowserHereError` where none is installed."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        raise NoBrowserHereError(f"none of {', '.join(NAMES)} is on the PATH")
    with sync_playwright() as playwright:
        # A sandbox needs rights that root in a container lacks; what is shown are pages of our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
