"""Settings of the web server: ``OUTBOX_WEB_…`` environment variables and a ``.env``."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from outbox.errors import ConfigurationError

Role = Literal["viewer", "operator"]

SECRET = ("users", "tokens", "secret_key")
"""Settings whose values are not to be shown."""

_SHORTEST_KEY = 32

MASKED = (
    "password, passwd, pwd, passphrase, secret, token, card, cvc, cvv, iban, pin, ssn, "
    "authorization, credential, api_key, private_key, cookie"
)


class WebSettings(BaseSettings):
    """What the web server can be told, beside the settings that all programs share."""

    model_config = SettingsConfigDict(
        env_prefix="OUTBOX_WEB_", env_file=".env", extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="The port; 0: any.")
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = Field(
        "", description="The path under which a proxy serves it, such as /outbox."
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Signs the sessions: at least 32 characters, the same in all processes. "
        "bin/web secret-key makes one.",
    )
    users: SecretStr = Field(
        SecretStr(""),
        description="Who may log in: name:role:hash, separated by spaces, semicolons or lines; "
        "role is viewer or operator, bin/web hash-password makes the hash. Quote it in a shell: "
        "it is full of $.",
    )
    users_file: Path | None = Field(
        None, description="A file with one name:role:hash a line, beside or instead of users."
    )
    tokens: SecretStr = Field(
        SecretStr(""),
        description="Who may use the API: name:role:hash, separated by spaces, semicolons or "
        "lines; role is viewer, starter or operator, bin/web new-token makes a token and its line.",
    )
    tokens_file: Path | None = Field(
        None, description="A file with one name:role:hash a line, beside or instead of tokens."
    )
    routes: str | None = Field(
        None,
        description="The applications' own routes under /api, as module:attribute; "
        "comma-separated, empty: none. Unset: the shipped payment's, where OUTBOX_APPS has it.",
    )
    body_limit: PositiveInt = Field(
        1024 * 1024, description="Bytes that the body of a request to the API has at most."
    )
    metrics: Literal["open", "token", "off"] = Field(
        "open",
        description="Who may read /metrics: everybody, whoever has a token of the API, or nobody.",
    )
    session_seconds: PositiveInt = Field(
        12 * 3600, description="How long a login lasts, in seconds."
    )
    cookie_secure: bool | None = Field(
        None,
        description="Whether cookies go over HTTPS only; by default unless host is this machine's "
        "own loopback address.",
    )
    proxy_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = Field(
        None,
        description="The header in which a trusted proxy names the user who it has let in, such "
        "as X-Forwarded-User; unset: none is trusted.",
    )
    proxy_role_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = Field(
        None,
        description="The header in which it names the user's groups, separated by commas; unset: "
        "proxy_roles goes by the user's name.",
    )
    proxy_roles: dict[str, Role] = Field(
        default_factory=dict,
        description='The role of each user, or group: {"ann": "operator", "*": "viewer"}.',
    )
    proxy_addresses: str = Field(
        "127.0.0.1, ::1",
        description="Where the proxy connects from, addresses or networks: its headers are "
        "believed from there only.",
    )
    masked: str = Field(
        MASKED,
        description="Fields of inputs, results and errors whose values are not shown, by the "
        "words of their names, separated by commas.",
    )
    connections: PositiveInt = Field(4, description="Connections to the database at most.")
    streams: NonNegativeInt = Field(
        200,
        description="Pages that are kept up to date at once; further ones are still there, "
        "and show what a reload shows.",
    )
    login_attempts: PositiveInt = Field(
        5, description="Wrong passwords for a user from an address within five minutes."
    )

    @field_validator("proxy_addresses")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for part in _split(value):
            ipaddress.ip_network(part, strict=False)  # a ValueError says which is none
        return value

    @property
    def signing_key(self) -> str:
        """The secret key.

        Raises:
            ConfigurationError: there is none, or it is short.
        """
        key = "" if self.secret_key is None else self.secret_key.get_secret_value()
        if len(key) < _SHORTEST_KEY:
            what = (
                "is not set"
                if not key
                else f"has {len(key)} characters, {_SHORTEST_KEY} at least are needed"
            )
            raise ConfigurationError(
                f"OUTBOX_WEB_SECRET_KEY {what}: it signs the sessions. Make one: bin/web secret-key"
            )
        return key

    @property
    def masked_names(self) -> tuple[str, ...]:
        """The names of ``masked``."""
        return _split(self.masked)

    @property
    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of ``proxy_addresses``."""
        return tuple(ipaddress.ip_network(p, strict=False) for p in _split(self.proxy_addresses))

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies go over HTTPS only."""
        if self.cookie_secure is not None:
            return self.cookie_secure
        return self.host not in ("localhost", "127.0.0.1", "::1")


def load_web_settings(**overrides: object) -> WebSettings:
    """The settings of this process: arguments, then environment, then ``.env``, then defaults.

    Raises:
        ConfigurationError: a value is impossible; the message names the variable, and no secret.
    """
    try:
        return WebSettings(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "?"
            got = "" if name in SECRET else f", not {problem['input']!r}"
            problems.append(f"OUTBOX_WEB_{name.upper()}: {problem['msg']}{got}")
        raise ConfigurationError("; ".join(problems)) from None
    except SettingsError as error:
        raise ConfigurationError(
            f'{error}: OUTBOX_WEB_PROXY_ROLES is JSON, such as {{"ann": "operator"}}'
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the file .env is not UTF-8: {error}") from None


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
