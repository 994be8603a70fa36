"""What holds for every page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from steps.expected import REFUSED_DOMAIN
from tests.browser.chromium import find_chromium
from tests.browser.conftest import Shop, Visitor, Visits
from tests.browser.pictures import NARROW, View, take
from tests.web.conftest import PASSWORD
from tests.web.world import MARKUP

pytestmark = pytest.mark.timeout(120)

WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
# What a theme can change.
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
STICKING_OUT = """(width) => {
    if (document.documentElement.scrollWidth <= width) return [];
    const scrolls = (one) => one !== document.body && one !== document.documentElement &&
        (getComputedStyle(one).overflowX !== "visible" || scrolls(one.parentElement));
    return [...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > width && !scrolls(one.parentElement))
        .map((one) => one.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="module")
def paths(shop: Shop) -> list[str]:
    """Every page, with something on it."""
    sagas = vars(shop.sagas)
    kinds = ("failed", "suspended", "marked", "running")
    return [
        "/sagas",
        "/sagas?status=FAILED&status=SUSPENDED&state=x",
        *[f"/sagas/{sagas[kind]}" for kind in kinds],
        "/interventions",
        "/interventions?type=order&step=mail&error=Boom",
        "/interventions/past",
        "/types",
        "/types/payment?span=1h",
        "/types/purchase",
        "/health",
        "/workers",
        "/schedules",
        "/nowhere",
    ]


def every_page(visitor: Visitor, paths: list[str]) -> Iterator[tuple[str, Page]]:
    """Each page, with all that can be folded out."""
    for path in paths:
        visitor.page.goto(f"{visitor.base}{path}")
        visitor.page.evaluate(
            "for (const one of document.querySelectorAll('details')) {"
            " one.removeAttribute('name'); one.open = true; }"
        )
        yield path, visitor.page
    # That a page is missing is told by the console, too.
    visitor.troubles[:] = [t for t in visitor.troubles if "404" not in t]


@pytest.mark.parametrize(("theme", "rules"), [("light", WCAG), ("dark", COLOURS)])
def test_axe_finds_no_violation(
    visit: Visits, paths: list[str], theme: str, rules: dict[str, Any]
) -> None:
    axe, options = Axe(), {"runOnly": rules, "resultTypes": ["violations"], "preload": False}
    found = []
    login = visit(color_scheme=theme)
    login.open("/login")
    found += [("/login", axe.run(login.page, options=options))]
    for path, page in every_page(visit("ann", color_scheme=theme), paths):
        found += [(path, axe.run(page, options=options))]
    assert all(result.response["passes"] for _, result in found), "axe looked at nothing"
    violations = [
        f"{path}: {one['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for path, result in found
        for one in result.response["violations"]
        for node in one["nodes"]
    ]
    assert violations == []


def test_markup_shows_as_text_wherever_users_write(visit: Visits, paths: list[str]) -> None:
    visitor = visit("ann")
    seen = []
    for path, page in every_page(visitor, paths):
        assert page.locator("img, main script, main iframe").count() == 0, path
        if MARKUP in page.locator("main").inner_text():
            seen.append(path)
    # In a key, an input, a result, an error, a note, a signal, a schedule.
    assert len(seen) >= 5, seen
    page = visitor.open("/sagas")
    page.get_by_label("Key or id").fill(MARKUP)
    page.keyboard.press("Enter")
    expect(page.locator(".saga-row")).to_have_count(1)
    expect(page.locator(".saga-row .key")).to_contain_text(MARKUP)
    assert page.get_by_label("Key or id").input_value() == MARKUP
    # The policy is in force: a script that stood in the page would not run.
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = document.createElement("div");
            image.innerHTML = "<img src=x onerror='window.ran = true'>";
            document.body.append(image);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    refused = [t for t in visitor.troubles if "Content Security Policy" in t]
    assert len(refused) >= 2, visitor.troubles
    visitor.troubles[:] = [t for t in visitor.troubles if t not in refused and "404" not in t]


def test_no_page_scrolls_sideways_on_a_phone(visit: Visits, paths: list[str]) -> None:
    visitor = visit("ann", viewport={"width": NARROW, "height": 844})
    wide = []
    for path, page in every_page(visitor, paths):
        # Elements that stick out, without those in boxes that scroll by themselves.
        wide += [(path, one) for one in page.evaluate(STICKING_OUT, NARROW)]
    assert wide == []


def test_the_theme_is_the_systems_until_it_is_chosen_and_then_kept(visit: Visits) -> None:
    page = visit("ann", color_scheme="light").open("/sagas")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.emulate_media(color_scheme="dark")
    dark = ground()
    assert light != dark
    page.emulate_media(color_scheme="light")
    button = page.get_by_role("button", name="Theme: auto. Change to dark")
    button.click()
    assert ground() == dark
    page.reload()
    assert ground() == dark
    page.get_by_role("button", name="Theme: dark. Change to light").click()
    page.emulate_media(color_scheme="dark")
    assert ground() == light
    page.get_by_role("button", name="Theme: light. Change to auto").click()
    assert ground() == dark


def test_the_keyboard_alone_is_enough(shop: Shop, visit: Visits, key: str) -> None:
    saga = shop.pay(key, email=f"nobody@{REFUSED_DOMAIN}")
    page = visit().open("/login")
    press = page.keyboard.press

    def focused() -> str:
        """What has the focus, which has to be seen."""
        shown = page.evaluate(
            """() => {
                const one = document.activeElement, style = getComputedStyle(one);
                return { words: (one.ariaLabel || one.innerText || one.name || "").trim(),
                    outline: style.outlineStyle, width: parseFloat(style.outlineWidth) };
            }"""
        )
        assert shown["outline"] != "none", shown
        assert shown["width"] >= 2, shown
        return str(shown["words"])

    def tab_to(words: str, most: int = 60) -> None:
        for _ in range(most):
            press("Tab")
            if focused().startswith(words):
                return
        raise AssertionError(f"no {words!r} within {most} presses of Tab")

    assert focused() == "name"
    page.keyboard.type("ann")
    press("Tab")
    page.keyboard.type(PASSWORD)
    press("Enter")
    page.wait_for_url(f"{shop.base}/sagas")
    press("Tab")
    assert focused() == "Skip to the content"
    tab_to("Interventions")
    press("Enter")
    page.wait_for_url(f"{shop.base}/interventions")
    expect(page.locator(".intervention", has_text=key)).to_be_visible()
    tab_to(key)
    press("Enter")
    page.wait_for_url(f"{shop.base}/sagas/{saga}")
    press("Tab")
    press("Enter")  # skips the bar
    tab_to("Resolve")
    press("Enter")
    press("Tab")
    press("Space")  # completed
    press("Tab")
    assert focused() == "note"
    page.keyboard.type("by keyboard")
    press("Enter")
    expect(page.locator(".head.saga")).to_have_attribute("data-status", "COMPLETED")


def test_it_all_works_without_javascript(shop: Shop, visit: Visits, key: str) -> None:
    saga = shop.pay(key, email=f"nobody@{REFUSED_DOMAIN}")
    shop.wait_until(saga, "SUSPENDED")
    page = visit("ann", java_script_enabled=False).open("/sagas")
    page.get_by_label("Type").select_option("payment")
    page.get_by_label("Key or id").fill(key)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name=key).click()
    page.wait_for_url(f"{shop.base}/sagas/{saga}")
    page.locator("#act-resolve summary").click()
    form = page.locator("#act-resolve form")
    form.get_by_label("failed").check()
    form.get_by_label("Note").fill("without a script")
    form.get_by_role("button", name="Resolve").click()
    expect(page.locator(".head.saga")).to_have_attribute("data-status", "FAILED")
    expect(page.locator("#saga-more")).to_contain_text("without a script")


def test_pictures_are_taken_in_both_themes(shop: Shop, visit: Visits) -> None:
    taken: dict[str, bytes] = {}
    browser = visit().context.browser
    assert browser is not None
    assert find_chromium() is not None
    take(browser, shop.base, ("ann", PASSWORD), [View("workers", "/workers")], taken.__setitem__)
    assert set(taken) == {"login-light", "login-dark", "workers-light", "workers-dark"}
    assert len(set(taken.values())) == 4
    for picture in taken.values():
        assert picture.startswith(b"\x89PNG")
        assert 2_000 < len(picture) < 100_000
