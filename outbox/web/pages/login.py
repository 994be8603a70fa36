"""``/admin/login``, logging out, and the choice of a theme."""

from __future__ import annotations

import math

from starlette.responses import Response

from outbox.errors import InputError
from outbox.web.address import sender_of
from outbox.web.pages.route import inside
from outbox.web.visit import THEMES, Visit


async def login_page(visit: Visit) -> Response:
    """The form; who is in already is sent on."""
    to = inside(visit.query.get("next"))
    if visit.user is not None:
        return visit.go(to or visit.url("/sagas"))
    return visit.bare_page("login.html", problem=None, to=to, name="", by_proxy=_by_proxy(visit))


async def log_in(visit: Visit) -> Response:
    """Lets in who knows a password. A refusal does not say whether there is such a user, neither in
    words nor by the time that it takes."""
    name, password = visit.form.get("name", "").strip()[:200], visit.form.get("password", "")
    to = inside(visit.form.get("next"))
    site = visit.site
    sender = sender_of(visit.address)
    by_user, by_address = (name, sender), sender
    wait = site.by_address.take(by_address) or site.by_user.take(by_user)
    if wait > 0:
        site.telemetry.emit("login_throttled", "warning", user=name, address=visit.address)
        minutes = math.ceil(wait / 60)
        words = "a minute" if minutes == 1 else f"{minutes} minutes"
        answer = visit.bare_page(
            "login.html",
            429,
            to=to,
            name=name,
            by_proxy=_by_proxy(visit),
            problem=f"Too many attempts. Try again in {words}.",
        )
        answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer
    account = await site.accounts.verify(name, password)
    if account is None:
        site.telemetry.emit("login_refused", "warning", user=name, address=visit.address)
        return visit.bare_page(
            "login.html",
            401,
            to=to,
            name=name,
            by_proxy=_by_proxy(visit),
            problem="The name or the password is wrong.",
        )
    site.by_user.forget(by_user)
    site.by_address.give_back(by_address)
    site.telemetry.emit("logged_in", user=name, address=visit.address)
    visit.begin(site.sessions.of(account))
    return visit.go(to or visit.url("/sagas"))


async def log_out(visit: Visit) -> Response:
    """Ends the session."""
    return visit.leave(visit.go(visit.url("/login"), "You are logged out."))


async def choose_theme(visit: Visit) -> Response:
    """Remembers light, dark, or whatever the system has."""
    theme = visit.form.get("theme", "")
    if theme not in THEMES:
        raise InputError(f"there is no theme {theme!r}: there are {', '.join(THEMES)}")
    back = inside(visit.form.get("back")) or visit.url("/sagas")
    return visit.remember_theme(visit.go(back), theme)


def _by_proxy(visit: Visit) -> bool:
    return not len(visit.site.accounts)
