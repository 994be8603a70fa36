"""What the shell completes: statuses, and saga types where the database can be asked at once."""

from __future__ import annotations

import psycopg
from psycopg import sql

from outbox.errors import OutboxError
from outbox.settings import load_settings
from outbox.store.connect import complete_dsn
from outbox.viewer.sagas import STATUSES


def complete_status(incomplete: str) -> list[str]:
    """The statuses that begin so, whatever the case."""
    return [status for status in STATUSES if status.startswith(incomplete.upper())]


def complete_type(incomplete: str) -> list[str]:
    """The registered saga types that begin so; none where there is no database to be asked, since
    nobody waits for a server to start while typing."""
    try:
        settings = load_settings()
        if settings.dsn is None:
            return []
        dsn = complete_dsn(settings.dsn.get_secret_value(), connect_timeout="1")
        with psycopg.connect(dsn) as connection:
            found = connection.execute(
                sql.SQL("select distinct type from {}.definitions order by type").format(
                    sql.Identifier(settings.schema_name)
                )
            ).fetchall()
    except (OutboxError, psycopg.Error):
        return []
    return [type_ for (type_,) in found if type_.startswith(incomplete)]
