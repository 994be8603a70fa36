"""Sessions: a signed cookie that says who has logged in, and until when."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer

from outbox.web.accounts import Account, Accounts

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookie says. ``nonce`` names the session and is the token that its forms carry;
    ``proof`` ties it to the password with which its user logged in; ``user`` is None before."""

    user: str | None
    nonce: str
    until: float
    proof: str = ""


class Sessions:
    """Makes sessions, and reads them back.

    Args:
        key: signs them.
        seconds: how long one lasts.
        accounts: whose they are: a user who is gone, or whose password has changed, has none.
        clock: seconds since 1970.
    """

    def __init__(
        self, key: str, seconds: int, accounts: Accounts, clock: Clock = time.time
    ) -> None:
        self._serializer = URLSafeSerializer(key, salt="outbox.session")
        self._flashes = URLSafeSerializer(key, salt="outbox.flash")
        self._key, self._accounts, self._clock = key.encode(), accounts, clock
        self.seconds = seconds
        self._ended: dict[str, float] = {}

    def anonymous(self) -> Session:
        """A session of nobody: a form that logs in has its token from it."""
        return Session(None, secrets.token_urlsafe(24), self._clock() + self.seconds)

    def of(self, account: Account) -> Session:
        """A fresh session of a user; nothing of the one before is kept."""
        return Session(
            account.user.name,
            secrets.token_urlsafe(24),
            self._clock() + self.seconds,
            self._proof(account),
        )

    def end(self, session: Session) -> None:
        """Ends a session for whoever else has its cookie, as far as this process is asked."""
        if session.user is None:
            return  # nobody is in by it, and anybody can have any number of them
        now = self._clock()
        self._ended = {nonce: until for nonce, until in self._ended.items() if until > now}
        self._ended[session.nonce] = session.until

    def write(self, session: Session) -> str:
        """The cookie of a session."""
        written = self._serializer.dumps(
            [session.user, session.nonce, session.until, session.proof]
        )
        return written if isinstance(written, str) else written.decode()

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None where it was not made here, has expired or was ended."""
        try:
            user, nonce, until, proof = self._serializer.loads(cookie or "")
        except (BadSignature, ValueError, TypeError):
            return None
        session = Session(user, nonce, until, proof)
        if session.until <= self._clock() or session.nonce in self._ended:
            return None
        if session.user is not None:
            account = self._accounts.find(session.user)
            if account is None or not hmac.compare_digest(self._proof(account), session.proof):
                return None
        return session

    def account_of(self, session: Session) -> Account | None:
        """The account of a session's user as it is now: a role that was taken away is gone."""
        return None if session.user is None else self._accounts.find(session.user)

    def write_flash(self, kind: str, text: str) -> str:
        """The cookie of a message for the next page."""
        written = self._flashes.dumps([kind, text])
        return written if isinstance(written, str) else written.decode()

    def read_flash(self, cookie: str | None) -> tuple[str, str] | None:
        """The message of such a cookie."""
        try:
            found: Any = self._flashes.loads(cookie or "")
        except BadSignature:
            return None
        return str(found[0]), str(found[1])

    def _proof(self, account: Account) -> str:
        return hmac.new(self._key, account.hash.encode(), hashlib.sha256).hexdigest()[:24]
