"""``bin/saga``: installs the schema, starts sagas, looks at them and acts on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from outbox.cli import (
    act,
    events,
    fleet,
    install,
    look,
    running,
    shell,
    start,
    steer,
    story,
    tell,
    top,
)

LOOK, ACT, START = "Look", "Act on sagas", "Start and tell"
RULES, INSTALL = "What holds for whole types", "Install and keep"


class Grouped(TyperGroup):
    """A group whose help lists its commands by what they are for, each with its whole line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As the library's own, which cuts the lines and knows one list only."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name, command.get_short_help_str(200)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


cli = typer.Typer(
    cls=Grouped,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Installs the schema, starts sagas, looks at them and acts on them.",
    epilog=shell.EXIT_CODES + " Settings are the OUTBOX_… variables that bin/worker --help lists.",
)


def _add(panel: str, **commands: Callable[..., None]) -> None:
    for name, command in commands.items():
        cli.command(name.replace("_", "-"), rich_help_panel=panel)(command)


_add(
    LOOK,
    top=top.top_command,
    list=look.list_command,
    show=story.show_command,
    trace=story.trace_command,
    wait=look.wait_command,
    explain_abort=steer.explain_command,
    history=steer.history_command,
    waiting=steer.waiting_command,
    running=fleet.running_command,
    paused=steer.paused_command,
    workers=fleet.workers_command,
    limits=fleet.limits_command,
    schedules=fleet.schedules_command,
    changes=fleet.changes_command,
    versions=steer.versions_command,
    events=events.events_command,
    subscriptions=events.subscriptions_command,
    errors=fleet.errors_command,
    rates=fleet.rates_command,
    health=fleet.health_command,
    audit=look.audit_command,
)
cli.command("explain", hidden=True)(steer.explain_command)
_add(
    ACT,
    retry=act.retry_command,
    skip=act.skip_command,
    amend=act.amend_command,
    cancel=act.cancel_command,
    abort=act.abort_command,
    resolve=act.resolve_command,
    pause=act.pause_command,
    resume=act.resume_command,
    rerun=act.rerun_command,
    move=steer.move_command,
    redeliver=events.redeliver_command,
)
_add(START, start=start.start_command, signal=tell.signal_command)
cli.add_typer(
    running.limit, name="limit", help="How many sagas of a type run at once.", rich_help_panel=RULES
)
cli.add_typer(running.schedule, name="schedule", help="Recurring sagas.", rich_help_panel=RULES)
cli.add_typer(
    running.retention,
    name="retention",
    help="How long finished sagas are kept.",
    rich_help_panel=RULES,
)
_add(RULES, subscribe=events.subscribe_command, unsubscribe=events.unsubscribe_command)
_add(INSTALL, migrate=install.migrate_command, register=install.register_command)
cli.command("psql", context_settings={"ignore_unknown_options": True}, rich_help_panel=INSTALL)(
    install.psql_command
)
_add(INSTALL, export=running.export_command)


def main() -> None:
    """The entry point."""
    shell.end_in_order_at_sigterm()
    shell.print_anything()
    cli(prog_name=shell.program_name("saga"))


if __name__ == "__main__":
    main()
