"""What pages are made of: masks, times, charts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.definition.registry import describe_steps
from outbox.errors import InputError
from outbox.viewer.acts import Line
from outbox.viewer.plan import plan_of
from outbox.viewer.saga import Moment
from outbox.web.charts.axis import Axis
from outbox.web.charts.diagram import diagram
from outbox.web.charts.gantt import gantt
from outbox.web.charts.progress import progress_of
from outbox.web.charts.series import Window, lines, round_up, stacked
from outbox.web.charts.svg import tag
from outbox.web.mask import MASK, Masking
from outbox.web.rendering import Rendering
from outbox.web.settings import MASKED, WebSettings
from outbox.web.times import age_text, duration_text
from tests.web.sagas import PURCHASE

NAMES = WebSettings(_env_file=None).masked_names
MASKING = Masking(NAMES)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    ["password", "userPassword", "PASSWORD_HASH", "accessToken", "access-token", "tokens",
     "client_secret", "card", "cardNumber", "cards", "CVC", "iban", "IBANs", "apiKey", "API_KEY",
     "apikey", "x-api-key", "privateKey", "Authorization", "credentials", "Set-Cookie", "pin"],
)  # fmt: skip
def test_secrets_are_known_by_the_words_of_their_names(name: str) -> None:
    assert MASKING.hides(name)
    assert MASKING.mask({name: "s3cret"}) == {name: MASK}


@pytest.mark.parametrize(
    "name",
    ["discard", "discarded", "key", "idempotency_key", "author", "address", "amount", "spinner",
     "shopping", "secretary", "passport_country", "cardinal", "state", ""],
)  # fmt: skip
def test_what_only_looks_like_it_is_shown(name: str) -> None:
    assert not MASKING.hides(name)


def test_secrets_are_masked_at_any_depth_and_in_text() -> None:
    value = {
        "a": [{"b": {"token": {"deep": 1}}}, {"pin": None}],
        "said": "got password=hunter2, sorry",
    }
    assert MASKING.mask(value) == {
        "a": [{"b": {"token": MASK}}, {"pin": None}], "said": f"got password={MASK}, sorry",
    }  # fmt: skip
    for text, shown in (
        ("token: abc def", f"token: {MASK} def"),
        ('{"api_key": "a b", "n": 1}', f'{{"api_key": {MASK}, "n": 1}}'),
        ("access_token=x&user=ann", f"access_token={MASK}&user=ann"),
        ("Authorization: Bearer abc.def", f"Authorization: {MASK}"),
        ('password="cut off', f"password={MASK}"),
        (r'"token": "a\"b", n', f'"token": {MASK}, n'),
        ("cardNumber=4111, accessToken: x", f"cardNumber={MASK}, accessToken: {MASK}"),
        ("private key: x, error: pin=1", f"private key: {MASK}, error: pin={MASK}"),
        ("your card was declined", "your card was declined"),
        ("a secretary: Ann", "a secretary: Ann"),
    ):
        assert MASKING.mask_text(text) == shown
    assert Masking(()).mask({"password": "p=1"}) == {"password": "p=1"}


@pytest.mark.parametrize("part", ["a-", "token-", "token_", "token=", 'x="', "key ", "api key "])
def test_masking_takes_time_as_a_text_is_long(part: str) -> None:
    # It would be hours of this, if it grew with the square.
    assert MASK not in MASKING.mask_text(part.strip("=") * 100_000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "a", "b", "cardNumber"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_what_was_masked_comes_back_as_it_was(value: Any) -> None:
    assert MASKING.restore(MASKING.mask(value), value) == value


def test_a_mask_in_another_place_is_refused() -> None:
    original = {"password": "p", "a": {"token": "t"}}
    with pytest.raises(InputError, match=r"at b stands"):
        MASKING.restore({"b": MASK}, original)
    assert MASKING.restore({"a": {"token": MASK, "n": 1}}, original) == {
        "a": {"token": "t", "n": 1}
    }
    assert MASKING.restore({"password": "new"}, original) == {"password": "new"}


def test_secrets_in_a_list_stay_with_what_they_belong_to() -> None:
    ann, bob = {"name": "ann", "card": "4111"}, {"name": "bob", "card": "4222"}
    shown_ann, shown_bob = MASKING.mask([ann, bob])
    for edited, meant in (
        ([shown_bob], [bob]),
        ([shown_bob, shown_ann], [bob, ann]),
        ([{**shown_ann, "name": "eve"}, shown_bob], [{**ann, "name": "eve"}, bob]),
        ([shown_ann, shown_bob, {"card": "4333"}], [ann, bob, {"card": "4333"}]),
    ):
        assert MASKING.restore(edited, [ann, bob]) == meant
    for unclear in ([{**shown_bob, "name": "eve"}], [shown_bob, {**shown_ann, "name": "eve"}]):
        with pytest.raises(InputError, match="hides a secret of another place"):
            MASKING.restore(unclear, [ann, bob])
    with pytest.raises(InputError, match="hides a secret of another place"):
        MASKING.restore([{"card": MASK}], [{"card": "1"}, {"card": "2"}])


def test_what_is_only_of_another_type_is_amended() -> None:
    for old, new in (({"express": 1}, {"express": True}), ([0], [False]), ({"n": 1}, {"n": 1.0})):
        assert repr(MASKING.restore(new, old)) == repr(new)


def test_json_is_coloured_escaped_and_cut() -> None:
    rendering = Rendering("", MASKING)
    shown = rendering.json({"a<b": '<i>"', "n": -1.5e3, "t": True, "password": "p"})
    assert "<i>" not in shown
    assert '<span class="j-name">&#34;a&lt;b&#34;</span>' in shown
    assert '<span class="j-value">true</span>' in shown
    assert MASK in shown
    assert "997" in rendering.json("x" * 1000, longest=5)
    assert rendering.url("/sagas", type="a b", q=None, status=("A", "B")) == (
        "/admin/sagas?type=a+b&status=A&status=B"
    )
    assert MASKED


@pytest.mark.parametrize(
    ("seconds", "age", "took"),
    [(0.0004, "0 s", "0.40 ms"), (0.0042, "0 s", "4.2 ms"), (0.25, "0 s", "250 ms"),
     (1.239, "1 s", "1.24 s"), (59.9, "59 s", "59.9 s"), (61, "1 min", "1 min"),
     (3700, "1 h 1 min", "1 h 1 min"), (86399, "23 h", "23 h"), (90000, "1 d 1 h", "1 d 1 h"),
     (864001, "10 d", "10 d")],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds: float, age: str, took: str) -> None:
    assert age_text(timedelta(seconds=seconds)) == age
    assert duration_text(timedelta(seconds=seconds)) == took


def moment(seq: int, at: float, step: str | None, outcome: str, **more: Any) -> Moment:
    values: dict[str, Any] = dict.fromkeys(Moment.__dataclass_fields__)
    values |= {"seq": seq, "at": START + timedelta(seconds=at), "step": step, "outcome": outcome,
               "kind": "action" if step else None, "to_status": "EXECUTING",
               "what": f"{step}: {outcome}", "attempt": 1}  # fmt: skip
    return Moment(**{**values, **more})


def line(step: str, standing: str, **more: Any) -> Line:
    values: dict[str, Any] = dict.fromkeys(Line.__dataclass_fields__)
    values |= {"step": step, "standing": standing, "kind": "action", "status": "EXECUTING",
               "attempts": 0, "since": START}  # fmt: skip
    return Line(**{**values, **more})


def test_progress_is_read_off_the_history_and_the_lines() -> None:
    found = progress_of(
        [
            moment(0, 0, None, "started"),
            moment(1, 1, "hold", "retry"),
            moment(2, 2, "hold", "done", took=timedelta(seconds=1)),
            moment(3, 2, "each", "waiting"),
            moment(4, 3, "each", "done", element=0),
            moment(5, 3, "each", "rejected", element=1),
            moment(6, 4, "hold", "done", kind="compensation"),
            moment(7, 4, "call", "skipped", kind="act", what="skip by ann: why"),
        ],
        [line("pay", "suspended"), line("wait", "waiting"), line("run", "running"),
         line("again", "delayed", attempts=1), line("later", "delayed"),
         line("back", "running", kind="compensation")],
    )  # fmt: skip
    assert {name: one.state for name, one in found.items()} == {
        "hold": "undone", "each": "failed", "call": "skipped", "pay": "suspended",
        "wait": "waiting", "run": "running", "again": "retrying", "later": "due", "back": "undoing",
    }  # fmt: skip
    assert found["hold"].words == "undone, 1 retry"
    assert found["each"].words == "failed, 1 of 2"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_diagram_shows_groups_waits_the_pivot_and_the_path() -> None:
    plan = plan_of(orjson.loads(describe_steps(PURCHASE)))
    alone = diagram(plan)
    assert alone.count("d-box") == 7
    assert "d-pivot" in alone
    assert "waits for approved" in alone
    root = parsed(alone)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for shape in root.iter("rect"):
        x, y = float(shape.attrib["x"]), float(shape.attrib["y"])
        assert x >= 0
        assert y >= 0
        assert x + float(shape.attrib["width"]) <= width
        assert y + float(shape.attrib["height"]) <= height + 5
    boxes = [s for s in root.iter("rect") if s.attrib["class"] == "d-shape"]
    for one in boxes:
        for other in boxes:
            apart = one is other or any(
                float(one.attrib[at]) + float(one.attrib[size]) <= float(other.attrib[at])
                or float(other.attrib[at]) + float(other.attrib[size]) <= float(one.attrib[at])
                for at, size in (("x", "width"), ("y", "height"))
            )
            assert apart, "boxes lie on one another"
    broken = [
        moment(1, 1, "tell", "branched"),
        moment(2, 2, "letter", "done"),
        moment(3, 3, "ledger", "rejected"),
        moment(4, 4, "letter", "done", kind="compensation"),
    ]
    assert 's-waiting"><title>tell' in diagram(plan, progress_of(broken[:2], []))
    assert 's-failed"><title>tell' in diagram(plan, progress_of(broken, []), "FAILED")
    gone = diagram(plan, progress_of([moment(1, 1, "hold", "done")], []))
    assert gone.count("s-done") == 1
    assert gone.count("d-edge taken") == 1
    assert parsed(diagram([]))


def test_attempts_are_drawn_in_their_rows() -> None:
    history = [
        moment(0, 0, None, "started"),
        moment(1, 1, "<hold>", "retry", took=timedelta(seconds=1), error="Boom: token=abc & <b>",
               next_due=START + timedelta(seconds=3)),
        moment(2, 4, "<hold>", "done", took=timedelta(seconds=1)),
        moment(3, 4, None, "act", kind="act", what="pause by ann: <why>"),
        moment(4, 5, "wait", "waiting"),
    ]  # fmt: skip
    waits = line("wait", "waiting", what="a signal", since=START + timedelta(seconds=5))
    svg = gantt(history, [waits], START + timedelta(days=3), MASKING.mask_text)
    root = parsed(svg)
    bars = [b.attrib["class"] for b in root.iter("rect") if b.attrib["class"].startswith("g-bar")]
    assert bars == ["g-bar retry", "g-bar done", "g-bar wait"]
    assert "abc" not in svg
    assert MASK in svg
    assert "<hold>" not in svg
    undone = [
        moment(0, 0, None, "started"),
        moment(1, 1, "hold", "done", took=timedelta(seconds=1)),
        moment(2, 2, "tell", "rejected", took=timedelta(seconds=1)),
        moment(3, 3, "hold", "done", kind="compensation", took=timedelta(seconds=1)),
    ]
    root = parsed(gantt(undone, [], START, plan=plan_of(orjson.loads(describe_steps(PURCHASE)))))
    rows = [t[0].text for t in root.iter("text") if "g-name" in t.attrib["class"]]
    assert rows == ["hold", "approved", "tell", "letter", "ledger", "pay", "thank"]
    bars = {
        bar.attrib["class"]: bar.attrib["y"]
        for bar in root.iter("rect")
        if bar.attrib["class"].startswith("g-bar")
    }
    assert bars["g-bar undone"] == bars["g-bar done"], "an undo stands beside what it undoes"
    assert bars["g-bar failed"] != bars["g-bar done"]
    many = [moment(n, n, f"s{n}", "done", took=timedelta(seconds=1)) for n in range(300)]
    assert "and 180 more rows" in gantt(many, [], START)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=20),
    st.lists(st.floats(0, 1e6), max_size=10),
)
def test_an_axis_keeps_the_order_and_its_bounds(
    busy: list[tuple[float, float]], instants: list[float]
) -> None:
    axis = Axis([(start, start + length) for start, length in busy], 100, 900)
    places = [axis.place(at) for at in sorted(instants)]
    assert places == sorted(places)
    assert all(99.9 <= at <= 900.1 for at in places)
    ticks = axis.ticks(90)
    assert all(b[1] - a[1] >= 89.9 for a, b in pairwise(ticks))


def test_an_axis_cuts_what_is_idle() -> None:
    axis = Axis([(0, 1), (86400, 86401)], 0, 1000)
    assert axis.place(1) > 400
    assert axis.place(86400) < 600
    assert [stretch.cut for stretch in axis.stretches] == [False, True, False]


def test_series_are_drawn_within_their_frame() -> None:
    window = Window(START, START + timedelta(hours=1), timedelta(minutes=10))
    counts = {START + timedelta(minutes=10 * n): {"completed": n, "failed": 1} for n in range(6)}
    bars = parsed(stacked(window, counts, ("completed", "failed"), "x"))
    drawn = list(bars.iter("rect"))
    assert len(drawn) == 11
    assert all(float(b.attrib["y"]) >= 0 and float(b.attrib["height"]) > 0 for b in drawn)
    points = [(START + timedelta(minutes=10 * n), float(n)) for n in (0, 1, 4, 5)]
    path = next(p for p in parsed(lines(window, {"p50": points}, "x", str)).iter("path")
                if p.attrib["class"] == "c-path c-p50")  # fmt: skip
    assert path.attrib["d"].count("M") == 2, "broken where nothing was measured"
    assert parsed(stacked(window, {}, ("completed",), "none"))
    assert [round_up(v) for v in (0.003, 1, 3, 11, 99)] == [0.004, 1, 4, 20, 100]


def test_svg_is_escaped() -> None:
    assert tag("text", "<b>", title='"<') == '<text title="&#34;&lt;">&lt;b&gt;</text>'
