"""Settings of the shipped sagas: where their outside world is."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from steps.signatures import TEST_SECRET


class PaymentSettings(BaseSettings):
    """Read from ``PAYMENT_...`` environment variables and from ``.env``.

    Raises:
        pydantic.ValidationError: a value is malformed, or the real provider is to be used and its
            key is missing.
    """

    model_config = SettingsConfigDict(
        env_prefix="PAYMENT_", env_file=".env", extra="ignore", frozen=True
    )

    provider_url: Annotated[
        str | None,
        Field(
            description="base address of the provider's API, e.g. of the sandbox; "
            "unset means the real one"
        ),
    ] = None
    provider_key: Annotated[
        SecretStr | None,
        Field(description="secret API key of the provider; needed unless provider_url is set"),
    ] = None
    provider_timeout: Annotated[
        float,
        Field(
            gt=0,
            description="seconds to wait for an answer of the provider; "
            "keep it below the timeout of the steps",
        ),
    ] = 4.0
    provider_key_lifetime: Annotated[
        float,
        Field(
            ge=0,
            description="seconds for which the provider surely remembers idempotency "
            "keys; an older saga looks for its intent before it creates one",
        ),
    ] = 72_000.0
    smtp_host: Annotated[str, Field(description="host that takes outgoing mail")] = "127.0.0.1"
    smtp_port: Annotated[
        int, Field(gt=0, lt=65_536, description="port that takes outgoing mail")
    ] = 8025
    smtp_timeout: Annotated[float, Field(gt=0, description="seconds to wait for the mail host")] = (
        4.0
    )
    mail_from: Annotated[
        str,
        Field(pattern=r"^[^\s@<>]+@[^\s@<>]+$", description="sender of confirmations"),
    ] = "payments@shop.example"
    ledger_schema: Annotated[
        str, Field(min_length=1, max_length=63, description="schema that holds the ledger's tables")
    ] = "ledger"

    @model_validator(mode="after")
    def _real_provider_needs_a_key(self) -> Self:
        if self.provider_url is None and self.provider_key is None:
            raise ValueError(
                "PAYMENT_PROVIDER_KEY is not set; set it to the provider's secret key, or set "
                "PAYMENT_PROVIDER_URL to the address of a sandbox (python -m steps.sandbox)"
            )
        return self


class ExampleSettings(BaseSettings):
    """Of the sagas beside the payment: read from ``EXAMPLE_...`` environment variables and from
    ``.env``.

    Raises:
        pydantic.ValidationError: a value is malformed.
    """

    model_config = SettingsConfigDict(
        env_prefix="EXAMPLE_", env_file=".env", extra="ignore", frozen=True
    )

    partners_url: Annotated[
        str, Field(description="base address of the partners, e.g. of the sandbox")
    ] = "http://127.0.0.1:8024"
    partners_timeout: Annotated[
        float,
        Field(gt=0, description="seconds to wait for an answer; keep it below the steps' timeout"),
    ] = 2.0
    callback_url: Annotated[
        str | None,
        Field(description="where partners tell us what they delivered; see steps.webhooks"),
    ] = None
    webhook_secret: Annotated[
        SecretStr, Field(description="what partners sign with: whsec_ and base64")
    ] = SecretStr(TEST_SECRET)
    smtp_host: Annotated[str, Field(description="host that takes outgoing mail")] = "127.0.0.1"
    smtp_port: Annotated[
        int, Field(gt=0, lt=65_536, description="port that takes outgoing mail")
    ] = 8025
    smtp_timeout: Annotated[float, Field(gt=0, description="seconds to wait for the mail host")] = (
        4.0
    )
    mail_from: Annotated[
        str, Field(pattern=r"^[^\s@<>]+@[^\s@<>]+$", description="sender of mails")
    ] = "hello@shop.example"
    db_schema: Annotated[
        str,
        Field(min_length=1, max_length=63, description="schema that holds invoices and accounts"),
    ] = "shop"
