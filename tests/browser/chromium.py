"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright


def find_chromium() -> str | None:
    """The program, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A running browser without a screen.

    Args:
        program: where it is.
    """
    # Its sandbox does not work for root, and here it meets pages of ours only.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*arguments, "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()
