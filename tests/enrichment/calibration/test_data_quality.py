"""What a history is like: what was refused or repeated, what is missing, what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ebbtide.testing.records import consent, order, refund
from enrichment.calibration.data_quality import RecordCounts, data_quality, outliers
from enrichment.model import METRICS, load_model
from schemas.events import Event
from tests.enrichment.calibration.snapshots import cdnow, cdnow_sales, snapshots, written


def quality(events: Sequence[Event], date: str, records: RecordCounts | None = None) -> dict[str, Any]:
    """The section of these events at the end of a date."""
    (snapshot,) = snapshots(events, date)
    return data_quality(snapshot, load_model(), records)


def test_a_whale_of_ten_thousand_times_the_median_stands_out() -> None:
    """One of a hundred, by its revenue and order value, with the share of the total that it holds."""
    events = [order("2025-01-05", f"{8 + at % 5}.00", customer_id=f"c{at}") for at in range(99)]
    events.append(order("2025-01-05", "100000.00", customer_id="whale"))
    found = quality(events, "2025-01-31")
    revenue = found["outliers"]["revenue"]
    total = sum(8 + at % 5 for at in range(99)) + 100000
    assert (revenue["high"], revenue["low"], revenue["median"], revenue["largest"]) == (1, 0, 10.0, 100000.0)
    assert revenue["share_of_total_high"] == pytest.approx(100000 / total, abs=1e-6)
    assert any(
        warning.startswith("revenue: 1 of 100 customers hold 99% of the total")
        for warning in found["warnings"]
    )
    assert found["outliers"]["purchase_days"]["high"] == 0


def test_outliers_are_those_of_the_modified_z_score_of_logarithms(random_seed: int) -> None:
    """Oracle: Iglewicz and Hoaglin's 0.6745 × (x − median) ÷ MAD against 3.5, with the definition of MAD."""
    values = np.exp(np.random.default_rng(random_seed).standard_t(2, 400))
    logs = np.log(values)
    mad = np.median(np.abs(logs - np.median(logs)))
    far = 0.6745 * (logs - np.median(logs)) / mad
    found = outliers(values)
    assert (found["high"], found["low"]) == (int((far > 3.5).sum()), int((far < -3.5).sum()))
    assert found["high"] + found["low"] > 0


def test_an_outlier_among_equal_values_is_found() -> None:
    """More than half are the same, so that the median deviation is 0; the mean deviation takes its place."""
    assert outliers(np.array([5.0] * 60 + [500.0]))["high"] == 1
    assert outliers(np.array([5.0] * 60))["high"] == 0


def test_without_values_no_outlier_is_found() -> None:
    """Nulls, and no warning of an empty mean."""
    assert outliers(np.zeros(0)) == {
        "customers": 0,
        "low": 0,
        "high": 0,
        "share_of_total_high": None,
        "median": None,
        "largest": None,
    }


def test_returns_without_an_order_denials_and_net_negatives_are_counted() -> None:
    """Each by what it is; the one who denies profiling is in no other count."""
    events = [
        order("2025-01-05", "20.00", customer_id="a"),
        refund("2025-01-06", "unknown", "90.00", customer_id="a"),
        refund("2025-01-06", "unknown", "15.00", customer_id="b"),
        order("2025-01-05", customer_id="c"),
        consent("2025-01-07", "profiling", False, customer_id="c"),
    ]
    found = quality(events, "2025-01-31")
    assert (found["customers"], found["denied"], found["refunds_without_order"]) == (2, 1, 2)
    assert (found["without_counted_order"], found["only_returns"], found["net_negative"]) == (1, 1, 2)
    assert "2 refunds are of orders that are not in the log" in found["warnings"]
    assert found["missing"]["declared_intent"] == 1.0
    assert found["missing"]["recency_days"] == 0.5
    assert tuple(found["missing"]) == METRICS


def test_records_are_counted_by_outcome_and_dead_letters_by_reason() -> None:
    """More than one record in a hundred refused is a warning, with the reasons."""
    counts = RecordCounts(
        {"purchases": {"accepted": 90, "duplicate": 4, "dead_letter": 3}, "consents": {"duplicate": 3}},
        {"TooLate": 1, "Malformed": 2},
    )
    found = quality([order("2025-01-05")], "2025-01-31", counts)
    assert (found["records"]["read"], found["records"]["duplicates"]) == (100, 7)
    assert found["records"]["dead_letters_by_reason"] == {"Malformed": 2, "TooLate": 1}
    assert found["warnings"] == ["3.0% of the records were refused as dead letters (Malformed 2, TooLate 1)"]


def test_counts_that_were_not_taken_are_null() -> None:
    """Not zero: nobody has counted."""
    assert quality([order("2025-01-05")], "2025-01-31")["records"] is None


def test_a_log_that_begins_later_than_its_customers_is_suspected() -> None:
    """Most first orders in the first month of a year, as in a panel; CDNOW's are spread over a quarter."""
    events = [order("2024-01-05", customer_id=f"c{at}") for at in range(6)]
    events += [order(f"2024-0{month}-05", customer_id=f"n{month}") for month in range(4, 8)]
    found = quality(events, "2024-12-31")
    assert found["first_orders"] == {"history_days": 362, "in_first_31_days": 0.6}
    assert found["warnings"][0].startswith(
        "60% of the customers have their first order in the log's first 31 days"
    )


def test_first_orders_of_cdnow_are_those_of_the_raw_file() -> None:
    """Oracle: each customer's earliest line."""
    _, end = cdnow()
    first: dict[str, str] = {}
    for sale in cdnow_sales():
        first[sale.customer] = min(sale.date, first.get(sale.customer, sale.date))
    january = sum(date <= "1997-01-31" for date in first.values())
    found = data_quality(end, load_model())["first_orders"]
    assert found["in_first_31_days"] == pytest.approx(january / len(first), abs=1e-6)


def test_an_empty_history_has_an_empty_section() -> None:
    """No exception, no NaN."""
    found = quality([], "2025-01-31")
    assert (found["customers"], found["warnings"]) == (0, [])
    written(found)
