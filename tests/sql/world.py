"""The database and the model of it, side by side, and what is done to both."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from outbox.store.functions import Answer, Claimed, Report
from tests.sql.engine import LEASE, Engine, Worker
from tests.sql.model import COLUMNS, GRACE, Model


class World:
    """Three workers and some sagas.

    `hands` is what each worker, living or dead, believes to hold; `expires` is when the lease of a
    registered one ends; `told` are all outcomes that were ever reported.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        engine.execute("delete from outbox; delete from instance; delete from transition")
        engine.execute("delete from worker; delete from act; delete from failure")
        engine.ahead = timedelta()
        engine.pass_time(0)
        self.models: dict[UUID, Model] = {}
        self.keys: dict[str, UUID] = {}
        self.ended: dict[UUID, datetime] = {}
        self.expires: dict[UUID, datetime] = {}
        self.told: list[tuple[Worker, Report]] = []
        self.hands: dict[UUID, dict[UUID, Claimed | Answer]] = {}
        self.workers = [self.register() for _ in range(3)]

    def register(self) -> Worker:
        worker = self.engine.worker("order", "entry")
        self.expires[worker.id] = self.engine.now() + LEASE
        self.hands[worker.id] = {}
        return worker

    def commit(self, worker: Worker, reports: list[Report], keep: bool) -> None:
        """A worker tells outcomes; each gets the verdict that it must."""
        expected = {
            r.command: self.models[r.command].verdict(worker.id, r.fence)
            if r.command in self.models
            else "fenced"
            for r in reports
        }
        answers = worker.advance(*reports)
        for told, answer in zip(reports, answers, strict=True):
            assert answer.verdict == expected[told.command]
            self.told.append((worker, told))
            model = self.models.get(told.command)
            if answer.verdict == "applied" and model is not None:
                model.advance(told, at=self.engine.last(told.command).at)
                assert (answer.status, answer.seq) == (model.status, model.seq)
                self.note_end(told.command)
            mine = self.hands[worker.id]
            if answer.fence is not None:
                assert model is not None
                assert (answer.fence, model.worker) == (model.fence, worker.id)
                assert (answer.kind, answer.step) == (model.kind, model.step)
                mine[told.command] = answer
                if not keep:
                    assert worker.release(answer) == {told.command}
                    model.release()
                    del mine[told.command]
            elif told.command in mine and mine[told.command].fence == told.fence:
                del mine[told.command]

    def sweep(self) -> None:
        """Reaps, whom it must and nobody else."""
        held = {
            row.id: row for row in self.engine.rows("select * from outbox where worker is not null")
        }
        before = self.engine.now()
        lost = {taken.command for taken in self.engine.reap()}
        after = self.engine.now()
        for worker, expires in list(self.expires.items()):
            if expires < before:
                del self.expires[worker]
        for command, row in held.items():
            died = row.worker not in self.expires
            if died or row.deadline + GRACE < before:
                assert command in lost
            elif row.deadline + GRACE > after:
                assert command not in lost
        assert lost <= held.keys()
        for command in lost:
            self.models[command].lose(held[command].deadline, self.engine.now())

    def act(self, saga: UUID, act: str) -> str:
        match act:
            case "retry":
                return self.engine.retry(saga)
            case "abort":
                return self.engine.abort(saga)
            case _:
                return self.engine.resolve(saga, act)

    def note_end(self, saga: UUID) -> None:
        if not self.models[saga].is_live:
            self.ended[saga] = self.engine.instance(saga).ended_at

    def agree(self) -> None:
        """The tables hold what the model says, and pass the audit."""
        rows = {row.id: row for row in self.engine.rows("select * from outbox")}
        assert rows.keys() == {saga for saga, model in self.models.items() if model.is_live}
        for saga, row in rows.items():
            assert {name: getattr(row, name) for name in COLUMNS} == self.models[saga].row()
        ends = {row.id: row.status for row in self.engine.rows("select * from instance")}
        assert ends == {saga: None if m.is_live else m.status for saga, m in self.models.items()}
        assert self.engine.audit() == []
