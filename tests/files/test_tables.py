"""Tables of orders for `replay` and `calibrate`: found columns, dates as people write them, all usual kinds of file."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zstandard

from schemas.topics import InputTopic
from streams.cli.commands import main
from streams.replay.dates import other_dates
from streams.replay.log import Line
from streams.replay.reading import Tables, read_records

ROWS = [
    ("o1", "0017", "2025-01-09T12:00:00Z", "10.00"),
    ("o1", "0017", "2025-01-09T12:00:00Z", "2.50"),
    ("o2", "b@c.example", "2025-02-01", "7"),
]
HEADER = ("Order ID", "Customer", "Created at", "Amount")
RECORDS = [
    {
        "customer_id": "0017",
        "order_id": "o1",
        "occurred_at": "2025-01-09T12:00:00.000000+00:00",
        "total": "12.500000",
    },
    {
        "customer_id": "b@c.example",
        "order_id": "o2",
        "occurred_at": "2025-02-01T00:00:00.000000+00:00",
        "total": "7",
    },
]


def table(
    separator: str = ",", rows: Sequence[tuple[str, ...]] = ROWS, header: tuple[str, ...] = HEADER
) -> bytes:
    return "".join(f"{separator.join(row)}\n" for row in (header, *rows)).encode()


def read(path: Path, topic: InputTopic = "purchases", **how: Any) -> list[Line]:
    return list(read_records({topic: [path]}, tables=Tables(**how)))


def said(lines: list[Line]) -> list[dict[str, Any]]:
    wanted = ("customer_id", "order_id", "occurred_at", "total")
    return [{name: json.loads(line.value)[name] for name in wanted} for line in lines]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["orders.csv", "orders"])
def test_a_table_is_told_by_its_cells(separator: str, name: str, tmp_path: Path) -> None:
    """Whatever it is called; rows with one order id are lines of one order, and `0017` stays an id."""
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + table(separator))
    assert said(read(path)) == RECORDS


@pytest.mark.parametrize(
    "packed", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_a_table_may_be_compressed(packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """As any other file."""
    path = tmp_path / "orders.csv.packed"
    path.write_bytes(packed(table()))
    assert said(read(path)) == RECORDS


def test_parquet(tmp_path: Path) -> None:
    """Its cells have types: a time is a time, and a number an amount."""
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame([dict(zip(HEADER, row, strict=True)) for row in ROWS])
    frame["Created at"] = pd.to_datetime(frame["Created at"], format="ISO8601", utc=True)
    frame["Amount"] = frame["Amount"].astype(float)
    frame.to_parquet(tmp_path / "orders")
    (first, second) = said(read(tmp_path / "orders"))
    assert (first, second["total"]) == (RECORDS[0], "7.0")


def test_parquet_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as for any missing extra."""
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    path = tmp_path / "orders.parquet"
    path.write_bytes(b"PAR1\x15\x04" + bytes(50))
    assert main(["replay", "--purchases", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "needs the extra files: pip install 'ebbtide[files]'" in capsys.readouterr().err


def test_an_amount_may_be_made_of_quantity_and_price(tmp_path: Path) -> None:
    """As the lines of an invoice have them, with the month first."""
    header = ("InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID")
    rows = [
        ("536365", "85123A", "6", "12/1/2010 8:26", "2.55", "17850"),
        ("536365", "71053", "2", "12/1/2010 8:26", "3.39", "17850"),
        ("536366", "22633", "1", "12/13/2010 15:00", "1.85", "13047"),
    ]
    path = tmp_path / "invoices.csv"
    path.write_bytes(table(",", rows, header))
    told: list[str] = []
    assert [(one["total"], one["occurred_at"][:16]) for one in said(read(path, tell=told.append))] == [
        ("22.080000", "2010-12-01T08:26"),
        ("1.85", "2010-12-13T15:00"),
    ]
    assert told == [
        f"{path}: customer_id ← CustomerID, date ← InvoiceDate, order_id ← InvoiceNo, quantity ← Quantity, "
        "unit_price ← UnitPrice"
    ]


def test_a_refused_row_names_its_line(tmp_path: Path) -> None:
    """Counted with the header, as an editor shows it."""
    path = tmp_path / "orders.csv"
    path.write_bytes(table(",", [*ROWS, ("o3", "c", "soon", "1"), ("o1", "", "2025-01-09", "1")]))
    assert [(line.number, line.why is None) for line in read(path)] == [
        (2, True),
        (4, True),
        (5, False),
        (6, False),
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["31/12/2024", "01/02/2025"], [datetime(2024, 12, 31), datetime(2025, 2, 1)]),
        (
            ["12/31/2024 1:05 PM", "01/02/2025 12:00 AM"],
            [datetime(2024, 12, 31, 13, 5), datetime(2025, 1, 2)],
        ),
        (["1.2.2025 08:00:09"], [datetime(2025, 2, 1, 8, 0, 9)]),
        (["2025/1/9"], [datetime(2025, 1, 9)]),
        (["01/02/2025"], [None]),
        (["30/02/2025", "soon"], [None, None]),
    ],
)
def test_dates_as_people_write_them(texts: list[str], expected: list[datetime | None]) -> None:
    """Where nothing shows which number is the day, nothing is guessed."""
    read_one = other_dates(texts)
    assert read_one is not None
    assert [read_one(text) for text in texts] == expected


def test_a_column_that_contradicts_itself_is_not_read() -> None:
    """Its rows are refused, as text that is no date."""
    assert other_dates(["31/12/2024", "12/31/2024"]) is None


def test_replay_takes_a_table_and_says_which_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patterns too; a column of another name is named."""
    for number, row in enumerate(ROWS):
        content = table(";", [row], ("Bestellung", "Customer", "Created at", "Amount"))
        (tmp_path / f"part-{number}.csv").write_bytes(content)
    out = tmp_path / "out"
    files = ["--purchases", str(tmp_path / "part-*.csv"), "--columns", "order_id=Bestellung"]
    assert main(["replay", *files, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("3 events of 2 customers")
    found = "customer_id ← Customer, date ← Created at, amount ← Amount, order_id ← Bestellung"
    assert f"{tmp_path / 'part-0.csv'}: {found}" in told.err.splitlines()


def test_a_table_comes_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON Lines do."""

    class Piped:
        buffer = io.BufferedReader(io.BytesIO(gzip.compress(table())))

    monkeypatch.setattr("sys.stdin", Piped())
    assert main(["replay", "--purchases", "-", "--out", str(tmp_path / "out")]) == 0
    assert len((tmp_path / "out" / "customer-profiles.jsonl").read_bytes().splitlines()) == 2


def test_calibrate_takes_a_table(tmp_path: Path) -> None:
    """Two years of forty customers, each with a rhythm of their own, give a model."""
    days = pd.date_range("2023-01-01", periods=730, freq="D").strftime("%Y-%m-%d").tolist()
    rows = [
        (f"o{customer}-{number}", f"c{customer}", day, f"{10 + customer % 7}.00")
        for customer in range(40)
        for number, day in enumerate(days[customer % 50 : 700 : 20 + 3 * (customer % 31)])
    ]
    path, model = tmp_path / "orders.csv", tmp_path / "model.yaml"
    path.write_bytes(table(",", rows))
    assert main(["calibrate", "--purchases", str(path), "--out", str(model)]) == 0
    assert model.read_text("utf-8").count("calibrated")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--purchases", "{folder}/none.csv"], "does not exist"),
        (["--purchases", "{folder}/*.none"], "no file is called"),
        (["--purchases", "{path}", "--columns", "order_id"], "named as FIELD=COLUMN"),
        (["--purchases", "{path}"], "no column for customer_id among Order, Created at, Amount"),
    ],
)
def test_wrong_use(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is written."""
    path = tmp_path / "orders.csv"
    path.write_bytes(table(",", [("o1", "2025-01-09", "1")], ("Order", "Created at", "Amount")))
    words = [one.format(folder=tmp_path, path=path) for one in arguments]
    assert main(["replay", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
