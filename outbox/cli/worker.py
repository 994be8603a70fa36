"""``bin/worker``: runs sagas until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer
import uvloop

from outbox import metrics, tracing
from outbox.cli.shell import (
    end_in_order_at_sigterm,
    friendly,
    load_apps,
    opened,
    program_name,
    settings_of,
)
from outbox.settings import Settings, unknown_variables
from outbox.store.connect import complete_dsn, describe_dsn
from outbox.tally import Tally
from outbox.telemetry import Telemetry, configure_logging, log_hook
from outbox.worker import Worker


def settings_help() -> str:
    """Every setting with its default, for ``--help``."""
    lines = ["\b", "Settings, as environment variables or in a file .env:"]
    for name, field in Settings.model_fields.items():
        variable = str(field.alias) if field.alias else f"OUTBOX_{name.upper()}"
        default = field.get_default(call_default_factory=True)
        lines += [f"  {variable}  (default: {default})", f"      {field.description}"]
    return "\n".join(lines)


cli = typer.Typer(add_completion=False, rich_markup_mode=None)


@cli.command(epilog=settings_help())
def work(
    apps: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, as module:app; default OUTBOX_APPS.", show_default=False),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Instead of OUTBOX_CONCURRENCY.")
    ] = None,
) -> None:
    """Claims and runs sagas' commands; start as many as you like, on as many hosts as you like.

    SIGTERM or Ctrl-C: claim no more, finish what runs, give the rest back. A second one: leave at
    once; what was in hand is run again elsewhere once the lease has run out.
    """
    settings = settings_of(warn=False, concurrency=concurrency)
    configure_logging(settings.log_level, settings.log_format)
    tally = None if settings.metrics_port is None else Tally()
    telemetry = Telemetry(log_hook(), level=settings.log_level, tally=tally)
    for warning in unknown_variables():
        telemetry.emit("unknown_setting", "warning", message=warning)
    with friendly(), opened(settings) as dsn:
        found = load_apps(apps or [], settings)
        if settings.listen_dsn is not None:
            complete_dsn(settings.listen_dsn.get_secret_value(), setting="OUTBOX_LISTEN_DSN")
        telemetry.emit(
            "worker_starting",
            pid=os.getpid(),
            database=describe_dsn(dsn),
            schema=settings.schema_name,
            runs=[f"{t} version {v}" for app in found for t, v in app.sagas],
        )
        provider = tracing.provider() if settings.tracing else None
        tracer = None if provider is None else tracing.OtelTracer(provider)
        worker = Worker(found, settings, dsn, telemetry, tracer)
        stop_metrics = _serve_metrics(settings, dsn, telemetry)
        _collect_less()
        loop = uvloop.new_event_loop()
        code = 0
        try:
            loop.run_until_complete(_run(worker))
        except SystemExit as at_once:
            code = int(at_once.code or 0)
        finally:
            stop_metrics()
            if provider is not None:
                provider.shutdown()  # sends what has not been sent
    if code or worker.left_behind:
        # The interpreter would wait for handlers that outlived their time, perhaps for ever.
        sys.stderr.flush()
        os._exit(code or 1)
    loop.close()


def _serve_metrics(settings: Settings, dsn: str, telemetry: Telemetry) -> Callable[[], None]:
    """Serves /metrics where the settings want it; how to end that."""
    if settings.metrics_port is None or telemetry.tally is None:
        return lambda: None
    metrics.require_metrics()
    reader = metrics.GaugeReader(dsn, settings.schema_name)
    collectors = [metrics.WorkerMetrics(telemetry.tally), metrics.DatabaseMetrics(reader)]
    port, end = metrics.serve(settings.metrics_host, settings.metrics_port, collectors)
    telemetry.emit("metrics_served", url=f"http://{settings.metrics_host}:{port}/metrics")

    def stop() -> None:
        end()
        reader.close()

    return stop


def _collect_less() -> None:
    """Lets the garbage collector leave alone what is there for good, and look at the rest less
    often: an attempt leaves no cycles behind, yet by default the collector would walk through all
    that is in hand again and again, for a third of a busy worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _run(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal(number: int) -> None:
        nonlocal asked
        if asked:
            # Out of the loop, past everything that waits; an embedded server is still stopped.
            raise SystemExit(128 + number)
        asked = True
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await worker.run()


def main() -> None:
    """The entry point."""
    end_in_order_at_sigterm()
    cli(prog_name=program_name("worker"))


if __name__ == "__main__":
    main()
