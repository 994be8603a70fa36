"""Payments, as an operator and a viewer see them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from steps.expected import REFUSED_DOMAIN
from tests.browser.conftest import Shop, Visits
from tests.browser.pictures import NARROW
from tests.web.conftest import PASSWORD
from tests.web.world import MARKUP

pytestmark = pytest.mark.timeout(90)


def row_of(page: Page, saga: str) -> Page:
    return page.locator(f'.saga-row[data-id="{saga}"]')


def mark(page: Page) -> None:
    """Leaves a mark that a reload would wipe out."""
    page.evaluate("window.neverReloaded = true")


def test_a_payment_that_the_api_starts_comes_to_its_end_before_ones_eyes(
    shop: Shop, visit: Visits, key: str
) -> None:
    page = visit("ann").open_live("/sagas")
    mark(page)
    with shop.worker_stopped():
        saga = shop.pay(key)
        row = row_of(page, saga)
        expect(row).to_have_attribute("data-status", "CREATED")
        expect(row).to_contain_text(key)
    expect(row).to_have_attribute("data-status", "COMPLETED")
    expect(row).to_contain_text("COMPLETED")
    assert page.evaluate("window.neverReloaded")
    assert shop.pay(key) == saga, "the same key is the same payment"


def test_nothing_moves_while_rows_change(shop: Shop, visit: Visits, key: str) -> None:
    phone = {"viewport": {"width": NARROW, "height": 844}}
    pages = [visit("ann", **options).open_live("/sagas") for options in ({}, phone)]
    with shop.worker_stopped():
        sagas = [shop.pay(f"{key}-0")]
        for page in pages:
            expect(row_of(page, sagas[0])).to_be_visible()
            page.evaluate("window.shifts.length = 0")
        sagas += [shop.pay(f"{key}-{n}-{'long' * n}") for n in range(1, 5)]
        sagas.append(shop.pay(f"{key}-5", payment_method="pm_card_chargeDeclined"))
        for page in pages:
            expect(row_of(page, sagas[-1])).to_have_attribute("data-status", "CREATED")
    for page in pages:
        for saga in sagas[:-1]:
            expect(row_of(page, saga)).to_have_attribute("data-status", "COMPLETED")
        expect(row_of(page, sagas[-1])).to_have_attribute("data-status", "FAILED")
        assert page.evaluate("window.shifts") == []


def test_nothing_moves_while_a_saga_goes_its_way(shop: Shop, visit: Visits, key: str) -> None:
    with shop.worker_stopped():
        saga = shop.pay(key)
        page = visit("ann").open_live(f"/sagas/{saga}")
        page.evaluate("window.shifts.length = 0")
    expect(page.locator(".head.saga")).to_have_attribute("data-status", "COMPLETED")
    expect(page.locator("#saga-now .note.good")).to_be_visible()
    assert page.evaluate("window.shifts") == []


def test_one_that_fails_shows_its_undo_in_the_timeline(shop: Shop, visit: Visits, key: str) -> None:
    with shop.worker_stopped():
        saga = shop.pay(key, payment_method="pm_card_chargeDeclined")
        page = visit("ann").open_live(f"/sagas/{saga}")
        mark(page)
        expect(page.locator(".head.saga")).to_have_attribute("data-status", "CREATED")
    expect(page.locator(".head.saga")).to_have_attribute("data-status", "FAILED")
    timeline = page.locator(".timeline")
    expect(timeline.locator(".moment.o-rejected")).to_contain_text("authorize")
    undone = timeline.locator(".moment.k-compensation.o-done")
    expect(undone).to_contain_text("create_intent")
    expect(undone).to_be_visible()
    # The diagram and the chart of attempts show it too.
    expect(page.locator("#saga-diagram .s-undone")).to_have_count(1)
    expect(page.locator("#saga-gantt .g-bar.undone")).to_have_count(1)
    expect(page.locator("#saga-data")).to_contain_text("declined")
    assert page.evaluate("window.neverReloaded")
    assert [intent["status"] for intent in shop.world.sandbox.intents() if
            intent["metadata"]["saga_id"] == saga] == ["canceled"]  # fmt: skip


def test_a_suspended_one_is_resolved_with_a_note(shop: Shop, visit: Visits, key: str) -> None:
    queue = visit("ann").open_live("/interventions")
    saga = shop.pay(key, email=f"nobody@{REFUSED_DOMAIN}")
    waiting = queue.locator(".intervention", has_text=key)
    expect(waiting).to_contain_text("550")
    expect(queue.locator("#nav-interventions .count")).to_be_visible()
    waiting.get_by_role("link", name="Decide").click()
    queue.wait_for_url(f"{shop.base}/sagas/{saga}#acts")

    act = queue.locator("#act-resolve")
    act.locator("summary").click()
    act.get_by_label("completed").check()
    note = f"told the customer by phone {MARKUP}"
    act.get_by_label("Note").fill(note)
    act.get_by_role("button", name="Resolve").click()
    expect(queue.locator(".flash.good")).to_be_visible()
    expect(queue.locator(".head.saga")).to_have_attribute("data-status", "COMPLETED")
    done = queue.locator("section", has=queue.locator("#h-acts"))
    expect(done).to_contain_text("resolve by ann via")
    expect(done).to_contain_text(note)
    ((actor, kept),) = shop.world.rows("select actor, note from acts where saga_id = %s", saga)
    assert actor.startswith("ann via ")
    assert kept == note


def test_a_viewer_sees_what_could_be_done_and_may_not_do_it(
    shop: Shop, visit: Visits, key: str
) -> None:
    saga = shop.pay(key, email=f"nobody@{REFUSED_DOMAIN}")
    viewer = visit("vera")
    page = viewer.open_live(f"/sagas/{saga}")
    expect(page.locator(".head.saga")).to_have_attribute("data-status", "SUSPENDED")
    expect(page.locator("#acts")).to_contain_text("You are a viewer. An operator can")
    assert page.locator("#acts form").count() == 0
    # Nor by a form that is not on the page.
    status = page.evaluate(
        """async (saga) => {
            const csrf = document.querySelector('[name=csrf]').value;
            const body = new URLSearchParams({ csrf, note: "let me", status: "COMPLETED" });
            const acts = `/admin/sagas/${saga}/acts/resolve`;
            const links = await fetch(acts, { method: "POST", body, redirect: "manual" });
            return links.status;
        }""",
        saga,
    )
    assert status == 403
    assert [t for t in viewer.troubles if "403" not in t] == []  # which the console tells
    viewer.troubles.clear()
    ((status,),) = shop.world.rows("select status from overview where saga_id = %s", saga)
    assert status == "SUSPENDED"
    visitor = visit("ann")
    visitor.open(f"/sagas/{saga}")
    assert visitor.page.locator("#act-resolve").count() == 1


def test_without_a_login_there_is_only_the_login(shop: Shop, visit: Visits) -> None:
    visitor = visit()
    page = visitor.open("/types/payment")
    assert page.url.startswith(f"{shop.base}/login")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("The name or the password is wrong.")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{shop.base}/types/payment")
    # A refused password is answered by 401, which the console tells.
    visitor.troubles[:] = [t for t in visitor.troubles if "401" not in t]
