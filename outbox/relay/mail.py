"""Events as mails, for people: of alerts, above all."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.errors import MessageError
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
_AT_ONCE = 4
_GO_ON, _LET_IN = 334, 235  # RFC 4954


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
            self._host = _ascii(parts.hostname)
        except UnicodeError:
            raise ConfigurationError(
                f"OUTBOX_SMTP_URL: {parts.hostname!r} is no name of a host"
            ) from None
        try:
            self._domain = _ascii(Address(addr_spec=sender).domain)
        except (ValueError, MessageError, IndexError) as error:
            raise ConfigurationError(
                f"OUTBOX_SMTP_FROM={sender!r} is no mail address: {error}"
            ) from error
        self._sender = sender
        self._port = port or _PORTS[parts.scheme]
        self._encrypted = parts.scheme == "smtps"
        # Of its own: a server that hangs is not to keep the threads by which all else finds hosts.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="outbox mail")
        self._login = None
        if parts.username is not None:
            try:
                self._login = (_unquoted(parts.username), _unquoted(parts.password or ""))
            except UnicodeDecodeError:
                raise ConfigurationError(
                    "OUTBOX_SMTP_URL: a character of the user or of the password that is written "
                    "with % is not UTF-8: an ü is %C3%BC"
                ) from None

    async def send(self, event: Event, url: str, timeout: timedelta) -> None:
        """Sends one event to the address of a ``mailto:`` URL.

        Raises:
            NotDeliveredError: the server did not take it. The message names no password.
        """
        message = self.message_of(event, url.removeprefix(MAILTO))
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._send, message, timeout.total_seconds())
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
                _log_in(server, *self._login)
            server.send_message(message)


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """Logs in; beyond ASCII, which is all that smtplib takes, in UTF-8: so PLAIN has it (RFC 4616),
    and so servers read LOGIN.

    Raises:
        smtplib.SMTPException: the server does not let us in.
    """
    if (user + password).isascii():
        server.login(user, password)
        return
    ways = server.esmtp_features.get("auth", "").upper().split()
    if "PLAIN" in ways:
        code, said = server.docmd("AUTH", f"PLAIN {_base64(f'{chr(0)}{user}{chr(0)}{password}')}")
    elif "LOGIN" in ways:
        code, said = server.docmd("AUTH", "LOGIN")
        for part in (user, password):
            if code == _GO_ON:
                code, said = server.docmd(_base64(part))
    else:
        raise smtplib.SMTPNotSupportedError(
            "the user or the password of OUTBOX_SMTP_URL is not ASCII, and the server offers "
            f"neither AUTH PLAIN nor LOGIN ({' '.join(ways) or 'none'}): use one that is ASCII"
        )
    if code != _LET_IN:
        raise smtplib.SMTPAuthenticationError(code, said)


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def _ascii(name: str) -> str:
    """A host's name as SMTP and DNS have it (RFC 3490)."""
    return name.encode("idna").decode()


def _unquoted(text: str) -> str:
    return unquote(text, errors="strict")


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
