"""The demo's mail server: it keeps what it takes, and refuses one domain for good."""

from __future__ import annotations

import asyncio
import email
import socket
import threading
from dataclasses import dataclass
from email.policy import default
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from steps.expected import REFUSED_DOMAIN

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that was taken; the same one taken twice has the same ``message_id``."""

    message_id: str
    saga_id: str
    recipient: str
    subject: str = ""


class Mailbox:
    """A mail server on a free port of this machine, in a thread; a context manager."""

    def __init__(self) -> None:
        self.received: list[Mail] = []
        self._socket = socket.create_server((HOST, 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mail server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse an address of the domain that is refused."""
        if address.endswith(f"@{REFUSED_DOMAIN}"):
            return f"550 5.1.1 no such mailbox: {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep a mail."""
        content = envelope.content
        message = email.message_from_bytes(
            content if isinstance(content, bytes) else (content or "").encode(), policy=default
        )
        self.received += [
            Mail(
                str(message["Message-ID"]),
                str(message["X-Saga-Id"]),
                recipient,
                str(message["Subject"]),
            )
            for recipient in envelope.rcpt_tos
        ]
        return "250 OK"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # A name of its own: the default asks the resolver.
        server = await self._loop.create_server(
            lambda: SMTP(self, hostname="mail.demo.example", loop=self._loop), sock=self._socket
        )
        await self._stop.wait()
        server.close()
