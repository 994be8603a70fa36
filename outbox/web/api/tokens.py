"""Who may use the API: bearer tokens (RFC 6750) of the settings, of which only hashes are known."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from outbox.errors import ConfigurationError, InputError
from outbox.web.settings import WebSettings

ApiRole = Literal["viewer", "starter", "operator"]
ROLES: tuple[ApiRole, ...] = get_args(ApiRole)
"""From the least on; each may do what those before it may."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIX = "ob_"  # so that a scanner of repositories can know one


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the settings; ``hash`` is the SHA-256 of what is sent."""

    name: str
    role: ApiRole
    hash: str

    @property
    def actor(self) -> str:
        """As whom its holder acts, in the history: no user's name."""
        return f"{self.name} (token)"

    def may(self, role: ApiRole) -> bool:
        """Whether this token has a role, or one that includes it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Tokens:
    """The tokens that are let in. They are random and long, so a fast hash is enough: nobody
    guesses one, and the settings do not give it away."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, sent: str) -> Token | None:
        """The token that was sent. Takes as long whichever it is, and where it is none."""
        hashed = _hash(sent)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.hash, hashed):
                found = token
        return found


def new_token(name: str, role: str) -> tuple[str, str]:
    """A fresh token, and its line for the settings.

    Raises:
        InputError: the name or the role is none.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a token: a letter or digit, and up to 99 of these and ._@+-"
        )
    if role not in ROLES:
        raise InputError(f"{role!r} is no role: there are {', '.join(ROLES)}")
    token = _PREFIX + secrets.token_urlsafe(32)
    return token, f"{name}:{role}:{_hash(token)}"


def load_tokens(settings: WebSettings) -> Tokens:
    """The tokens of the settings and of the file that they name.

    Raises:
        ConfigurationError: an entry is malformed, or the file cannot be read.
    """
    entries = re.split(r"[\s;]+", settings.tokens.get_secret_value().strip())
    if settings.tokens_file is not None:
        try:
            lines = settings.tokens_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"OUTBOX_WEB_TOKENS_FILE={settings.tokens_file} cannot be read: {error}"
            ) from None
        entries += [line.strip() for line in lines if not line.lstrip().startswith("#")]
    found: dict[str, Token] = {}
    for number, entry in enumerate(filter(None, entries), start=1):
        token = _parse(number, entry)
        if token.name in found:
            raise ConfigurationError(f"two tokens are called {token.name!r}: rename one")
        found[token.name] = token
    return Tokens(list(found.values()))


def _parse(number: int, entry: str) -> Token:
    # An entry may hold a token by mistake, so messages name its place and its name only.
    where = f"token {number} of OUTBOX_WEB_TOKENS"
    parts = entry.split(":")
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]):
        raise ConfigurationError(f"{where} is not of the form name:role:hash")
    name, role, hashed = parts
    roles: dict[str, ApiRole] = {one: one for one in ROLES}
    if role not in roles:
        raise ConfigurationError(f"{where}, {name!r}: the role is one of {', '.join(ROLES)}")
    if not _HASH.fullmatch(hashed):
        raise ConfigurationError(
            f"{where}, {name!r}: that is no SHA-256 in hexadecimal digits; bin/web new-token makes "
            "a token with the line to configure"
        )
    return Token(name, roles[role], hashed)


def _hash(sent: str) -> str:
    return hashlib.sha256(sent.encode()).hexdigest()
