"""A request of somebody: who that is, what the form says, and the page that answers."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from outbox.errors import InputError, NotFoundError
from outbox.web.accounts import User
from outbox.web.address import address_of, is_from
from outbox.web.body import receive
from outbox.web.session import Session
from outbox.web.settings import Role
from outbox.web.site import Nav, Site

_SESSION, _FLASH, _THEME = "outbox_session", "outbox_flash", "outbox_theme"
_LARGEST_FORM = 1024 * 1024
THEMES = ("auto", "light", "dark")


class Visit:
    """One request, and what its answer is made of."""

    def __init__(self, request: Request, site: Site) -> None:
        self.request, self.site = request, site
        self.session = site.sessions.read(request.cookies.get(_SESSION))
        self.user = self._user()
        self.flash = site.sessions.read_flash(request.cookies.get(_FLASH))
        theme = request.cookies.get(_THEME, "auto")
        self.theme = theme if theme in THEMES else "auto"
        self._form: dict[str, str] | None = None
        self._forms: list[tuple[str, str]] = []
        self._write_session = False
        self._showed_flash = False
        self.nav: Nav | None = None

    @property
    def query(self) -> Mapping[str, str]:
        """The address's query, the last of equal names, without empty values."""
        return {k: v for k, v in self.request.query_params.items() if v}

    def path(self, name: str) -> str:
        """A part of the address."""
        return str(self.request.path_params[name])

    @property
    def saga_id(self) -> UUID:
        """The saga that the address names.

        Raises:
            NotFoundError: that is no id.
        """
        try:
            return UUID(self.path("id"))
        except ValueError:
            raise NotFoundError(f"{self.path('id')!r} is not the id of a saga") from None

    @property
    def address(self) -> str:
        """Where the request comes from; what a proxy of ours says of that counts."""
        return address_of(self.request, self.site.web.proxies)

    def _user(self) -> User | None:
        web = self.site.web
        if web.proxy_header is not None and is_from(self.request, web.proxies):
            name = self._said_by_proxy(web.proxy_header).strip()[:200]
            if name and name.isprintable():
                groups = [name]
                if web.proxy_role_header is not None:
                    given = self._said_by_proxy(web.proxy_role_header)
                    groups = [group.strip() for group in given.split(",")]
                return _with_role(name, [*groups, "*"], web.proxy_roles)
        account = self.site.sessions.account_of(self.session) if self.session else None
        return account.user if account else None

    def _said_by_proxy(self, header: str) -> str:
        """A header of the proxy's; nothing where there are two: one is somebody else's."""
        given = self.request.headers.getlist(header)
        return given[0] if len(given) == 1 else ""

    # The form.

    async def read_form(self) -> dict[str, str]:
        """The form that was sent; of equal names the last.

        Raises:
            TooLargeError: it is larger than any of ours.
            TooSlowError: it has not arrived in time.
            InputError: it is not a form, or not whole.
        """
        if self._form is not None:
            return self._form
        body = await receive(self.request, _LARGEST_FORM, "the form")
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=2000, errors="strict"
            )
        except ValueError as error:
            raise InputError(f"this is not a form: {error}") from None
        if any("\0" in part for pair in pairs for part in pair):
            raise InputError("a form cannot hold the character NUL")
        self._forms = pairs
        self._form = dict(pairs)
        return self._form

    @property
    def form(self) -> dict[str, str]:
        """The form, which was read and whose token was checked before any handler is called."""
        assert self._form is not None
        return self._form

    def field(self, name: str) -> str | None:
        """A field of the form without the blanks around it; None where it is empty."""
        return self.form.get(name, "").strip() or None

    def wanted(self, name: str) -> str:
        """A field that has to be filled in.

        Raises:
            InputError: it is not.
        """
        found = self.field(name)
        if found is None:
            raise InputError(f"the field {name.replace('_', ' ')!r} is empty: fill it in")
        return found

    def has_token(self) -> bool:
        """Whether the form comes from a page of this session."""
        given = self.form.get("csrf", "")
        return self.session is not None and hmac.compare_digest(
            given.encode(), self.session.nonce.encode()
        )

    # The answer.

    @property
    def csrf(self) -> str:
        """The token of this session's forms."""
        if self.session is None:
            self.begin(self.site.sessions.anonymous())
        assert self.session is not None
        return self.session.nonce

    def begin(self, session: Session) -> None:
        """Makes this the visitor's session."""
        self.session, self._write_session = session, True

    def may(self, role: Role) -> bool:
        """Whether the visitor has a role."""
        return self.user is not None and self.user.may(role)

    @property
    def now_ms(self) -> int:
        """This server's clock, by which pages count ages."""
        return int(time.time() * 1000)

    def url(self, path: str, **query: object) -> str:
        """The address of a page of ours."""
        return self.site.rendering.url(path, **query)

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page."""
        if self.user is not None and self.nav is None:
            async with self.site.reading() as connection:
                self.nav = await self.site.nav(connection)
        return self.bare_page(template, status, **values)

    def bare_page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page, without asking the database for what stands in the navigation."""
        self._showed_flash = True
        text = self.site.rendering.render(
            template,
            visit=self,
            user=self.user,
            nav=self.nav,
            csrf=self.csrf,
            theme=self.theme,
            flash=self.flash,
            here=self.request.url.path,
            **values,
        )
        return self.finish(HTMLResponse(text, status))

    def fragment(self, template: str, **values: Any) -> Response:
        """A part of a page."""
        text = self.site.rendering.render(template, visit=self, csrf=self.csrf, **values)
        return self.finish(HTMLResponse(text))

    def render(self, template: str, **values: Any) -> Markup:
        """A part of a page, as a value for another."""
        return self.site.rendering.render(template, **values)

    def go(self, url: str, done: str | None = None, kind: str = "done") -> Response:
        """Sends the browser to another page, on which stands what was done."""
        response = RedirectResponse(url, 303)
        if done is not None:
            self._set(response, _FLASH, self.site.sessions.write_flash(kind, done[:600]), 60)
        return self.finish(response)

    def finish(self, response: Response) -> Response:
        """Adds what the answer has to tell the browser about the session."""
        response.headers.setdefault("Cache-Control", "no-store")
        if self._write_session and self.session is not None:
            self._set(
                response,
                _SESSION,
                self.site.sessions.write(self.session),
                self.site.sessions.seconds,
            )
            self._write_session = False
        if self._showed_flash and self.flash is not None:
            self._drop(response, _FLASH)
        return response

    def leave(self, response: Response) -> Response:
        """Ends the session."""
        if self.session is not None:
            self.site.sessions.end(self.session)
        self._write_session = False
        self._drop(response, _SESSION)
        return response

    def remember_theme(self, response: Response, theme: str) -> Response:
        """Keeps the visitor's theme for a year."""
        self._set(response, _THEME, theme, int(timedelta(days=365).total_seconds()))
        return response

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=f"{self.site.web.root_path}/admin",
            secure=self.site.web.secure_cookies,
            httponly=True,
            samesite="lax",
        )

    def _drop(self, response: Response, name: str) -> None:
        response.delete_cookie(
            name,
            path=f"{self.site.web.root_path}/admin",
            secure=self.site.web.secure_cookies,
            httponly=True,
            samesite="lax",
        )


def _with_role(name: str, groups: list[str], roles: Mapping[str, Role]) -> User | None:
    found = {roles[group] for group in groups if group in roles}
    if not found:
        return None
    return User(name, "operator" if "operator" in found else "viewer")
