"""Who may log in: users of the settings, and the passwords that prove it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from outbox.errors import ConfigurationError, InputError
from outbox.web.settings import Role, WebSettings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_LONGEST_PASSWORD, _SHORTEST_PASSWORD = 1024, 8
_AT_ONCE = 2  # each verification takes 64 MB and a core for a while


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has been let in."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this user has a role, or one that includes it."""
        return role == "viewer" or self.role == "operator"


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the settings with the Argon2 hash of the password."""

    user: User
    hash: str


class Accounts:
    """The users of the settings.

    Args:
        accounts: by name.
    """

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._accounts = dict(accounts)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        known = next(iter(self._accounts.values()), None)
        self._hasher = (
            PasswordHasher.from_parameters(extract_parameters(known.hash))
            if known
            else PasswordHasher()
        )
        # For names that nobody has: their refusal takes as long as that of a wrong password.
        self._nobody = self._hasher.hash(secrets.token_urlsafe())

    def __len__(self) -> int:
        return len(self._accounts)

    def find(self, name: str) -> Account | None:
        """The account of this name."""
        return self._accounts.get(name)

    async def verify(self, name: str, password: str) -> Account | None:
        """The account, if this is its password. Takes as long if there is none of this name."""
        if len(password) > _LONGEST_PASSWORD:
            return None
        account = self._accounts.get(name)
        async with self._turns:
            right = await asyncio.to_thread(
                self._verify, account.hash if account else self._nobody, password
            )
        return account if right else None

    def _verify(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except VerificationError:
            return False


def load_accounts(settings: WebSettings) -> Accounts:
    """The accounts of the settings and of the file that they name.

    Raises:
        ConfigurationError: an entry is malformed, the file cannot be read, or nobody could ever log
            in.
    """
    entries = re.split(r"[\s;]+", settings.users.get_secret_value().strip())
    if settings.users_file is not None:
        try:
            lines = settings.users_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"OUTBOX_WEB_USERS_FILE={settings.users_file} cannot be read: {error}"
            ) from None
        entries += [line.strip() for line in lines if not line.lstrip().startswith("#")]
    found: dict[str, Account] = {}
    for number, entry in enumerate(filter(None, entries), start=1):
        account = _parse(number, entry)
        if account.user.name in found:
            raise ConfigurationError(f"two users are called {account.user.name!r}: rename one")
        found[account.user.name] = account
    has_tokens = settings.tokens_file or settings.tokens.get_secret_value().strip()
    if not found and settings.proxy_header is None and not has_tokens:
        raise ConfigurationError(
            "nobody can log in: set OUTBOX_WEB_USERS to name:role:hash (bin/web hash-password "
            "makes the hash), or OUTBOX_WEB_PROXY_HEADER where a proxy knows the users, or only "
            "OUTBOX_WEB_TOKENS for the API"
        )
    return Accounts(found)


def hash_password(password: str) -> str:
    """The Argon2id hash of a password, for the settings (RFC 9106's second choice of parameters).

    Raises:
        InputError: it is too short or too long.
    """
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InputError(
            f"the password has {len(password)} characters, "
            f"{_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} are allowed"
        )
    return PasswordHasher().hash(password)


def _parse(number: int, entry: str) -> Account:
    # An entry may hold a hash, so messages name its place and its user only.
    name, _, rest = entry.partition(":")
    role, _, hash = rest.partition(":")
    where = f"user {number} of OUTBOX_WEB_USERS"
    if not _NAME.fullmatch(name) or not rest:
        raise ConfigurationError(f"{where} is not of the form name:role:hash")
    roles: Mapping[str, Role] = {one: one for one in get_args(Role)}
    if role not in roles:
        raise ConfigurationError(f"{where}, {name!r}: the role is viewer or operator")
    try:
        extract_parameters(hash)
    except InvalidHashError:
        hint = "; was its $ eaten by a shell? Quote it" if "$argon2" not in hash else ""
        raise ConfigurationError(
            f"{where}, {name!r}: that is no Argon2 hash (bin/web hash-password makes one){hint}"
        ) from None
    return Account(User(name, roles[role]), hash)
