"""Mails over SMTP, recognisable as the same mail however often they are sent."""

from __future__ import annotations

import email.utils
import hashlib
from email.message import EmailMessage
from uuid import UUID

import aiosmtplib

from outbox import Rejected
from steps.model import Payment

# Currencies without a smaller unit and with a thousandth, ISO 4217.
NO_DECIMALS = frozenset(
    {"bif", "clp", "djf", "gnf", "isk", "jpy", "kmf", "krw"}
    | {"pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"}
)
THREE_DECIMALS = frozenset({"bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"})


class Mailer:
    """Sends mails through one mail host.

    Args:
        host: the mail host.
        port: its port.
        sender: address in From; its domain also makes the Message-ID.
        timeout: how long to wait for the host, in seconds.
    """

    def __init__(self, host: str, port: int, *, sender: str, timeout: float) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._domain = sender.rpartition("@")[2]
        self._timeout = timeout

    async def send_confirmation(
        self, payment: Payment, recipient: str, *, order: str, saga_id: UUID, idempotency_key: str
    ) -> str:
        """Send the confirmation of a payment.

        SMTP has no idempotency: a mail whose acceptance got lost is sent again. Its Message-ID is
        the same then, by which a mailbox recognises it.

        Args:
            payment: what was paid.
            recipient: to whom the mail goes.
            order: the saga's key, named in the text.
            saga_id: goes into the header X-Saga-Id.
            idempotency_key: makes the Message-ID.

        Returns:
            The Message-ID.

        Raises:
            Rejected: the host refuses this mail for good.
            aiosmtplib.SMTPException: it does not take the mail now, or its answer was lost.
        """
        amount = format_amount(payment.amount, payment.currency)
        return await self.send(
            recipient,
            f"Your payment of {amount}",
            f"Thank you.\n\nYour payment of {amount} to {payment.merchant} is authorized.\n"
            f"Order: {order}\n",
            saga_id=saga_id,
            idempotency_key=idempotency_key,
        )

    async def send(
        self, recipient: str, subject: str, text: str, *, saga_id: UUID, idempotency_key: str
    ) -> str:
        """Send a mail; what ``send_confirmation`` says of repetition holds.

        Args:
            recipient: to whom the mail goes.
            subject: one line.
            text: the mail.
            saga_id: goes into the header X-Saga-Id.
            idempotency_key: makes the Message-ID.

        Returns:
            The Message-ID.

        Raises:
            Rejected: the host refuses this mail for good.
            aiosmtplib.SMTPException: it does not take the mail now, or its answer was lost.
        """
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = subject
        message["Date"] = email.utils.localtime()
        message["Message-ID"] = message_id(idempotency_key, self._domain)
        message["X-Saga-Id"] = str(saga_id)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        try:
            await aiosmtplib.send(
                message,
                sender=self._sender,
                recipients=[recipient],
                hostname=self._host,
                port=self._port,
                # The default asks the resolver for our name, and blocks while it does.
                local_hostname=self._domain,
                timeout=self._timeout,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            refusal = error.recipients[0]
            _reject_if_permanent(refusal.code, refusal.message, error)
            raise
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            _reject_if_permanent(error.code, error.message, error)
            raise
        return str(message["Message-ID"])


def message_id(idempotency_key: str, domain: str) -> str:
    """Derive the Message-ID from the key: the same for every attempt, and safe in a header.

    Args:
        idempotency_key: the step's key; any characters.
        domain: the sender's domain.

    Returns:
        The Message-ID with its angle brackets.
    """
    digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
    return f"<{digest[:40]}@{domain}>"


def format_amount(amount: int, currency: str) -> str:
    """Write an amount for people.

    Args:
        amount: in the smallest unit of the currency.
        currency: ISO 4217 code in small letters.

    Returns:
        For example ``12.30 EUR`` or ``500 JPY``.
    """
    decimals = 0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2
    if decimals == 0:
        return f"{amount} {currency.upper()}"
    whole, fraction = divmod(amount, 10**decimals)
    return f"{whole}.{fraction:0{decimals}} {currency.upper()}"


def _reject_if_permanent(code: int, reason: str, error: Exception) -> None:
    if 500 <= code < 600:
        raise Rejected(f"mail refused: {code} {reason}", code=f"smtp_{code}") from error
