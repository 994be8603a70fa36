"""That what was measured was done: a rate counts only if every saga came to its right end."""

from __future__ import annotations

from tests.bench.server import Database


class WrongResultError(Exception):
    """The sagas did not end as they had to; what was measured does not count."""


def require_all_completed(database: Database, completed: int, failed: int = 0) -> None:
    """Checks ends, history, ledger and the audit of a database whose sagas have all ended.

    Args:
        completed: how many must be COMPLETED, each with one debit and four transitions.
        failed: how many must be FAILED and undone: five transitions (the refusal, two undos) each.

    Raises:
        WrongResultError: they differ, or the audit found something.
    """
    wanted = {
        "completed": completed,
        "failed": failed,
        "live": 0,
        "transitions": 4 * completed + 5 * failed,
        "entries": completed,
        "audit": 0,
    }
    with database.connect() as connection:
        row = connection.execute(
            "select (select count(*) from instance where status = 'COMPLETED'), "
            "(select count(*) from instance where status = 'FAILED'), "
            "(select count(*) from outbox), (select count(*) from transition), "
            "(select count(*) from entry), (select count(*) from audit())"
        ).fetchone()
    assert row is not None, "a select of counts returned no row"
    found = dict(zip(wanted, row, strict=True))
    if found != wanted:
        raise WrongResultError(f"expected {wanted}, found {found}")
