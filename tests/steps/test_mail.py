"""Confirmations, received by a real SMTP server."""

import email
import socket
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from typing import Any
from uuid import UUID

import aiosmtplib
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from outbox import Rejected
from steps.mail import Mailer, format_amount, message_id
from steps.model import Payment

pytestmark = pytest.mark.anyio

SAGA = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


class Mailbox:
    """Keeps what it receives; what it refuses stands in the address: refuse-550@, data-451@."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.recipients: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("refuse-"):
            return f"{address[7:10]} not here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        (recipient,) = envelope.rcpt_tos
        if recipient.startswith("data-"):
            return f"{recipient[5:8]} not this"
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        self.recipients.append(recipient)
        return "250 OK"


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def mailer(mailbox: Mailbox) -> Iterator[Mailer]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield mailer_at(port)
    controller.stop()


def mailer_at(port: int) -> Mailer:
    return Mailer("127.0.0.1", port, sender="pay@shop.example", timeout=5)


async def send(
    mailer: Mailer,
    recipient: str = "ann@example.com",
    key: str = "payment/o-1/mail",
    **changes: Any,
) -> str:
    plain = {
        "amount": 1230,
        "currency": "eur",
        "merchant": "Bäckerei",
        "customer": "cus_1",
        "payment_method": "pm_card_visa",
    }
    payment = Payment.model_validate(plain | changes)
    return await mailer.send_confirmation(
        payment, recipient, order="o-1", saga_id=SAGA, idempotency_key=key
    )


async def test_a_confirmation_says_what_was_paid_to_whom(mailer: Mailer, mailbox: Mailbox) -> None:
    sent_id = await send(mailer)
    (mail,) = mailbox.received
    assert mailbox.recipients == ["ann@example.com"]
    assert mail["Message-ID"] == sent_id
    assert mail["X-Saga-Id"] == str(SAGA)
    assert mail["Subject"] == "Your payment of 12.30 EUR"
    text = mail.get_content()
    assert "12.30 EUR to Bäckerei" in text
    assert "Order: o-1" in text


async def test_a_repeated_mail_has_the_same_message_id_and_another_one_has_not(
    mailer: Mailer, mailbox: Mailbox
) -> None:
    for key in ("payment/o-1/mail", "payment/o-1/mail", "payment/o-2/mail"):
        await send(mailer, key=key)
    first, repeated, other = (mail["Message-ID"] for mail in mailbox.received)
    assert first == repeated != other


async def test_a_key_of_any_characters_makes_a_message_id_that_fits_a_header() -> None:
    made = message_id("payment/ключ\r\nBcc: eve@example.com/" + "x" * 300, "shop.example")
    assert made.isascii()
    assert made.isprintable()
    assert len(made) < 78


@pytest.mark.parametrize(
    ("recipient", "code"),
    [("refuse-550@example.com", "smtp_550"), ("data-554@example.com", "smtp_554")],
)
async def test_a_permanent_refusal_is_a_rejection(
    mailer: Mailer, mailbox: Mailbox, recipient: str, code: str
) -> None:
    with pytest.raises(Rejected, match="mail refused: 55") as rejected:
        await send(mailer, recipient)
    assert rejected.value.code == code
    assert mailbox.received == []


@pytest.mark.parametrize("recipient", ["refuse-450@example.com", "data-451@example.com"])
async def test_a_temporary_refusal_is_worth_another_attempt(mailer: Mailer, recipient: str) -> None:
    with pytest.raises(aiosmtplib.SMTPException):
        await send(mailer, recipient)


async def test_an_absent_mail_host_is_worth_another_attempt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(mailer_at(port))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (5, "usd", "0.05 USD"),
        (123_456, "chf", "1234.56 CHF"),
        (500, "jpy", "500 JPY"),
        (1_001, "kwd", "1.001 KWD"),
    ],
)
async def test_an_amount_is_written_with_its_currencys_decimals(
    amount: int, currency: str, text: str
) -> None:
    assert format_amount(amount, currency) == text


@pytest.mark.parametrize("address", ["a@b\r\nBcc: c@d.example", "no address", "a@b, c@d", "<a@b>"])
async def test_an_address_that_could_smuggle_a_header_is_no_input(address: str) -> None:
    with pytest.raises(ValueError, match="email"):
        Payment.model_validate(
            {
                "amount": 1,
                "currency": "eur",
                "merchant": "m",
                "customer": "cus_1",
                "payment_method": "pm_card_visa",
                "email": address,
            }
        )
