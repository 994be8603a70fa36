"""The two programs, run as a user runs them."""

import asyncio
import json
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from outbox.cli import saga
from tests.fixtures import Schema
from tests.payments.world import ROOT

APP = "tests.cli.app:app"


@dataclass(frozen=True)
class Ran:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


SagaProgram = Callable[..., Ran]


def environment(schema: Schema | None, **changes: str) -> dict[str, str]:
    """What the programs see; nothing of this machine's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_")}
    ours = {"OUTBOX_APPS": APP, "NO_COLOR": "1"}
    if schema is not None:
        ours |= {"OUTBOX_DSN": schema.dsn, "OUTBOX_SCHEMA": schema.name}
    return {**kept, **ours, **changes}


@pytest.fixture
def saga_program(schema: Schema, tmp_path: Path) -> SagaProgram:
    """`bin/saga` on the test's schema: arguments, and perhaps `stdin` and variables. In a process
    of its own, forked from this one, which has imported everything already."""

    def run(*arguments: str, stdin: str | bytes = "", **variables: str) -> Ran:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        files = [tmp_path / f".{name}-{uuid.uuid4().hex}" for name in ("in", "out", "err")]
        files[0].write_bytes(given)
        child = os.fork()
        if child == 0:
            _become_saga(arguments, files, environment(schema, **variables))
        _, status = os.waitpid(child, 0)
        out, err = (file.read_text() for file in files[1:])
        ran = Ran(os.waitstatus_to_exitcode(status), out, err)
        assert "Traceback" not in ran.out + ran.err, ran.err
        return ran

    return run


def _become_saga(
    arguments: Sequence[str], files: Sequence[Path], variables: dict[str, str]
) -> NoReturn:
    """In the child: the streams, the environment and the arguments of a fresh program."""
    code = 1
    try:
        for number, file in enumerate(files):
            flags = os.O_RDONLY if number == 0 else os.O_CREAT | os.O_WRONLY
            os.dup2(os.open(file, flags), number)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(ROOT)
        asyncio._set_running_loop(None)
        sys.argv = ["saga", *arguments]
        saga.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def registered(saga_program: SagaProgram) -> SagaProgram:
    """The program, with the type registered."""
    assert saga_program("register").out == "order version 1: registered\n"
    return saga_program
