"""Pictures of the pages, in both themes, as small as they can be read."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page

Theme = Literal["light", "dark"]
THEMES: Sequence[Theme] = ("light", "dark")
WIDE, NARROW = 1280, 390
_COLOURS = 256
# A picture has no scrollbar, so none needs its place. Our policy lets no such style in, so for the
# pictures it is put out of force.
_STYLE = "html { scrollbar-gutter: auto !important; }"


@dataclass(frozen=True, slots=True)
class View:
    """A picture to take.

    Args:
        name: of its file.
        path: of the page, below ``/admin``; ``…`` for the first saga of that list.
        width: of the window.
        height: that is shown at most.
        open: what is clicked before.
    """

    name: str
    path: str
    width: int = WIDE
    height: int = 900
    open: str | None = None


VIEWS = (
    View("sagas", "/sagas"),
    View("saga", "/sagas?type=order&status=COMPLETED…", height=1300),
    View("saga-undone", "/sagas?type=order&status=FAILED&step=ship…", height=1300),
    View("saga-suspended", "/sagas?type=payment&status=SUSPENDED…", height=1300),
    View("interventions", "/interventions"),
    View("past", "/interventions/past"),
    View("types", "/types"),
    View("type", "/types/payment?span=15m", height=1700),
    View("health", "/health"),
    View("workers", "/workers"),
    View("schedules", "/schedules"),
    View("sagas-narrow", "/sagas", NARROW, 844),
    View("saga-narrow", "/sagas?type=order&status=FAILED&step=ship…", NARROW, 1400),
    View("interventions-narrow", "/interventions", NARROW, 844),
)


def log_in(page: Page, base: str, name: str, password: str) -> None:
    """Log in as somebody.

    Args:
        page: of a fresh browser.
        base: the dashboard's address, with ``/admin``.
        name, password: whose.
    """
    page.goto(f"{base}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}/sagas")


def take(
    browser: Browser,
    base: str,
    login: tuple[str, str],
    views: Sequence[View],
    write: Callable[[str, bytes], object],
) -> None:
    """Take pictures in both themes.

    Args:
        browser: that runs.
        base: the dashboard's address, with ``/admin``.
        login: name and password.
        views: what of.
        write: gets each picture's name and content.
    """
    for theme in THEMES:
        context = browser.new_context(color_scheme=theme, reduced_motion="reduce", bypass_csp=True)
        page = context.new_page()
        page.set_viewport_size({"width": WIDE, "height": 900})
        page.goto(f"{base}/login")
        write(f"login-{theme}", _shrunk(page.screenshot(style=_STYLE)))
        log_in(page, base, *login)
        for view in views:
            page.set_viewport_size({"width": view.width, "height": min(view.height, 900)})
            _open(page, base, view.path)
            if view.open:
                page.locator(view.open).first.click()
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size(
                {"width": view.width, "height": max(min(height, view.height), 500)}
            )
            if page.locator("#live").count():
                page.wait_for_selector('.live[data-state="on"]')
            write(f"{view.name}-{theme}", _shrunk(page.screenshot(style=_STYLE)))
        context.close()


def _open(page: Page, base: str, path: str) -> None:
    listed = path.removesuffix("…")
    page.goto(f"{base}{listed}")
    if listed != path:
        page.locator(".saga-row a").first.click()
        page.wait_for_url(f"{base}/sagas/*")


def _shrunk(picture: bytes) -> bytes:
    """The same picture with few colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    # Grounds keep their colours exactly; the edges of letters share what is left.
    counted = sorted(image.getcolors(1 << 24) or [], reverse=True)[: _COLOURS // 2]
    rest = image.quantize(_COLOURS - len(counted), Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for _, colour in counted for value in colour] + rest)
    few = image.quantize(palette=palette, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few.save(written, "PNG", optimize=True)
    return written.getvalue()
