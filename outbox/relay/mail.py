"""Events as mails, for people: of alerts, above all."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from outbox.definition.event import Event
from outbox.errors import ConfigurationError
from outbox.relay.webhook import NotDeliveredError

MAILTO = "mailto:"
_PORTS = {"smtp": 25, "smtps": 465}


class Mailer:
    """Sends events as mails, each over a connection of its own.

    Args:
        url: ``smtp://[user:password@]host[:port]``, encrypted by STARTTLS where the server offers
            it, and always before a password is sent; or ``smtps://…``.
        sender: the address that the mails come from.

    Raises:
        ConfigurationError: the URL or the sender is none.
    """

    def __init__(self, url: str, sender: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(
                "OUTBOX_SMTP_URL is no smtp://[user:password@]host[:port], nor smtps://…"
            )
        try:
            self._domain = Address(addr_spec=sender).domain
        except ValueError as error:
            raise ConfigurationError(
                f"OUTBOX_SMTP_FROM={sender!r} is no mail address: {error}"
            ) from error
        self._sender = sender
        self._host = parts.hostname
        self._port = port or _PORTS[parts.scheme]
        self._encrypted = parts.scheme == "smtps"
        self._login = None
        if parts.username is not None:
            self._login = (unquote(parts.username), unquote(parts.password or ""))

    async def send(self, event: Event, url: str, timeout: timedelta) -> None:
        """Sends one event to the address of a ``mailto:`` URL.

        Raises:
            NotDeliveredError: the server did not take it. The message names no password.
        """
        message = self.message_of(event, url.removeprefix(MAILTO))
        try:
            await asyncio.to_thread(self._send, message, timeout.total_seconds())
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            raise NotDeliveredError(f"the mail server said {error.smtp_code} {text}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise NotDeliveredError(f"{type(error).__name__}: {error}") from error

    def message_of(self, event: Event, recipient: str) -> EmailMessage:
        """The mail: the same Message-ID in every attempt, so that a mailbox can tell them."""
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = _subject(event)
        message["Date"] = format_datetime(event.at)
        message["Message-ID"] = f"<{event.id}@{self._domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(_text(event))
        return message

    def _send(self, message: EmailMessage, seconds: float) -> None:
        context = ssl.create_default_context()
        opened: smtplib.SMTP = (
            smtplib.SMTP_SSL(self._host, self._port, self._domain, timeout=seconds, context=context)
            if self._encrypted
            else smtplib.SMTP(self._host, self._port, self._domain, timeout=seconds)
        )
        with opened as server:
            server.ehlo_or_helo_if_needed()
            if not self._encrypted and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                encrypted = True
            else:
                encrypted = self._encrypted
            if self._login is not None:
                if not encrypted:
                    raise smtplib.SMTPException(
                        "the server offers no encryption, and a password is not sent without"
                    )
                server.login(*self._login)
            server.send_message(message)


def _subject(event: Event) -> str:
    whose = event.type if event.key is None else f"{event.type} {event.key}"
    # A header is one line.
    return " ".join(f"{event.name}: {whose}".split())[:200]


def _text(event: Event) -> str:
    payload: Any = event.payload
    said = payload.get("message") if isinstance(payload, dict) else None
    lines = [*([str(said), ""] if said else []), f"event    {event.name} ({event.id})"]
    lines += [f"at       {event.at.isoformat()}", f"type     {event.type}"]
    if event.key is not None:
        lines += [f"saga     {event.saga_id}", f"key      {event.key}", f"step     {event.step}"]
    told = orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode()
    return "\n".join([*lines, "", told, ""])
