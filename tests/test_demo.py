"""The demo as its user sees it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from steps.demo.directory import demo_directory
from steps.demo.errors import DemoError
from steps.demo.programs import environment
from steps.demo.workers import Crew
from steps.expected import CLOSED_MERCHANT, REFUSED_DOMAIN
from steps.make_payments import TARGET
from tests.postgres.servers import server_directory
from tests.waiting import wait_until
from tests.web.conftest import Browser

StartDemo = Callable[..., subprocess.Popen[str]]

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"│ +([a-z][\w :,]*?) +│ +([\d,]+) +│ +([\d,]+) +│")
PLAIN = 100
# A payment that meets one of these ends only when its effect cannot come late any more.
SLOW_FAULTS = (":*", "timeout", "create:error_500", "confirm:error_500")


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Payments of every kind in the shipped file, but for those that take long."""
    lines = TARGET.read_text().splitlines()
    quick = [line for line in lines if not any(slow in line for slow in SLOW_FAULTS)]
    special = ("sandbox_fault", "Declined", CLOSED_MERCHANT, REFUSED_DOMAIN, '"xts"')
    troubled = [line for line in quick if any(word in line for word in special)]
    plain = [line for line in quick if line not in troubled][:PLAIN]
    file = tmp_path_factory.mktemp("payments") / "payments.jsonl"
    file.write_text("\n".join(sorted(troubled + plain)))
    return file


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place for the demo's directory, which does not exist yet."""
    with server_directory() as parent:
        yield parent / "demo"


@pytest.fixture
def start_demo(directory: Path) -> Iterator[StartDemo]:
    """Starts demos in `directory`, with further options; none of them outlives the test."""
    demos: list[subprocess.Popen[str]] = []

    def start(*options: object) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-m", "steps.demo", "--directory", directory, *options]
        demo = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        demos.append(demo)
        return demo

    yield start
    for demo in demos:
        demo.terminate()
        demo.communicate()


def read_pids(demo: subprocess.Popen[str]) -> list[int]:
    """The workers' process ids, once the demo has named them."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("running: "):
            return [int(pid) for pid in re.findall(r"pid (\d+)", line)]
    raise AssertionError(f"the demo ended before it named its workers: {demo.communicate()[1]}")


def first_worker_with(transitions: int, directory: Path) -> int:
    """Whichever of the demo's two workers has logged this many first, by its number.

    One of them may have done most of the work, so that the other never comes that far.
    """

    def logged(number: int) -> int:
        log = directory / f"worker-{number}.log"
        return log.read_text().count('"transition"') if log.exists() else 0

    return wait_until(
        lambda: next((number for number in (1, 2) if logged(number) >= transitions), 0),
        message=f"{transitions} transitions in the log of one worker",
    )


def counted(output: str) -> dict[str, tuple[str, str]]:
    """The rows of the final table that have both an expected and a found number."""
    return {name: (expected, found) for name, expected, found in ROW.findall(output)}


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_of(directory: Path) -> list[psutil.Process]:
    """All processes whose command line names something in a directory."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or [])
    ]


def test_a_worker_killed_in_the_middle_changes_nothing_in_the_final_table(
    payments: Path, directory: Path, start_demo: StartDemo
) -> None:
    undisturbed = start_demo("--payments", payments)
    output, errors = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, output + errors
    assert not directory.exists()
    table = counted(output)
    assert table["suspended, for a person"] == ("4", "4")
    assert table["differences from what the inputs say"] == ("0", "0")
    assert all(expected == found for expected, found in table.values())

    disturbed = start_demo("--payments", payments, "--keep")
    pids = read_pids(disturbed)
    number = first_worker_with(100, directory)
    pid = pids[number - 1]
    os.kill(pid, signal.SIGKILL)
    output, errors = disturbed.communicate(timeout=120)
    assert disturbed.returncode == 0, output + errors
    assert f"worker {number} (pid {pid}) was killed by SIGKILL; worker 3 (pid " in output
    assert counted(output) == table
    assert (directory / "worker-3.log").exists(), "kept, as asked for"


@pytest.mark.parametrize(
    ("saga", "compared"),
    [
        ("order", "at the carrier: parcels booked"),
        ("travel", "at the ticket office: tickets issued"),
        ("onboarding", "accounts open"),
    ],
)
def test_each_saga_can_be_shown_and_a_killed_worker_changes_nothing(
    saga: str, compared: str, directory: Path, start_demo: StartDemo
) -> None:
    demo = start_demo("--saga", saga, "--count", 30)
    pids = read_pids(demo)
    os.kill(pids[first_worker_with(30, directory) - 1], signal.SIGKILL)
    output, errors = demo.communicate(timeout=120)
    assert demo.returncode == 0, output + errors
    table = counted(output)
    assert int(table[compared][0]) > 20
    assert table["differences from what the inputs say"] == ("0", "0")
    assert all(expected == found for expected, found in table.values())
    assert "was killed by SIGKILL" in output
    assert processes_of(directory) == []
    assert not directory.exists()


def test_one_that_stays_serves_its_dashboard_and_goes_on_until_it_is_ended(
    payments: Path, directory: Path, start_demo: StartDemo
) -> None:
    demo = start_demo("--payments", payments, "--count", 20, "--stay")
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if line.startswith("Ctrl-C"):
            break
    assert "payments: all 20 ended as their inputs say" in said, said
    url = re.findall(r"dashboard: (\S+)/admin", said)[-1]
    logins = dict(re.findall(r"^  (olga|vera) +(\S+) ", said, re.M))
    (dsn,) = re.findall(r"export OUTBOX_DSN='([^']+)'", said)
    processes = psutil.Process(demo.pid).children(recursive=True)
    assert len(processes) == 5, "two workers, the sandbox, the receiver of webhooks, the dashboard"

    browsers = {name: Browser(url) for name in logins}
    for name, browser in browsers.items():
        assert browser.log_in(name, "guessed").status_code == 401
        assert browser.log_in(name, logins[name]).status_code == 303
    with psycopg.connect(dsn, autocommit=True) as connection:
        ended = "select saga_id from saga.overview where key like 'sale-%' and status = 'COMPLETED'"
        (saga,) = wait_until(lambda: connection.execute(ended).fetchone()) or ("",)
        schedules = connection.execute("select name from saga.schedules").fetchall()
        assert schedules == [("subscription",)]
    for path in ("/sagas", f"/sagas/{saga}", "/types/order", "/types/onboarding", "/workers"):
        answer = browsers["olga"].get(path)
        assert answer.status_code == 200, (path, answer.text)
    assert "sale-" in browsers["vera"].get("/sagas", type="payment").text
    assert 'id="act-rerun"' in browsers["olga"].get(f"/sagas/{saga}").text
    assert "You are a viewer" in browsers["vera"].get(f"/sagas/{saga}").text

    # The API, as the line says that is printed for curl.
    (line,) = [line for line in said.splitlines() if line.startswith("  curl -H")]
    _, _, bearer, _, idempotency, _, body, address = shlex.split(line)
    headers = dict(header.split(": ") for header in (bearer, idempotency))
    started = httpx.post(
        address, content=body, headers={**headers, "Content-Type": "application/json"}
    )
    assert started.status_code == 202, started.text
    assert httpx.get(f"{url}{started.headers['Location']}", headers=headers).status_code == 200
    assert "outbox_" in httpx.get(f"{url}/metrics").text

    demo.send_signal(signal.SIGTERM)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    assert "nothing of it is left running" in output
    assert not any(is_alive(process.pid) for process in processes)
    assert processes_of(directory) == [], "Postgres"
    assert not directory.exists()


def test_an_interrupt_ends_it_and_leaves_nothing(
    payments: Path, directory: Path, start_demo: StartDemo
) -> None:
    demo = start_demo("--payments", payments)
    pids = read_pids(demo)
    assert len(processes_of(directory)) >= 3, "the demo, its sandbox and its Postgres"
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert errors == "demo: stopped; nothing of it is left running\n"
    assert not any(is_alive(pid) for pid in pids)
    assert processes_of(directory) == []
    assert not directory.exists()


def test_a_termination_during_its_set_up_ends_it_and_leaves_nothing(
    payments: Path, directory: Path, start_demo: StartDemo
) -> None:
    demo = start_demo("--payments", payments)
    wait_until(lambda: list(directory.glob("postgres*")))
    demo.send_signal(signal.SIGTERM)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 143
    assert errors == "demo: stopped; nothing of it is left running\n"
    assert processes_of(directory) == []
    assert not directory.exists()


def test_what_a_killed_demo_left_behind_is_cleared_by_the_next_one(
    payments: Path, directory: Path, start_demo: StartDemo
) -> None:
    killed = start_demo("--payments", payments)
    pids = read_pids(killed)
    killed.kill()
    killed.communicate()
    assert all(is_alive(pid) for pid in pids)
    again = start_demo("--payments", payments, "--count", 10)
    output, errors = again.communicate(timeout=120)
    assert again.returncode == 0, output + errors
    assert all(found == expected for expected, found in counted(output).values())
    assert not any(is_alive(pid) for pid in pids)
    # Its sandbox is nobody's any more, and in nobody's way.
    for process in processes_of(directory):
        process.kill()


def test_workers_that_cannot_start_are_shown_with_their_last_words(tmp_path: Path) -> None:
    variables = environment("host=/nowhere", "http://127.0.0.1:1", 25)
    with Crew(variables | {"OUTBOX_CONCURRENCY": "-3"}, tmp_path) as crew:
        workers = crew.start()

        def mend() -> DemoError | None:
            try:
                assert all("takes its place" in line for line in crew.mend())
                return None
            except DemoError as error:
                return error

        error = wait_until(mend)
        assert "OUTBOX_CONCURRENCY" in str(error)
        assert "exit code" in str(error)
    assert all(worker.process.returncode is not None for worker in workers)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoError, match="--directory"), demo_directory(tmp_path, keep=False):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with demo_directory(tmp_path / "demo", keep=False):
        with (
            pytest.raises(DemoError, match="another demo uses"),
            demo_directory(tmp_path / "demo", keep=False),
        ):
            pass
        assert (tmp_path / "demo").exists()
    assert not (tmp_path / "demo").exists()


def test_a_file_that_holds_something_else_is_refused_with_its_line(
    tmp_path: Path, directory: Path, start_demo: StartDemo
) -> None:
    file = tmp_path / "payments.jsonl"
    file.write_text('{"key": "order-1", "input": {"amount": 0}}\n')
    demo = start_demo("--payments", file)
    _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert errors.startswith(f"demo: {file}, line 1: ")
    assert not directory.exists()
