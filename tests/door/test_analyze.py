"""`ebbtide.analyze`: tables in, tables out, by the rules of the worker."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ebbtide
from schemas.topics import INPUT_TOPICS
from streams.cli.commands import main
from streams.errors import EbbtideError, UsageError
from streams.replay.tables import columns_of
from tests.door.isolated import run_core
from tests.oracles.seeded_log import ATTRIBUTES, Record, make_log

NOT_IN_TABLES = ("items", "declared")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def order(customer: object, day: str, amount: object, **more: object) -> Record:
    return {"customer_id": customer, "date": day, "amount": amount, **more}


def table_of(records: list[Record]) -> pd.DataFrame:
    """Records as rows, with attributes in columns of their own."""
    rows = [
        {
            **{name: value for name, value in record.items() if name != "attributes"},
            **record.get("attributes", {}),
        }
        for record in records
    ]
    return pd.DataFrame(rows).rename(columns={"occurred_at": "date", "total": "amount"})


@pytest.fixture(scope="module")
def log() -> dict[str, list[Record]]:
    """A log of one currency, whose records hold what tables can."""
    made = make_log(11, events=300, customers=15)
    return {
        topic: [
            {name: value for name, value in record.items() if name not in NOT_IN_TABLES}
            for record in made[topic]
            if record.get("currency", "USD") == "USD"
        ]
        for topic in INPUT_TOPICS
    }


@pytest.fixture(scope="module")
def analysis(log: dict[str, list[Record]]) -> ebbtide.Analysis:
    """The analysis of its tables."""
    return ebbtide.analyze(*(table_of(log[topic]) for topic in ("purchases", "engagements", "consents")))


def test_it_gives_what_a_replay_of_the_records_gives(
    log: dict[str, list[Record]], analysis: ebbtide.Analysis
) -> None:
    """Oracle: `ebbtide.replay` of the records that the tables were made of."""
    assert set(ATTRIBUTES) >= {"region"}
    replayed = ebbtide.replay(log["purchases"], log["engagements"], log["consents"])
    assert analysis.replayed.changes == replayed.changes
    assert analysis.replayed.triggers == replayed.triggers
    assert analysis.replayed.profiles == replayed.profiles
    assert replayed.changes
    assert [(one.reason, one.line) for one in analysis.replayed.refused] == [
        (one.reason, one.line) for one in replayed.refused
    ]


def test_the_command_gives_the_same_for_the_records_it_writes(
    analysis: ebbtide.Analysis, tmp_path: Path
) -> None:
    """Oracle: `ebbtide replay` of the files of `write_records`."""
    arguments = [f"--{path.stem}={path}" for path in analysis.write_records(tmp_path)]
    assert main(["replay", *arguments, "--out", str(tmp_path / "out")]) == 0
    assert lines(tmp_path / "out" / "segment-changes.jsonl") == analysis.replayed.changes
    assert lines(tmp_path / "out" / "customer-profiles.jsonl") == analysis.replayed.profiles
    assert lines(tmp_path / "out" / "reactivation-triggers.jsonl") == analysis.replayed.triggers


def test_frames_hold_what_the_documents_say(analysis: ebbtide.Analysis) -> None:
    """One row a customer, a change and a trigger; amounts are numbers, times are times."""
    profiles, changes = analysis.profiles, analysis.changes
    assert profiles["customer_id"].tolist() == [one["customer_id"] for one in analysis.replayed.profiles]
    revenue = [Decimal(one["aggregates"]["revenue"]) for one in analysis.replayed.profiles]
    assert profiles["revenue"].tolist() == [float(amount) for amount in revenue]
    assert changes["change_id"].tolist() == [one["change_id"] for one in analysis.replayed.changes]
    assert changes["as_of"].is_monotonic_increasing
    assert str(profiles["first_order_on"].dtype).endswith("UTC]")
    assert len(analysis.triggers) == len(analysis.replayed.triggers)
    assert repr(analysis).startswith(f"<Analysis of {len(profiles)} customers as of ")


def test_columns_are_found_by_their_usual_names() -> None:
    """Case and signs do not matter; what was taken is told."""
    rows = [{"Customer ID": 17850.0, "InvoiceNo": "A1", "InvoiceDate": "2025-01-09 10:30", "Sales": 20.1}]
    found = ebbtide.analyze(pd.DataFrame(rows))
    assert found.columns == {
        "orders": {
            "customer_id": "Customer ID",
            "date": "InvoiceDate",
            "order_id": "InvoiceNo",
            "amount": "Sales",
        }
    }
    assert found.profiles["customer_id"].tolist() == ["17850"]
    assert found.replayed.as_of == "2025-01-09T10:30:00Z"


def test_a_column_that_is_named_goes_before_a_guess() -> None:
    """Fields of the customer can be any column."""
    rows = [order("guessed", "2025-01-09", 5, CustomerNo="named", Colour="red")]
    found = ebbtide.analyze(rows, columns={"customer_id": "CustomerNo", "attributes.colour": "Colour"})
    assert found.profiles["customer_id"].tolist() == ["named"]
    assert found.profiles["attributes"].tolist() == [{"colour": "red"}]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"x": 1}], {}, "orders: no column for customer_id, date, amount among x; say which with columns="),
        ([order(1, "2025-01-09", 1)], {"colour": "date"}, "no field is called 'colour'"),
        ([order(1, "2025-01-09", 1)], {"date": "Day"}, "no table has a column 'Day'"),
    ],
)
def test_columns_that_are_missing_are_told(rows: list[Record], columns: dict[str, str], message: str) -> None:
    """The error says what there is, and what to do."""
    with pytest.raises(UsageError) as told:
        ebbtide.analyze(rows, columns=columns)
    assert message in str(told.value)


def test_each_guess_is_for_one_field_only() -> None:
    """No name of a column is taken for two fields of a table."""
    names = ["customer", "date", "total", "order", "currency", "kind", "cogs", "channel"]
    chosen = columns_of("purchases", "orders", names, {})
    assert sorted(chosen.values()) == sorted(names)


def test_refused_rows_are_told_with_their_place_and_reason() -> None:
    """Each by the rule that refuses its record; the others are taken."""
    rows = [
        order("a", "2025-01-09", "10.00"),
        order(None, "2025-01-09", 10),
        order("b", "9 January", 10),
        order("c", "2025-01-09", -10),
        order("d", "2025-01-09", float("inf")),
        order("e", "2025-01-09", 10, currency="EURO"),
        order("f", "2025-01-09", "12.50"),
    ]
    found = ebbtide.analyze(rows)
    assert found.profiles["customer_id"].tolist() == ["a", "f"]
    refused = found.refused
    assert refused["row"].tolist() == [1, 2, 3, 4, 5]
    assert set(refused["table"]) == {"orders"}
    assert set(refused["reason"]) == {"Malformed"}
    fields = [message.partition(":")[0] for message in refused["message"]]
    assert fields == ["customer_id", "date", "amount", "amount", "currency"]
    assert found.outcomes["orders", "dead_letter"] == 5


def test_rows_of_one_order_are_added_up() -> None:
    """With the earliest date; a row that is refused, or is in another currency, is left out alone."""
    rows = [
        order("a", "2025-01-09", 0.1, order_id="o", currency="USD"),
        order("a", "2025-01-08", 0.2, order_id="o", currency="USD"),
        order("a", "2025-01-09", -1, order_id="o", currency="USD"),
        order("a", "2025-01-09", 7, order_id="o", currency="EUR"),
        order("b", "2025-01-09", 5, order_id="o", currency="USD"),
    ]
    found = ebbtide.analyze(rows, model=ebbtide.load_model().with_base_currency("USD"))
    assert found.profiles["order_count"].tolist() == [1, 1]
    assert found.profiles["revenue"].tolist() == [0.30, 5.0]
    assert found.profiles["first_order_on"].dt.strftime("%m-%d").tolist() == ["01-08", "01-09"]
    assert found.refused["row"].tolist() == [2, 3]


def test_the_built_in_model_counts_in_the_currency_of_most_orders() -> None:
    """It has no rates for others; where a row names none, it is in this one. A model of one's own is never changed."""
    rows = [
        order("a", "2025-01-09", 10, currency="eur"),
        order("b", "2025-01-09", 20, currency="EUR"),
        order("c", "2025-01-09", 30, currency=None),
        order("d", "2025-01-09", 40, currency="USD"),
    ]
    found = ebbtide.analyze(rows)
    assert found.model.base_currency == "EUR"
    assert found.profiles["revenue"].tolist() == [10.0, 20.0, 30.0]
    assert found.refused[["row", "reason"]].values.tolist() == [[3, "UnknownCurrency"]]
    own = ebbtide.load_model().with_base_currency("USD")
    assert ebbtide.analyze(rows, model=own).refused["row"].tolist() == [0, 1]


def test_a_csv_file_keeps_its_ids_as_they_are_written(tmp_path: Path) -> None:
    """`0017` is not 17, and an empty cell is missing."""
    path = tmp_path / "orders.csv"
    path.write_text("Customer,Date,Total,Region\n0017,20250109,10.00,north\n,20250109,1,\n", encoding="utf-8")
    found = ebbtide.analyze(path)
    assert found.profiles["customer_id"].tolist() == ["0017"]
    assert found.profiles["attributes"].tolist() == [{"region": "north"}]
    assert found.refused["row"].tolist() == [1]


def test_the_end_is_that_which_was_asked_for() -> None:
    """Later rows are counted, and left out."""
    rows = [order("a", "2025-01-09", 10), order("a", "2025-03-01", 10)]
    found = ebbtide.analyze(rows, until="2025-02-01")
    assert found.profiles["order_count"].tolist() == [1]
    assert found.outcomes["orders", "after_until"] == 1
    assert found.replayed.as_of == "2025-02-01T00:00:00Z"


def test_no_rows_are_no_customers(tmp_path: Path) -> None:
    """The frames have their columns all the same."""
    found = ebbtide.analyze(pd.DataFrame(columns=["customer_id", "date", "amount"]))
    assert len(found.profiles) == len(found.changes) == 0
    assert "segment" in found.profiles.columns
    assert "0 customers" in found.report(tmp_path / "report.html").read_text("utf-8")


def test_a_model_can_be_fitted_to_the_history(tmp_path: Path) -> None:
    """Oracle: `ebbtide calibrate` on the same records."""
    rows = [
        order(f"c{number}", f"2024-{1 + month:02}-{1 + number % 28:02}", 10 + number % 7)
        for number in range(60)
        for month in range(12)
        if (number * 7 + month * 5) % (2 + number % 5) == 0
    ]
    found = ebbtide.analyze(rows, model="fit")
    (purchases,) = found.write_records(tmp_path)
    out = tmp_path / "model.yaml"
    assert main(["calibrate", "--purchases", str(purchases), "--name", "fitted", "--out", str(out)]) == 0
    assert found.model == ebbtide.load_model(out)
    assert ebbtide.load_model(found.write_model(tmp_path / "own.yaml")) == found.model
    assert found.calibration is not None
    assert found.calibration["history"]["customers"] == len(found.profiles)
    page = found.report(tmp_path / "report.html").read_text("utf-8")
    assert "The fitted model" in page


def test_where_nothing_can_be_fitted_the_error_says_why() -> None:
    """One order is no history."""
    with pytest.raises(EbbtideError, match="no model was fitted: all orders are of one day or two"):
        ebbtide.analyze([order("a", "2025-01-09", 10)], model="fit")


def test_the_report_is_one_page_that_loads_nothing(analysis: ebbtide.Analysis, tmp_path: Path) -> None:
    """Everything in it is escaped, and the same analysis gives the same page."""
    page = analysis.report(tmp_path / "deep" / "report.html").read_text("utf-8")
    assert f"{len(analysis.profiles)} customers as of {analysis.replayed.as_of}" in page
    assert "<script" not in page
    assert "http" not in page
    assert page == analysis.report(tmp_path / "again.html").read_text("utf-8")
    hostile = ebbtide.analyze([order("<script>alert(1)</script>", "2025-01-09", 10)], until="2025-12-01")
    assert "<script" not in hostile.report(tmp_path / "hostile.html").read_text("utf-8")


def test_it_works_where_only_the_core_is_installed(tmp_path: Path) -> None:
    """Fitting and the report too: neither Faust nor a client of Kafka or Redis is loaded, nor matplotlib."""
    path = tmp_path / "orders.csv"
    days = [f"2024-{month:02}-{day:02}" for month in range(1, 13) for day in (3, 17)]
    rows = [f"c{at % 30},{day},{10 + at % 9}" for at, day in enumerate(days * 10)]
    path.write_text("\n".join(["customer,date,amount", *rows]), encoding="utf-8")
    program = (
        "import ebbtide\n"
        "found = ebbtide.analyze(sys.argv[1], model='fit')\n"
        "found.report(sys.argv[2])\n"
        "print(len(found.profiles))"
    )
    done = run_core(program, str(path), str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert "<h1>" in (tmp_path / "report.html").read_text("utf-8")
