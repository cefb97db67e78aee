"""Mappings as files: what they may say, what is refused and where, and how one changes another."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streams.adapters.conditions import compile_condition
from streams.adapters.converter import Converter, Outcome
from streams.adapters.expressions import ExpressionError, FieldError, compile_expression
from streams.adapters.functions import (
    ValueUnfitError,
    absolute,
    decimal,
    digest,
    from_minor_units,
    moment,
    proxy,
    time,
    truth,
    unix,
)
from streams.adapters.mapping import MappingError, load_mapping, shipped
from streams.adapters.paths import PathError, Scope, compile_path
from streams.errors import UsageError

MINE = """\
mapping: mine
event_name: what
fields:
  customer_id: {path: who, as: lower}
  occurred_at: {path: at, as: time, zone: Europe/Berlin}
rules:
  - event: [bought]
    to: purchases
    set:
      kind: {value: order}
      order_id: number
      currency: currency
      total: {path: cents, as: minor_units, currency: currency}
"""
BOUGHT = {
    "what": "Bought",
    "who": "A@B.example",
    "at": "2025-07-09 12:00",
    "number": 7,
    "currency": "EUR",
    "cents": 1999,
}


def scope(event: Any, document: Any = None, entry: Any = None) -> Scope:
    return Scope(event, document if document is not None else event, entry)


def convert(text: str, document: Any, folder: Path) -> Outcome:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    (outcome,) = Converter(load_mapping(str(path))).convert(document)
    return outcome


def test_a_mapping_of_ones_own(tmp_path: Path) -> None:
    """Minor units, a time zone, lower case; the id is a hash of the event, since it has none."""
    (made,) = convert(MINE, BOUGHT, tmp_path).made
    assert made.record == {
        "event_id": digest(BOUGHT),
        "customer_id": "a@b.example",
        "occurred_at": "2025-07-09T10:00:00Z",
        "kind": "order",
        "order_id": "7",
        "currency": "EUR",
        "total": "19.99",
    }
    assert made.paths["total"] == "cents"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cents": "many"}, "mine: cents: not a number"),
        ({"cents": Decimal("19.5")}, "mine: cents: minor units are whole numbers"),
        ({"cents": -5}, "mine: cents: total: an amount is a plain decimal string, 0 or more"),
        ({"currency": None}, "mine: currency: missing"),
        ({"currency": "euro"}, "mine: currency: currency: "),
        ({"at": "yesterday"}, "mine: at: not a time"),
        ({"at": "0001-01-01"}, "mine: at: the year is outside 1970-9999"),
        ({"who": {"id": 1}}, "mine: who: neither text nor a number"),
        ({"number": [1]}, "mine: number: neither text nor a number"),
        ({"what": None}, "mine: what: missing"),
    ],
)
def test_what_cannot_be_mapped_names_mapping_and_path(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Of the field as the source calls it."""
    outcome = convert(MINE, {**BOUGHT, **change}, tmp_path)
    assert outcome.made == []
    (why,) = outcome.unmapped
    assert why.message.startswith(message)


def test_a_mapping_changes_a_shipped_one(tmp_path: Path) -> None:
    """Its fields win; an event that one of its rules fits is not shown to the others."""
    text = """\
mapping: ours
extends: mailgun
fields:
  customer_id: user-variables.user_id
rules:
  - event: [clicked]
    to: engagements
    set: {kind: {value: visited}}
"""
    event = {"id": "e", "event": "clicked", "timestamp": 1534109600, "user-variables": {"user_id": 7}}
    (made,) = convert(text, event, tmp_path).made
    assert (made.record["kind"], made.record["customer_id"]) == ("visited", "7")
    (made,) = convert(text, {**event, "event": "opened"}, tmp_path).made
    assert (made.record["kind"], made.record["customer_id"]) == ("opened", "7")


TOTAL = "rules.0.set.total: minor_units needs `currency`"
ONE_OF = "rules.0: a rule needs exactly one of to, ignore and refuse"
ZONE = "fields.occurred_at: no time zone is called 'Europe/Berlyn'"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("event_name: what", "", "mine.yaml: the key event_name is missing"),
        ("fields:", "feilds:", "mine.yaml, line 3: feilds: no such key; there are mapping, "),
        ("to: purchases", "to: orders", "mine.yaml, line 8: rules.0.to: 'orders' is none of purchases, "),
        (
            "as: lower",
            "as: louder",
            "mine.yaml, line 4: fields.customer_id: no function is called 'louder'; ",
        ),
        ("order_id: n", "orderid: n", "mine.yaml, line 11: rules.0.set.orderid: no field of purchases; "),
        (
            "order_id: number",
            "order_id: 'a..b'",
            "mine.yaml, line 11: rules.0.set.order_id: 'a..b' is no path",
        ),
        (
            "{value: order}",
            "{value: x, path: a}",
            "mine.yaml, line 10: rules.0.set.kind: exactly one of path, ",
        ),
        (", currency: currency}", "}", f"mine.yaml, line 13: {TOTAL}"),
        ("- event: [bought]\n    to", "- to", "mine.yaml, line 7: rules.0: a rule needs event or when"),
        ("to: purchases", "refuse: no\n    ignore: x", f"mine.yaml, line 7: {ONE_OF}"),
        ("mapping: mine", "mapping: mine\nmapping: x", "mine.yaml: line 2: mapping comes twice"),
        ("mapping: mine", "mapping: mine\nextends: x", "mine.yaml, line 2: extends: no shipped mapping is"),
        ("Europe/Berlin", "Europe/Berlyn", f"mine.yaml, line 5: {ZONE}"),
    ],
)
def test_a_wrong_file_is_refused_by_its_line(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what is allowed."""
    monkeypatch.chdir(tmp_path)
    assert old in MINE
    Path("mine.yaml").write_text(MINE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(MappingError) as error:
        load_mapping("mine.yaml")
    assert str(error.value).startswith(message)


def test_an_unknown_mapping_names_those_that_there_are() -> None:
    """Sixteen are shipped; each says whose events it takes."""
    assert len(shipped()) == 16
    assert all(load_mapping(name).name == name and load_mapping(name).about for name in shipped())
    with pytest.raises(
        UsageError, match=r"'segmnet'; there are braze, brevo, .* and files that end in \.yaml"
    ):
        load_mapping("segmnet")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", [0]),
        ('"a.b"', ["dotted"]),
        ("list[1].x", [2]),
        ("list[].x", [1, 2]),
        ("list[x=2].y", ["b"]),
        ("list[x=2][y=b].x", [2]),
        ("/whole", [True]),
        ("@.k", ["entry"]),
        ("null", []),
        ("a.b.c", []),
        ("list.x", []),
        ("list[9]", []),
    ],
)
def test_a_path_finds(path: str, found: list[Any]) -> None:
    """Zero and false are values, null is none."""
    event = {"a": {"b": 0}, "a.b": "dotted", "list": [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}], "null": None}
    assert compile_path(path).find_all(scope(event, {"whole": True}, {"k": "entry"})) == found


@pytest.mark.parametrize("path", ["", "a.", "a..b", "a[", "a[x]", "]"])
def test_no_path(path: str) -> None:
    """Is an error when the mapping is read, not when an event comes."""
    with pytest.raises(PathError):
        compile_path(path)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"first_of": ["no", "zero"]}, 0),
        ({"minus": [{"path": "ten", "as": "decimal"}, "two", "no"]}, "8"),
        ({"minus": ["two", "ten"]}, "0"),
        ({"product": ["ten", "half"]}, "5.0"),
        ({"sum": "list[].x"}, "0.3"),
        ({"any": ["no", "false", "true"]}, True),
        ({"any": ["no"]}, None),
        ({"hash": ["no"]}, None),
        ({"path": "word", "table": {"a-word": 1, "else": 2}}, 1),
        ({"path": "ten", "table": {"a": 1}}, None),
        ({"path": "no", "default": "d"}, "d"),
        ({"flat": "mixed", "without": ["secret"]}, {"a": "x", "b": "true", "c": "1.5"}),
        ({"entries": "list", "of": {"y": "@.x"}}, [{"y": Decimal("0.1")}, {"y": Decimal("0.2")}]),
    ],
)
def test_an_expression_gives(said: Any, value: Any) -> None:
    """Of values that are there; None where nothing is."""
    event = {
        "zero": 0,
        "ten": 10,
        "two": Decimal("2"),
        "half": Decimal("0.5"),
        "false": False,
        "true": "true",
        "word": "A Word",
        "list": [{"x": Decimal("0.1")}, {"x": Decimal("0.2")}],
        "mixed": {"a": "x", "b": True, "c": Decimal("1.5"), "secret": "s", "inner": {}, "empty": ""},
    }
    found = compile_expression(said).evaluate(scope(event))
    assert (None if found is None else found.value) == value


def test_an_amount_that_is_none_names_its_path() -> None:
    """Whichever part of a sum it is."""
    with pytest.raises(FieldError, match="b: not a number"):
        compile_expression({"minus": ["a", "b"]}).evaluate(scope({"a": 1, "b": "x"}))
    with pytest.raises(ExpressionError):
        compile_expression({"sum": 1})


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ({"word": "a word"}, True),
        ({"word": ["x", "A_Word"]}, True),
        ({"flag": True}, True),
        ({"flag": False}, False),
        ({"word": {"exists": False}}, False),
        ({"none": {"exists": False}}, True),
        ({"word": {"matches": "a w.*"}}, True),
        ({"word": {"lacks": "a w.*"}}, False),
        ({"none": {"lacks": "x"}}, False),
        ({"word": {"differs": "flag"}}, True),
        ({"word": {"differs": "word"}}, False),
        ({"word": {"differs": "none"}}, False),
        ([{"flag": False}, {"word": "a-word"}], True),
        ({"flag": True, "word": "x"}, False),
    ],
)
def test_a_condition_fits(said: Any, fits: bool) -> None:
    """All tests of an object, one of a list."""
    assert compile_condition(said)(scope({"word": "A Word", "flag": True})) is fits


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2025-01-09T12:00:00+01:00", "2025-01-09T11:00:00Z"),
        ("2025-01-09 12:00:00 +00:00", "2025-01-09T12:00:00Z"),
        ("2025-01-09T12:00:00+0100", "2025-01-09T11:00:00Z"),
        ("2025-01-09 12:00:00 UTC", "2025-01-09T12:00:00Z"),
        ("2025-01-09T12:00Z", "2025-01-09T12:00:00Z"),
        ("2025-01-09T12:00:00.1234567Z", "2025-01-09T12:00:00.123456Z"),
        ("1736424000", "2025-01-09T12:00:00Z"),
        (1736424000, "2025-01-09T12:00:00Z"),
        (1736424000123, "2025-01-09T12:00:00.123Z"),
        (1736424000123456, "2025-01-09T12:00:00.123456Z"),
        (Decimal("1736424000.25"), "2025-01-09T12:00:00.250Z"),
    ],
)
def test_a_moment_however_it_is_written(given: Any, expected: str) -> None:
    """Numbers by their size, text by its offset."""
    assert moment(given) == expected


def test_a_time_without_an_offset_needs_a_zone() -> None:
    """In summer Paris is two hours ahead."""
    assert time("2025-07-09 12:00:00", "Europe/Paris") == "2025-07-09T10:00:00Z"
    assert time("2025-01-09", "UTC") == "2025-01-09T00:00:00Z"
    with pytest.raises(ValueUnfitError, match="names no zone"):
        time("2025-07-09 12:00:00")
    with pytest.raises(ValueUnfitError):
        unix("soon")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (30, "30"),
        (Decimal("25.0"), "25.0"),
        (Decimal("1E+2"), "100"),
        (" 7.10 ", "7.10"),
        (Decimal("0.0000005"), "0.000000"),
        (Decimal("-3.5"), "-3.5"),
    ],
)
def test_an_amount_is_a_decimal_text(given: Any, expected: str) -> None:
    """Without exponent, of at most six decimals, half-even."""
    assert decimal(given) == expected


@pytest.mark.parametrize("given", ["1,234.50", "NaN", "Infinity", True, Decimal("1e999999"), [], "$5"])
def test_no_amount(given: Any) -> None:
    """What is no plain number is refused, whatever it may mean."""
    with pytest.raises(ValueUnfitError):
        decimal(given)


def test_amounts_by_sign_and_minor_unit() -> None:
    """What was paid back has no sign; each currency has its own minor unit."""
    assert absolute(Decimal("-3.5")) == "3.5"
    assert [from_minor_units(1999, code) for code in ("EUR", "JPY", "KWD")] == ["19.99", "1999", "1.999"]


def test_a_proxy_is_told_by_its_name() -> None:
    """A browser is none."""
    assert proxy("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)")
    assert proxy("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html")
    assert proxy("Mozilla/5.0")
    assert not proxy("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_12_5) Chrome/58.0.3029.110")


def test_truth_however_it_is_written() -> None:
    """And nothing else."""
    assert [truth(one) for one in (True, "True", 1, "yes", False, "0", "no")] == [True] * 4 + [False] * 3
    with pytest.raises(ValueUnfitError):
        truth("perhaps")
