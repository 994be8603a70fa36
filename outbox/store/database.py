"""Which database a process uses: the configured one, or the embedded server's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from outbox.settings import Settings
from outbox.store.embedded import EmbeddedServer


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The DSN to use: ``settings.dsn``, or that of the embedded server under
    ``settings.directory``, which runs as long as somebody uses it.

    Raises:
        EmbeddedServerError: there is no DSN, and the embedded server cannot be used.
    """
    if settings.dsn is not None:
        yield settings.dsn.get_secret_value()
        return
    with EmbeddedServer(settings.directory) as server:
        yield server.dsn
