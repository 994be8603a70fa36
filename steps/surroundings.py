"""What the sagas beside the payment share: their settings, partners, mailer and tables."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable

import psycopg

from outbox import AppContext, Retry
from steps.mail import Mailer
from steps.partners import NOT_SENT, Partners
from steps.settings import ExampleSettings
from steps.shop import Shop

FORWARD = Retry(attempts=5, base=0.2, cap=5.0, no_effect=NOT_SENT)
UNDO = Retry(attempts=20, base=0.2, cap=5.0)


@contextlib.asynccontextmanager
async def surroundings(context: AppContext) -> AsyncIterator[Iterable[object]]:
    """Set up once for a worker what the steps use."""
    settings = ExampleSettings()
    shop = Shop(settings.db_schema)
    connection = await psycopg.AsyncConnection.connect(context.dsn, autocommit=True)
    async with connection:
        await shop.install(connection)
    partners = Partners(settings.partners_url, timeout=settings.partners_timeout)
    mailer = Mailer(
        settings.smtp_host,
        settings.smtp_port,
        sender=settings.mail_from,
        timeout=settings.smtp_timeout,
    )
    try:
        yield settings, shop, partners, mailer
    finally:
        await partners.close()
