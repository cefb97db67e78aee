"""`ebbtide analyze`: from a table of orders to how its customers stand, with no broker and no Redis."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import ebbtide
from streams.cli.commands import main
from tests.door.isolated import run_core

ORDERS = """\
order_id,customer,created_at,amount,currency
o-1,ann@example.com,2024-06-01,20.00,EUR
o-2,ann@example.com,2024-09-01,25.00,EUR
o-3,ben@example.com,2023-06-03,80.00,EUR
o-4,ann@example.com,2024-12-01,22.50,EUR
o-5,cem@example.com,2024-12-20,15.00,EUR
o-6,cem@example.com,2024-12-21,-15.00,EUR
"""


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS, encoding="utf-8")
    return path


def test_it_tells_standings_and_who_slipped(orders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And which columns it took, and which row it did not take."""
    assert main(["analyze", str(orders)]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "3 customers as of 2024-12-20T00:00:00Z, amounts in EUR"
    assert [line.split()[0] for line in lines if line.startswith(("segment", "tier", "lifecycle"))] == [
        "segment",
        "tier",
        "lifecycle",
    ]
    assert any(line.startswith("Slipped: 1 customers; ") for line in lines)
    assert lines[-1].split()[:3] == ["ben@example.com", "lapsed", "566"]
    found = (
        "customer_id ← customer, date ← created_at, order_id ← order_id, amount ← amount, currency ← currency"
    )
    assert told.err.splitlines()[:2] == [f"{orders}: {found}", "1 of 6 rows were refused:"]
    assert f"{orders}:7: total: an amount" in told.err


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_it_writes_a_row_a_customer_and_a_page(orders: Path, name: str) -> None:
    """Oracle: `ebbtide.analyze` of the same table, with its history."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    page, out = orders.with_name("page.html"), orders.with_name(name)
    assert main(["analyze", str(orders), "--html", str(page), "--out", str(out)]) == 0
    frame = {
        ".csv": lambda: pd.read_csv(out),
        ".jsonl": lambda: pd.read_json(out, lines=True),
        ".parquet": lambda: pd.read_parquet(out),
    }[out.suffix]()
    expected = ebbtide.analyze(orders).profiles
    for column in ("customer_id", "order_count", "rfm"):
        assert frame[column].astype(str).tolist() == expected[column].astype(str).tolist()
    if out.suffix != ".jsonl":
        assert [json.loads(one) for one in frame["engagements_90d"]] == expected["engagements_90d"].tolist()
    for column in ("churn_risk", "customer_lifetime_value_365d", "revenue"):
        assert frame[column].tolist() == pytest.approx(expected[column].tolist())
    assert "3 customers as of 2024-12-20" in page.read_text("utf-8")


def test_without_history_everyone_has_entered_and_nobody_has_moved(orders: Path) -> None:
    """Aggregates, scores and traits are those of the whole history; only the moves are missing."""
    plain, lived = ebbtide.analyze(orders, history=False), ebbtide.analyze(orders)
    assert set(plain.changes["direction"]) == {"entered"}
    assert len(plain.changes) == 3 * len(plain.profiles)
    assert plain.triggers.empty
    same = ["customer_id", "churn_risk", "value", "revenue", "rfm", "recency_days", "value_at_stake"]
    pd.testing.assert_frame_equal(plain.profiles[same], lived.profiles[same])
    assert plain.refused.equals(lived.refused)


def test_it_needs_the_core_only(orders: Path) -> None:
    """No package of any extra."""
    program = "from streams.cli.commands import main; sys.exit(main(sys.argv[1:]))"
    done = run_core(program, "analyze", str(orders), cwd=orders.parent)
    assert (done.returncode, done.stdout.startswith("3 customers")) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{folder}/none.csv"], 2, "does not exist"),
        (["{path}", "--out", "x.xlsx"], 2, "ends in one of .csv, .parquet, .jsonl"),
        (["{path}", "--columns", "customer_id=Nobody"], 2, "no table has a column 'Nobody'"),
        (["{bad}"], 1, "no row was accepted"),
    ],
)
def test_what_cannot_be_analyzed(
    arguments: list[str], code: int, message: str, orders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and the exit code of its kind."""
    bad = orders.with_name("bad.csv")
    bad.write_text("customer,created_at,amount\na,soon,1\nb,soon,2\n", encoding="utf-8")
    words = [one.format(folder=orders.parent, path=orders, bad=bad) for one in arguments]
    assert main(["analyze", *words]) == code
    assert message in capsys.readouterr().err.splitlines()[-1]
