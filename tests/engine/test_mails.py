"""Events as mails, received by a real SMTP server."""

import asyncio
import contextlib
import email
import socket
import ssl
import subprocess
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from outbox import Command, Saga
from outbox.definition.event import Event
from outbox.errors import ConfigurationError
from outbox.relay.mail import Mailer
from outbox.relay.webhook import NotDeliveredError
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


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine, signed by itself, with its key."""
    path = tmp_path_factory.mktemp("smtp") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out",
         path.with_name("only.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + path.with_name("only.pem").read_text())
    return path


@dataclass
class Door:
    """Lets in one user with one password, and remembers by which way who came."""

    user: str
    password: str
    came: list[tuple[str, bool]] = field(default_factory=list)

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        right = (given.login, given.password) == (self.user.encode(), self.password.encode())
        self.came.append((mechanism, right))
        return AuthResult(success=right, handled=False)


@contextlib.contextmanager
def guarded(door: Door, certificate: Path, *excluded: str) -> Iterator[Mailbox]:
    """A mailbox over TLS for whoever logs in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mailbox = Mailbox(f"smtps://{quote(door.user)}:{quote(door.password)}@127.0.0.1:{port}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    controller = Controller(
        mailbox, hostname="127.0.0.1", port=port, ssl_context=context, authenticator=door,
        auth_required=True, auth_require_tls=False, auth_exclude_mechanism=excluded,
    )  # fmt: skip
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


EVENT = Event(
    "1-1", "note.read", {"message": "read"}, UUID(int=1), "note", 1, "k", "tell", 1,
    datetime.now(UTC), 1,
)  # fmt: skip
SOON = timedelta(seconds=10)


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # it is TLS from the first byte on
@pytest.mark.parametrize(
    ("user", "password", "excluded", "way"),
    [
        ("outbox", "hunter2", (), "PLAIN"),
        ("größe", "pässwörd-密", (), "PLAIN"),
        ("outbox", "pässwörd-密", ("PLAIN",), "LOGIN"),
    ],
)
async def test_a_password_of_any_language_is_understood(
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    password: str,
    excluded: tuple[str, ...],
    way: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    door = Door(user, password)
    with guarded(door, certificate, *excluded) as mailbox:
        await Mailer(mailbox.url, "engine@bücher.example").send(EVENT, "mailto:a@b.example", SOON)
        assert door.came == [(way, True)]
        assert len(mailbox.received) == 1

        # A wrong one is the server's no, and nobody reads it.
        door.password = "another"
        with pytest.raises(NotDeliveredError, match="the mail server said 535") as wrong:
            await Mailer(mailbox.url, "a@b.example").send(EVENT, "mailto:a@b.example", SOON)
        assert password not in "".join(traceback.format_exception(wrong.value))

    with guarded(door, certificate, "PLAIN", "LOGIN") as mailbox:
        url = mailbox.url.replace("another", quote(password))
        with pytest.raises(NotDeliveredError) as no_way:
            await Mailer(url, "a@b.example").send(EVENT, "mailto:a@b.example", SOON)
        assert password not in "".join(traceback.format_exception(no_way.value))
        if not password.isascii():
            assert "neither AUTH PLAIN nor LOGIN" in str(no_way.value)


async def test_a_server_that_hangs_keeps_no_thread_of_others() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        mailer = Mailer(f"smtp://127.0.0.1:{silent.getsockname()[1]}", "a@b.example")
        sending = [
            asyncio.create_task(mailer.send(EVENT, "mailto:a@b.example", timedelta(seconds=20)))
            for _ in range(40)
        ]
        await asyncio.sleep(0)  # all of them begin
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 10) == "done"
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


@pytest.mark.parametrize("url", ["smtp://u:p%FCss@h", "smtp://p%FCss@h", "smtp://u:p%FCss@a..b"])
def test_what_no_server_could_read_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTBOX_SMTP_URL") as refused:
        Mailer(url, "a@b.example")
    assert "ss" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("url", ["mail.example", "https://mail.example", "smtp://:x", "smtp://h:n"])
def test_what_is_no_server_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="OUTBOX_SMTP_URL"):
        Mailer(url, "a@b.example")


@pytest.mark.parametrize("sender", ["nobody here", "", "a@b..c", "a@", "@"])
def test_a_sender_that_is_no_address_is_refused(sender: str) -> None:
    with pytest.raises(ConfigurationError, match=f"OUTBOX_SMTP_FROM='{sender}'"):
        Mailer("smtp://h", sender)


async def test_what_is_no_address_is_not_subscribed(bench: Bench) -> None:
    for url in ("mailto:", "mailto:ops", "mailto:a@b?cc=c@d", "mailto:a@b, c@d"):
        with pytest.raises(Exception, match="none that can be posted to"):
            await bench.rows("select subscribe('pager', '{*}', %s)", url)
    with pytest.raises(Exception, match="mails are not signed"):
        await bench.rows("select subscribe('pager', '{*}', 'mailto:a@b', %s)", "whsec_" + "A" * 32)
