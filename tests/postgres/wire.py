"""As much of Postgres' frontend/backend protocol as the proxy needs: cutting a stream of bytes into
messages, and knowing which statements the next answers belong to.

https://www.postgresql.org/docs/18/protocol-message-formats.html
"""

import asyncio
import struct
from collections import deque
from dataclasses import dataclass, field

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102


@dataclass(frozen=True)
class Message:
    """One message; `kind` is empty for the untyped ones that open a connection."""

    kind: bytes
    payload: bytes

    def encode(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.payload) + 4) + self.payload

    def code(self) -> int:
        """The request code of an untyped message."""
        return int(struct.unpack_from("!i", self.payload)[0])

    def strings(self, count: int) -> list[bytes]:
        """The first zero-terminated strings of the payload."""
        return self.payload.split(b"\0", count)[:count]


async def read_message(reader: asyncio.StreamReader, *, typed: bool = True) -> Message:
    """Read one message.

    Raises:
        asyncio.IncompleteReadError: the connection ended.
    """
    kind = await reader.readexactly(1) if typed else b""
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    return Message(kind, await reader.readexactly(length - 4))


@dataclass
class Unit:
    """What the client sent up to one ReadyForQuery: a simple query, or all until a Sync."""

    statements: list[bytes] = field(default_factory=list)
    """The texts to be executed, in lower case."""
    committed: bool = False
    """The server has said COMMIT."""
    failed: bool = False
    extended: bool = False

    def executes(self, text: bytes) -> bool:
        return any(text.lower() in statement for statement in self.statements)


class Conversation:
    """Follows one connection, so that every answer can be told its unit."""

    def __init__(self) -> None:
        self._pending: deque[Unit] = deque([Unit()])
        """Sent and not yet answered; the first one is the start of the session."""
        self._building = Unit(extended=True)
        self._prepared: dict[bytes, bytes] = {}
        self._ignored_syncs = 0

    def sent(self, message: Message) -> Unit:
        """Take note of a client's message, before it is passed on; returns its unit."""
        match message.kind:
            case b"Q":
                unit = Unit([message.strings(1)[0].lower()])
                self._pending.append(unit)
                return unit
            case b"P":
                name, text = message.strings(2)
                self._prepared[name] = text.lower()
            case b"B":
                _portal, name = message.strings(2)
                self._building.statements.append(self._prepared.get(name, b""))
            case b"S" if self._ignored_syncs:
                # The server ignored the Sync it got while it wanted COPY data; this replaces it.
                self._ignored_syncs -= 1
                self._building = Unit(extended=True)
            case b"S":
                unit, self._building = self._building, Unit(extended=True)
                self._pending.append(unit)
                return unit
            case _:
                pass
        return self._building

    def received(self, message: Message) -> Unit:
        """Take note of a server's message; returns its unit, which a ReadyForQuery ends."""
        unit = self._pending[0] if self._pending else self._building
        match message.kind:
            case b"C":
                unit.committed |= message.payload == b"COMMIT\0"
            case b"E":
                unit.failed = True
            case b"G" if unit.extended:
                self._ignored_syncs += 1
            case b"Z" if self._pending:
                self._pending.popleft()
            case _:
                pass
        return unit

    def is_whole(self, unit: Unit) -> bool:
        """Whether the client has sent all of it, and waits for the end of its answer."""
        return unit is not self._building
