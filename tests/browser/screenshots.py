"""``python -m tests.browser.screenshots``: pictures of all pages in docs/screenshots, of a demo."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium, find_chromium
from tests.browser.pictures import VIEWS, log_in, take

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "screenshots"
LIFE_SECONDS = 240.0
"""How long the demo goes on before the pictures, so that there is something of everything."""
NOTES = (
    ("completed", "The mailbox is gone; told the customer by phone."),
    ("completed", "The customer wrote from another address, confirmation sent by hand."),
    ("failed", "The order was withdrawn; the amount was released at the provider."),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that stays: its dashboard's address, with ``/admin``, and its operator's login."""

    url: str
    login: tuple[str, str]


@contextmanager
def demo() -> Iterator[Demo]:
    """Run orders and payments, and go on.

    Raises:
        RuntimeError: it did not come so far.
    """
    with tempfile.TemporaryDirectory(prefix="outbox-pictures-") as parent:
        process = subprocess.Popen(
            [sys.executable, "-m", "steps.demo", "--stay", "--saga", "order",
             "--directory", f"{parent}/demo"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        said = ""
        try:
            for line in process.stdout:
                said += line
                if line.startswith("Ctrl-C"):
                    break
            found = re.search(r"dashboard: (\S+)\n +(\S+) +(\S+) ", said)
            if found is None or process.poll() is not None:
                raise RuntimeError(f"the demo ended:\n{said}")
            yield Demo(found[1], (found[2], found[3]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def decide(browser: Browser, shown: Demo) -> None:
    """Resolve a few suspended payments, so that there are past resolutions."""
    page = browser.new_page()
    log_in(page, shown.url, *shown.login)
    for status, note in NOTES:
        _resolve(page, shown.url, status, note)
    page.context.close()


def _resolve(page: Page, url: str, status: str, note: str) -> None:
    page.goto(f"{url}/interventions")
    link = page.get_by_role("link", name="Decide")
    if link.count() < 3:  # some are to stay for the pictures
        return
    link.first.click()
    page.locator("#act-resolve summary").click()
    form = page.locator("#act-resolve form")
    form.get_by_label(status).check()
    form.get_by_label("Note").fill(note)
    form.get_by_role("button", name="Resolve").click()
    page.wait_for_selector(".flash.good")


def main() -> int:
    """Take all pictures anew.

    Returns:
        The exit code.
    """
    program = find_chromium()
    if program is None:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 2
    with demo() as shown:
        time.sleep(LIFE_SECONDS)
        with chromium(program) as browser:
            decide(browser, shown)
            TARGET.mkdir(parents=True, exist_ok=True)
            for old in TARGET.glob("*.png"):
                old.unlink()
            take(
                browser,
                shown.url,
                shown.login,
                VIEWS,
                lambda name, picture: (TARGET / f"{name}.png").write_bytes(picture),
            )
    taken = sorted(TARGET.glob("*.png"))
    size = sum(picture.stat().st_size for picture in taken)
    print(f"{len(taken)} pictures in {TARGET.relative_to(ROOT)}, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
