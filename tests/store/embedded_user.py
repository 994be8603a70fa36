"""A program that uses an embedded server until its standard input ends: what the tests of the
server's sharing start, kill, and start again.

    python embedded_user.py DIRECTORY     prints the server's process id, then its DSN
"""

import sys
from pathlib import Path

from outbox.store.embedded import EmbeddedServer


def main() -> None:
    with EmbeddedServer(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
        print(server.pid, server.dsn, flush=True)
        sys.stdin.read()


main()
