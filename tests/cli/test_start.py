"""`bin/saga start`: one saga, or one for each line of a file, good or bad."""

import json
import uuid
from pathlib import Path

import pytest

from tests.cli.conftest import SagaProgram

GOOD = '{"amount": 3}'


def test_start_prints_the_id_and_starts_a_key_once(registered: SagaProgram) -> None:
    first = registered("start", "order", "--input", GOOD, "--key", "a")
    saga_id = first.out.strip()
    assert (first.code, first.err, str(uuid.UUID(saga_id))) == (0, "", saga_id)
    again = registered("start", "order", "--input", GOOD, "--key", "a")
    assert (again.code, again.out) == (0, f"{saga_id} (existed already)\n")
    assert registered("start", "order", "--input", GOOD, "--key", "a", "--json").json == {
        "id": saga_id, "key": "a", "created": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["order"], "give either --input JSON or --file FILE"),
        (["order", "--input", "{"], "malformed JSON"),
        (["order", "--input", "[1]"], "a JSON object"),
        (["order", "--input", "{}"], "amount"),
        (["order", "--input", '{"amount": "many"}'], "amount"),
        (["order", "--input", '{"amount": 1, "end": "a\\u0000"}'], "NUL"),
        (["nothing", "--input", GOOD], 'unknown saga type "nothing"'),
        (["order", "--input", GOOD, "--app", "no.such:app"], "no.such"),
        (["order", "--file", "no-such-file"], "no-such-file: No such file"),
        (["order", "--file", "."], "directory"),
        (["order", "--file", "x", "--key", "a"], "--key goes with --input"),
        (["order", "--file", "-", "--format", "xml"], "jsonl or csv"),
        (["order", "--input", GOOD, "--key", "\udcff"], "key"),
        (["order", "--input", GOOD, "--key", ""], "key is empty"),
        ([], "TYPE"),
        (["order", "--nonsense"], "--nonsense"),
    ],
)
def test_a_start_that_cannot_be_is_refused(
    registered: SagaProgram, arguments: list[str], says: str
) -> None:
    ran = registered("start", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_the_database_checks_the_input_where_no_app_is_at_hand(registered: SagaProgram) -> None:
    ran = registered("start", "order", "--input", "{}", OUTBOX_APPS="no.such:app")
    assert ran.code == 2
    assert "amount" in ran.err


LINES = [
    '{"key": "a", "input": {"amount": 1}}',
    '{"amount": 2}',
    "",
    "not json",
    '{"key": 5, "input": {"amount": 1}}',
    "[1]",
    '{"key": "b", "input": {"amount": "many"}}',
    '{"key": "c", "input": {"amount": 3, "end": "a\\u0000b"}}',
    '{"key": "d", "input": {"amount": 4, "gift": true}}',
]


def test_a_file_with_bad_lines_starts_the_others(registered: SagaProgram, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("\ufeff" + "\n".join(LINES))
    ran = registered("start", "order", "--file", str(file), "--json")
    assert ran.code == 1
    assert (ran.json["started"], ran.json["existed"]) == (3, 0)
    problems = {refused["line"]: refused["problem"] for refused in ran.json["refused"]}
    assert sorted(problems) == [4, 5, 6, 7, 8]
    for line, says in {4: "malformed", 5: "key", 6: "object", 7: "amount", 8: "NUL"}.items():
        assert says in problems[line]
        assert f"line {line}: " in ran.err
    again = registered("start", "order", "--file", str(file))
    assert (again.code, again.out) == (1, "1 started, 2 existed already, 5 lines refused\n")


def test_a_csv_with_bad_lines_starts_the_others(registered: SagaProgram, tmp_path: Path) -> None:
    file = tmp_path / "orders.CSV"
    file.write_text(
        "key,amount,price,gift,end\n"
        'a,1,2.5,true,"well, ""quoted"""\n'
        "b,many,,,\n"
        'c,"1"x,,,\n'
        "d,1,,,,too many\n"
        "e,4,,,\n"
        "f,5\n"
    )
    ran = registered("start", "order", "--file", str(file), "--json")
    assert ran.code == 1
    assert ran.json["started"] == 3
    problems = {refused["line"]: refused["problem"] for refused in ran.json["refused"]}
    assert sorted(problems) == [3, 4, 5]
    assert "must be integer, not 'many'" in problems[3]
    assert "malformed CSV" in problems[4]
    assert "more cells" in problems[5]
    shown = registered("show", "a", "--json").json
    assert shown["input"] == {"amount": 1, "price": 2.5, "gift": True, "end": 'well, "quoted"'}
    assert registered("start", "order", "--file", str(file)).out.startswith("0 started, 3 existed")


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_a_file_from_standard_input(registered: SagaProgram, file_format: str) -> None:
    text = "amount\n1\n2\n" if file_format == "csv" else '{"amount": 1}\n{"amount": 2}\n'
    ran = registered("start", "order", "--file", "-", "--format", file_format, stdin=text)
    assert (ran.code, ran.out) == (0, "2 started, 0 existed already, 0 lines refused\n")


def test_a_file_that_is_no_text(registered: SagaProgram, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_bytes(b'{"amount": 1}\n\xff\xfe')
    for argument, stdin in ((str(file), b""), ("-", file.read_bytes())):
        ran = registered("start", "order", "--file", argument, "--json", stdin=stdin)
        assert (ran.code, ran.json["started"]) == (1, 1)
        (refused,) = ran.json["refused"]
        assert refused["line"] == 2
        assert "UTF-8" in refused["problem"]
    file = tmp_path / "orders.csv"
    file.write_bytes(b"amount,end\n1,well\n2,\xff\xfe\n")
    ran = registered("start", "order", "--file", str(file), "--json")
    assert (ran.code, ran.json["started"]) == (1, 1)
    assert ran.json["refused"][0]["line"] == 3


def test_an_empty_file(registered: SagaProgram) -> None:
    for file_format in ("csv", "jsonl"):
        ran = registered("start", "order", "--file", "-", "--format", file_format)
        assert (ran.code, ran.out) == (0, "0 started, 0 existed already, 0 lines refused\n")


def test_more_than_a_batch_with_one_bad_line(registered: SagaProgram) -> None:
    lines = [json.dumps({"key": f"k{n}", "input": {"amount": n}}) for n in range(2500)]
    lines[1700] = '{"key": "bad", "input": {"amount": null}}'
    ran = registered("start", "order", "--file", "-", "--json", stdin="\n".join(lines))
    assert (ran.code, ran.json["started"]) == (1, 2499)
    assert [refused["line"] for refused in ran.json["refused"]] == [1701]
