"""``bin/web``: the dashboard."""

from __future__ import annotations

import getpass
import importlib.util
import secrets
import sys
from typing import Annotated

import typer

from outbox.cli.shell import (
    end_in_order_at_sigterm,
    fail,
    friendly,
    opened,
    program_name,
    settings_of,
)
from outbox.settings import unknown_variables
from outbox.store.connect import describe_dsn
from outbox.telemetry import Telemetry, configure_logging, log_hook

_NEEDED = (
    *("starlette", "uvicorn", "jinja2", "argon2", "itsdangerous", "sse_starlette"),
    *("jsonschema", "prometheus_client"),
)
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]

if not _MISSING:
    from outbox.web.accounts import hash_password
    from outbox.web.api.tokens import new_token
    from outbox.web.app import make_app
    from outbox.web.server import run_server
    from outbox.web.settings import SECRET, WebSettings, load_web_settings


def _settings_help() -> str:
    """Every setting with its default, for ``--help``."""
    if _MISSING:
        return ""
    lines = [
        "\b",
        "Settings, as environment variables or in a file .env, beside those of bin/worker:",
    ]
    for name, field in WebSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if name in SECRET else f"  (default: {default})"
        lines += [f"  OUTBOX_WEB_{name.upper()}{shown}", f"      {field.description}"]
    return "\n".join(lines)


cli = typer.Typer(add_completion=False, rich_markup_mode=None)


@cli.callback(invoke_without_command=True, epilog=_settings_help())
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Instead of OUTBOX_WEB_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Instead of OUTBOX_WEB_PORT; 0: any.")
    ] = None,
) -> None:
    """Serves the dashboard under /admin: sagas, what waits for a person, health. Start as many as
    you like, behind a proxy that speaks HTTPS. SIGTERM or Ctrl-C ends it."""
    if _MISSING:
        fail(
            f"the dashboard needs more packages ({', '.join(_MISSING)} missing): "
            "pip install 'outbox-saga[web]'"
        )
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(warn=False)
    configure_logging(settings.log_level, settings.log_format)
    telemetry = Telemetry(log_hook(), level=settings.log_level)
    names = [f"OUTBOX_WEB_{name.upper()}" for name in WebSettings.model_fields]
    for warning in unknown_variables(names, others=("OUTBOX_TEST_",)):
        telemetry.emit("unknown_setting", "warning", message=warning)
    with friendly():
        web = load_web_settings(host=host, port=port)
        with opened(settings) as dsn:
            app = make_app(settings, web, dsn, telemetry)
            telemetry.emit(
                "web_starting",
                database=describe_dsn(dsn),
                schema=settings.schema_name,
            )
            run_server(app, web, telemetry)


@cli.command("hash-password")
def hash_password_command() -> None:
    """Reads a password and prints its hash for OUTBOX_WEB_USERS."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Once more: ") != password:
            fail("the two are not the same")
    else:
        password = sys.stdin.readline().rstrip("\n")
    with friendly():
        print(hash_password(password))


@cli.command("new-token")
def new_token_command(
    name: Annotated[str, typer.Argument(help="Who is to have it; the history shows the name.")],
    role: Annotated[
        str, typer.Argument(help="viewer looks; starter starts and signals; operator acts as well.")
    ],
) -> None:
    """Makes a token for the API. Prints it, this once, and on the next line what to add to
    OUTBOX_WEB_TOKENS."""
    with friendly():
        token, line = new_token(name, role)
    print(token)
    print(line)
    print(
        "The first line is the token, shown this once; the second goes into OUTBOX_WEB_TOKENS.",
        file=sys.stderr,
    )


@cli.command("secret-key")
def secret_key_command() -> None:
    """Prints a fresh key for OUTBOX_WEB_SECRET_KEY."""
    print(secrets.token_urlsafe(48))


def main() -> None:
    """The entry point."""
    end_in_order_at_sigterm()
    cli(prog_name=program_name("web"))


if __name__ == "__main__":
    main()
