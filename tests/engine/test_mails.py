"""Events as mails, received by a real SMTP server."""

import email
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from outbox import Command, Saga
from outbox.errors import ConfigurationError
from outbox.relay.mail import Mailer
from tests.engine.bench import Bench, Note, make_saga, until


@dataclass
class Mailbox:
    """Refuses so many mails, then keeps what it receives."""

    url: str
    refuse: int = 0
    received: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuse:
            self.refuse -= 1
            return "451 later"
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mailbox = Mailbox(f"smtp://127.0.0.1:{port}")
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield mailbox
    controller.stop()


def make_telling() -> Saga[Note]:
    saga = make_saga()

    @saga.step(nothing_to_undo="it only tells")
    async def tell(cmd: Command[Note]) -> None:
        cmd.emit("note.read", {"message": "Grüße\nfrom here"})

    return saga


async def test_an_event_comes_as_a_mail_once_the_server_takes_it(
    bench: Bench, mailbox: Mailbox
) -> None:
    saga = make_telling()
    mailbox.refuse = 1
    await bench.rows("select subscribe('pager', '{note.*}', 'mailto:ops@shop.example')")
    settings = {"smtp_url": mailbox.url, "smtp_from": "engine@shop.example"}
    async with bench.worker(saga, **settings) as running:
        saga_id = await bench.start(saga)
        await until(lambda: bool(mailbox.received))
        (failed,) = running.events("delivery_failed")
        assert failed["error"].endswith("the mail server said 451 later")
        ((number,),) = await bench.rows("select number from event")
        ((key,),) = await bench.rows("select key from overview")
    (mail,) = mailbox.received
    assert mail["From"] == "engine@shop.example"
    assert mail["To"] == "ops@shop.example"
    assert mail["Subject"] == f"note.read: {saga.type} {key}"
    assert mail["Message-ID"] == f"<{saga_id}-{number}@shop.example>"
    text = mail.get_content()
    assert text.startswith("Grüße")
    assert str(saga_id) in text


async def test_an_alert_of_a_type_comes_as_a_mail(bench: Bench, mailbox: Mailbox) -> None:
    saga = make_telling()
    await bench.rows("select subscribe('pager', '{alert.*}', 'mailto:ops@shop.example')")
    await bench.rows(
        "insert into event (saga_id, seq, type, version, step, name, payload, at) values "
        "('00000000-0000-0000-0000-000000000000', 0, 'order', 0, '', 'alert.lag', "
        """'{"message": "a command is late"}', clock())"""
    )
    async with bench.worker(saga, smtp_url=mailbox.url):
        await until(lambda: bool(mailbox.received))
    (mail,) = mailbox.received
    assert mail["Subject"] == "alert.lag: order"
    assert "a command is late" in mail.get_content()
    assert "0000-0000" not in mail.get_content().split("event    ")[0]


async def test_a_password_is_not_sent_without_encryption(bench: Bench, mailbox: Mailbox) -> None:
    saga = make_telling()
    await bench.rows("select subscribe('pager', '{note.*}', 'mailto:ops@shop.example')")
    url = mailbox.url.replace("smtp://", "smtp://outbox:hunter2@")
    async with bench.worker(saga, smtp_url=url) as running:
        await bench.start(saga)
        await until(lambda: bool(running.events("delivery_failed")))
        (failed, *_) = running.events("delivery_failed")
    assert "a password is not sent without" in failed["error"]
    assert "hunter2" not in failed["error"]
    assert mailbox.received == []


@pytest.mark.parametrize("url", ["mail.example", "https://mail.example", "smtp://:x", "smtp://h:n"])
def test_what_is_no_server_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTBOX_SMTP_URL"):
        Mailer(url, "a@b.example")


def test_a_sender_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OUTBOX_SMTP_FROM='nobody here'"):
        Mailer("smtp://h", "nobody here")


async def test_what_is_no_address_is_not_subscribed(bench: Bench) -> None:
    for url in ("mailto:", "mailto:ops", "mailto:a@b?cc=c@d", "mailto:a@b, c@d"):
        with pytest.raises(Exception, match="none that can be posted to"):
            await bench.rows("select subscribe('pager', '{*}', %s)", url)
    with pytest.raises(Exception, match="mails are not signed"):
        await bench.rows("select subscribe('pager', '{*}', 'mailto:a@b', %s)", "whsec_" + "A" * 32)
