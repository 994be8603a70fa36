"""Settings: ``OUTBOX_…`` environment variables and a ``.env``, read once by the command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from outbox.errors import ConfigurationError

SchemaName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]


# Read where they are needed, and by nothing else.
_READ_ELSEWHERE = ("OUTBOX_WEBHOOK_SECRET", "OUTBOX_OWN_PSQLRC")
# Other programs' settings.
_OF_OTHERS = ("OUTBOX_WEB_", "OUTBOX_TEST_")


class Settings(BaseSettings):
    """Everything that a process of ours can be told. What holds for the whole installation is in
    the database instead, in the table ``setting``."""

    model_config = SettingsConfigDict(
        env_prefix="OUTBOX_", env_file=".env", extra="ignore", frozen=True
    )

    dsn: SecretStr | None = Field(
        None,
        description="Postgres to use, as a URL or key=value pairs; without it, an embedded server.",
    )
    listen_dsn: SecretStr | None = Field(
        None,
        description="A direct connection for LISTEN, where OUTBOX_DSN goes through PgBouncer.",
    )
    schema_name: SchemaName = Field(
        "saga", alias="OUTBOX_SCHEMA", description="The schema that holds everything of ours."
    )
    apps: str = Field(
        "steps.payment:app",
        description="What bin/worker and bin/saga know of when no module:app is named; "
        "comma-separated.",
    )
    directory: Path = Field(Path(".outbox"), description="Where the embedded server lives.")
    prepared_statements: bool = Field(
        True, description="False behind a PgBouncer in transaction mode older than 1.21."
    )
    concurrency: PositiveInt = Field(100, description="Attempts that a worker runs at once.")
    in_hand: PositiveInt = Field(
        1000,
        description="Commands that a worker holds at most, with those whose outcome is being "
        "committed.",
    )
    type_concurrency: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description='Of those in hand, at most so many of a saga type: {"payment": 20}.',
    )
    threads: PositiveInt = Field(16, description="Threads for handlers that are plain functions.")
    transactions: PositiveInt = Field(
        4, description="Connections for transactional steps; each runs one transaction at a time."
    )
    lease: PositiveFloat = Field(
        15.0, description="Seconds within which a dead worker's commands are released.", ge=1.0
    )
    shutdown_grace: float = Field(
        30.0, description="Seconds that running attempts get to finish after SIGTERM.", ge=0
    )
    poll: PositiveFloat = Field(
        2.0, description="Seconds after which an idle worker looks, though nobody woke it."
    )
    alert_schedule: str = Field(
        "* * * * *",
        description="Cron expression (UTC): when stuck and suspended sagas are looked for.",
    )
    retention_schedule: str = Field(
        "17 * * * *", description="Cron expression (UTC): when old finished sagas are removed."
    )
    metrics_port: int | None = Field(
        None,
        description="Serve Prometheus's /metrics there; 0: any that is free. Without it, nowhere.",
        ge=0,
        le=65535,
    )
    metrics_host: str = Field("127.0.0.1", description="The address that /metrics listens on.")
    tracing: bool = Field(
        False,
        description="Give OpenTelemetry a span of each attempt and saga; where they go is told by "
        "its own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Where to send mails of events: smtp://user:password@host:587 (STARTTLS where "
        "the server offers it), or smtps://…:465. Without it this worker sends none.",
    )
    smtp_from: str = Field("outbox@localhost", description="The sender of such mails.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log events that are written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: for people on a terminal, else JSON."
    )


def load_settings(**overrides: object) -> Settings:
    """The settings of this process: arguments, then environment, then ``.env``, then defaults.

    Raises:
        ConfigurationError: a value is impossible; the message names the variable, not the value
            of a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # values are validated by pydantic
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "?"
            variable = name if name.startswith("OUTBOX_") else f"OUTBOX_{name.upper()}"
            got = "" if "dsn" in name else f", not {problem['input']!r}"
            problems.append(f"{variable}: {problem['msg']}{got}")
        raise ConfigurationError("; ".join(problems)) from None
    except SettingsError as error:
        # Of the only field that is not plain text. The value is in its cause alone.
        if "type_concurrency" not in str(error):
            raise
        raise ConfigurationError(
            'OUTBOX_TYPE_CONCURRENCY is not JSON, such as {"payment": 20}'
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the file .env is not UTF-8: {error}") from None


def variables() -> list[str]:
    """The names of all environment variables that ``Settings`` reads."""
    return [
        str(field.alias) if field.alias else f"OUTBOX_{name.upper()}"
        for name, field in Settings.model_fields.items()
    ]


def unknown_variables(known: Sequence[str] = (), others: tuple[str, ...] = _OF_OTHERS) -> list[str]:
    """Warnings of variables, in the environment and in ``.env``, that are named like a setting and
    are none: a setting that is misspelled would have no effect.

    Args:
        known: names of settings beside those of ``Settings``.
        others: how names begin that are other programs' business.
    """
    names = [*variables(), *_READ_ELSEWHERE, *known]
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    # Without what all have in common, which would make any two alike.
    rest = [name.removeprefix("OUTBOX_") for name in names]
    warnings = []
    for name in sorted(given):
        if name.startswith("OUTBOX_") and name not in names and not name.startswith(others):
            alike = difflib.get_close_matches(name.removeprefix("OUTBOX_"), rest, 1)
            program = "bin/web" if name.startswith("OUTBOX_WEB_") else "bin/worker"
            hint = (
                f"did you mean OUTBOX_{alike[0]}?" if alike else f"{program} --help lists them all"
            )
            warnings.append(f"{name} is no setting, and has no effect; {hint}")
    return warnings
