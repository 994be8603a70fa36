"""``bin/saga``: installs the schema, starts sagas, looks at them and acts on them."""

from __future__ import annotations

import typer

from outbox.cli import act, events, install, look, running, shell, start, steer, tell

cli = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Installs the schema, starts sagas, looks at them and acts on them.",
    epilog=shell.EXIT_CODES + " Settings are the OUTBOX_… variables that bin/worker --help lists.",
)

cli.command("migrate")(install.migrate_command)
cli.command("register")(install.register_command)
cli.command("start")(start.start_command)
cli.command("list")(look.list_command)
cli.command("show")(look.show_command)
cli.command("wait")(look.wait_command)
cli.command("signal")(tell.signal_command)
cli.command("retry")(act.retry_command)
cli.command("abort")(act.abort_command)
cli.command("resolve")(act.resolve_command)
cli.command("cancel")(act.cancel_command)
cli.command("skip")(act.skip_command)
cli.command("amend")(act.amend_command)
cli.command("pause")(act.pause_command)
cli.command("resume")(act.resume_command)
cli.command("rerun")(act.rerun_command)
cli.command("explain")(steer.explain_command)
cli.command("history")(steer.history_command)
cli.command("waiting")(steer.waiting_command)
cli.command("paused")(steer.paused_command)
cli.command("versions")(steer.versions_command)
cli.command("move")(steer.move_command)
cli.command("events")(events.events_command)
cli.command("subscriptions")(events.subscriptions_command)
cli.command("subscribe")(events.subscribe_command)
cli.command("unsubscribe")(events.unsubscribe_command)
cli.command("redeliver")(events.redeliver_command)
cli.command("audit")(look.audit_command)
cli.add_typer(running.limit, name="limit", help="How many sagas of a type run at once.")
cli.add_typer(running.schedule, name="schedule", help="Recurring sagas.")
cli.add_typer(running.retention, name="retention", help="How long finished sagas are kept.")
cli.command("export")(running.export_command)
cli.command("psql", context_settings={"ignore_unknown_options": True})(install.psql_command)


def main() -> None:
    """The entry point."""
    shell.end_in_order_at_sigterm()
    cli(prog_name="saga")


if __name__ == "__main__":
    main()
