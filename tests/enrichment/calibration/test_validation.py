"""How a model did on what came after a cut: by decile, frequency, rank and standing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ebbtide.testing.records import erasure, order, refund
from enrichment.calibration.bootstrap import resampled
from enrichment.calibration.data_quality import data_quality
from enrichment.calibration.holdout import area_under_curve
from enrichment.calibration.snapshot import Histories, between
from enrichment.calibration.stability import stability
from enrichment.calibration.validation import auc, roc, validate
from enrichment.lifetime.lifetime_value import predict
from enrichment.model import load_model
from enrichment.scoring.scores import score
from schemas.events import Event
from tests.enrichment.calibration.snapshots import (
    CDNOW_CUT,
    CDNOW_END,
    cdnow,
    cdnow_sales,
    snapshots,
    written,
)


def test_the_built_in_model_does_on_the_cdnow_holdout_as_published() -> None:
    """Oracle: Fader, Hardie and Lee (2005), table 3 (correlation .630 for Pareto/NBD); counts of the raw file."""
    found = validate(load_model(), *cdnow())
    later = {(sale.customer, sale.date) for sale in cdnow_sales() if CDNOW_CUT < sale.date <= CDNOW_END}
    assert found["period"] == {"cut": "1997-09-30", "from": "1997-10-01", "until": "1998-06-30", "days": 273}
    assert found["customers"] == 2357
    assert found["purchases"]["actual"] == len(later)
    assert found["purchases"]["buyers"] == len({customer for customer, _ in later})
    assert found["purchases"]["correlation"] == pytest.approx(0.630, abs=5e-4)
    assert found["purchases"]["mean_absolute_error"] == pytest.approx(0.755, abs=5e-4)
    assert found["deciles"][0]["share_of_purchases"] > 0.46


def test_churn_risk_and_probability_active_rank_who_purchases_on_cdnow() -> None:
    """Oracle: scikit-learn's area under the ROC curve over columns counted from the raw file."""
    cut, end = cdnow()
    found = validate(load_model(), cut, end)["ranking"]
    scored = score(cut.features(load_model()), load_model())
    buyers = {sale.customer for sale in cdnow_sales() if sale.date > CDNOW_CUT}
    bought = [customer in buyers for customer in cut.customer_ids]
    assert found["probability_active"]["auc"] == pytest.approx(
        roc_auc_score(bought, scored.probability_active), abs=1e-6
    )
    assert found["churn_risk_reversed"]["auc"] == pytest.approx(
        roc_auc_score(bought, -scored.churn_risk), abs=1e-6
    )
    assert found["recency_reversed"]["auc"] == pytest.approx(
        roc_auc_score(bought, -scored.recency_days), abs=1e-6
    )
    assert found["probability_of_purchase"]["auc"] >= 0.77
    assert found["probability_active"]["auc"] >= 0.72
    assert found["churn_risk_reversed"]["auc"] >= 0.765


def test_roc_curves_are_scikit_learns_also_with_ties(random_seed: int) -> None:
    """Every point lies on the curve of `roc_curve`, from corner to corner; the area is `roc_auc_score`."""
    rng = np.random.default_rng(random_seed)
    by = rng.integers(0, 12, 500).astype(np.float64)
    positive = rng.random(500) < 0.1 + by / 20
    misses, hits, _ = roc_curve(positive, by, drop_intermediate=False)
    assert np.array(roc(positive, by)) == pytest.approx(np.stack([misses, hits], axis=1), abs=1e-6)
    assert auc(positive, by) == pytest.approx(roc_auc_score(positive, by), abs=1e-6)


def test_a_long_roc_curve_is_thinned_and_still_goes_from_corner_to_corner(random_seed: int) -> None:
    """5,000 distinct values become about a hundred points, of the same area within a thousandth."""
    rng = np.random.default_rng(random_seed)
    by = rng.random(5000)
    positive = rng.random(5000) < by
    curve = np.array(roc(positive, by))
    assert len(curve) == 101
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(roc_auc_score(positive, by), abs=1e-3)


def test_deciles_and_curves_hold_every_customer_once() -> None:
    """Their customers and purchases add up to those in all; expectations descend by decile and ascend in the curve."""
    found = validate(load_model(), *cdnow())
    for groups in ("deciles", "calibration_curve", "by_frequency", "probability_of_purchase"):
        assert sum(row["customers"] for row in found[groups]) == 2357
    deciles = pd.DataFrame(found["deciles"])
    assert deciles["actual_purchases"].sum() == found["purchases"]["actual"]
    assert deciles["expected_purchases"].sum() == pytest.approx(found["purchases"]["expected"], abs=1e-4)
    assert deciles["revenue"].sum() == pytest.approx(found["purchases"]["revenue"], abs=1e-4)
    assert (deciles["expected_purchases"] / deciles["customers"]).is_monotonic_decreasing
    assert pd.DataFrame(found["calibration_curve"])["expected"].is_monotonic_increasing


def test_customers_of_like_expectation_are_in_one_group_of_the_curve() -> None:
    """Forty newcomers of one day, who can't be told apart, make one group."""
    events = [order("2025-01-05", "20.00", customer_id=f"c{number}") for number in range(40)]
    events += [order("2025-03-05", "20.00", customer_id=f"c{number}") for number in range(10)]
    found = validate(load_model(), *snapshots(events, "2025-02-01", "2025-04-01"))
    (group,) = found["calibration_curve"]
    assert (group["customers"], group["actual"]) == (40, 0.25)
    (group,) = found["probability_of_purchase"]
    assert group["actual"] == 0.25
    assert group["actual_low"] < 0.25 < group["actual_high"]


def test_later_revenue_of_a_segment_is_what_its_customers_spent_after_the_cut() -> None:
    """Oracle: pandas over the raw file, by the segments that the rules give at the cut."""
    cut, end = cdnow()
    model = load_model()
    scored = score(cut.features(model), model)
    sales = pd.DataFrame(cdnow_sales())
    spent = sales[sales["date"] > CDNOW_CUT].groupby("customer")["dollars"].sum()
    high = (scored.lifetime_value_score >= model.segments.high) & (
        scored.churn_risk <= model.segments.high_churn_risk_limit
    )
    revenue = spent.reindex(cut.customer_ids, fill_value=0.0).to_numpy()[high]
    row = validate(model, cut, end)["standings"]["segment"][0]
    assert (row["standing"], row["customers"]) == ("high", int(high.sum()))
    assert row["revenue_per_customer"] == pytest.approx(revenue.mean(), abs=1e-5)
    assert row["revenue_error"] == pytest.approx(revenue.std(ddof=1) / np.sqrt(len(revenue)), abs=1e-5)


def test_every_dimension_parts_the_same_customers_and_revenue() -> None:
    """Segments, tiers and lifecycles each add up to all customers of the cut and all their later revenue."""
    found = validate(load_model(), *cdnow())
    for rows in found["standings"].values():
        assert sum(row["customers"] for row in rows) == 2357
        assert sum(row["revenue"] for row in rows) == pytest.approx(found["purchases"]["revenue"], abs=1e-4)


def test_who_was_erased_meanwhile_is_left_out_and_counted() -> None:
    """What they did is not known; newcomers are counted too, and not held against anything."""
    events = [order("2025-01-05", customer_id=name) for name in ("kept", "gone")]
    events += [erasure("2025-02-10", customer_id="gone"), order("2025-02-20", customer_id="new")]
    found = validate(load_model(), *snapshots(events, "2025-02-01", "2025-03-01"))
    assert (found["customers"], found["not_seen_at_end"], found["newcomers"]) == (1, 1, 1)
    assert sum(row["customers"] for row in found["standings"]["segment"]) == 1


@pytest.mark.parametrize(
    ("later", "warning"),
    [
        ([], "nobody purchased in the 28 days of the holdout: predictions cannot be judged"),
        (["a", "b", "c"], "everyone purchased in the holdout: who does cannot be ranked (no AUC)"),
    ],
    ids=["nobody", "everyone"],
)
def test_what_cannot_be_ranked_is_null_with_its_reason(later: list[str], warning: str) -> None:
    """With no buyers, or nothing but buyers, there is no area under a curve."""
    events = [order(f"2025-01-0{at}", customer_id=name) for at, name in enumerate("abc", start=1)]
    events += [order("2025-02-20", customer_id=name) for name in later]
    found = validate(load_model(), *snapshots(events, "2025-02-01", "2025-03-01"))
    assert warning in found["warnings"]
    assert {ranked["auc"] for ranked in found["ranking"].values()} == {None}
    written(found)


@pytest.mark.parametrize(
    "events", [[], [refund("2025-01-05", "unknown", "20.00")]], ids=["nobody", "returns only"]
)
def test_without_a_counted_order_nothing_is_validated_and_that_is_said(events: list[Event]) -> None:
    """No exception, no NaN, one reason."""
    found = validate(load_model(), *snapshots(events, "2025-02-01", "2025-03-01"))
    assert found["warnings"][0].startswith("nobody had a counted order at the cut")
    assert (found["customers"], found["deciles"], found["by_frequency"]) == (0, [], [])
    written(found)


HARD_HISTORIES: dict[str, list[Event]] = {
    "five customers": [order(f"2025-01-0{at}", customer_id=f"c{at}") for at in range(1, 6)],
    "one order each": [order("2025-01-05", f"{at}.00", customer_id=f"c{at}") for at in range(1, 60)],
    "only returns": [refund(f"2025-01-0{at}", "unknown", "9.00", customer_id=f"c{at}") for at in range(1, 6)],
    "free orders": [order("2025-01-05", "0", customer_id=f"c{at}") for at in range(5)],
    "a whale": [
        *(
            order(date, "10.00", customer_id=f"c{at}")
            for at in range(40)
            for date in ("2025-01-05", "2025-02-10")
        ),
        *(order(date, "100000.00", customer_id="whale") for date in ("2025-01-05", "2025-02-10")),
    ],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("history", HARD_HISTORIES)
def test_hard_histories_are_validated_without_an_exception_or_nan(history: str) -> None:
    """All of the report's sections, with numerical warnings taken for errors."""
    cut, end = snapshots(HARD_HISTORIES[history], "2025-02-01", "2025-03-01")
    model = load_model()
    written([validate(model, cut, end), stability([cut, end], model), data_quality(end, model)])


def test_expecting_far_too_few_purchases_is_warned_of() -> None:
    """Weekly buyers who, after a long silence, all come back four times."""
    events = [order(f"2024-01-{5 + at:02}", customer_id=f"c{at}") for at in range(9)]
    events += [order(f"2025-01-{10 + turn}", customer_id=f"c{at}") for at in range(9) for turn in range(4)]
    found = validate(load_model(), *snapshots(events, "2025-01-01", "2025-02-01"))
    assert found["warnings"][0].endswith(f"({found['purchases']['expected']:,.0f} against 36)")
    assert "fewer purchases were expected in the holdout than there were" in found["warnings"][0]


def test_a_standing_that_later_brings_less_than_one_below_it_is_warned_of() -> None:
    """Those the model takes for high stay away, and the ones of a single small order buy for a thousand."""
    events = [
        order(f"2024-{month:02}-10", "150.00", customer_id=f"best{at}")
        for at in range(5)
        for month in range(1, 13)
    ]
    events += [order("2024-03-10", "5.00", customer_id=f"small{at}") for at in range(5)]
    events += [order("2025-01-15", f"{1000 + at}.00", customer_id=f"small{at}") for at in range(5)]
    found = validate(load_model(), *snapshots(events, "2024-12-31", "2025-03-01"))
    assert any(
        warning.startswith(
            "segment: low later brought more per customer than high (1002.00 against 0.00), beyond"
        )
        for warning in found["warnings"]
    )


def test_an_end_that_is_not_after_the_cut_is_refused() -> None:
    """The error names both days."""
    cut, end = snapshots([order("2025-01-05")], "2025-02-01", "2025-03-01")
    with pytest.raises(ValueError, match=r"the end, 2025-02-01, must be after the cut, 2025-03-01"):
        validate(load_model(), end, cut)


def test_intervals_are_those_of_resampled_customers() -> None:
    """Oracle: each draw of CDNOW's customers written out, and their figures taken as those of all are."""
    model, (cut, end) = load_model(), cdnow()
    found = validate(model, cut, end)
    scored = score(cut.features(model), model)
    actual = between(end, cut.customer_ids, cut.day).purchase_days.astype(np.float64)
    histories = Histories.of(cut, 7.0)
    _, _, expected = predict(
        model.lifetime_value.purchase_model, histories.x, histories.t_x, histories.T, 273 / 7.0
    )
    rows: list[list[float]] = []

    def note(drawn: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        at = np.repeat(np.arange(len(cut)), drawn.astype(np.int64))
        by_recency = area_under_curve(-scored.recency_days[at].astype(np.float64), actual[at] > 0)
        assert by_recency is not None
        rows.append(
            [
                expected[at].sum() / actual[at].sum() - 1,
                np.abs(expected[at] - actual[at]).mean(),
                np.corrcoef(expected[at], actual[at])[0, 1],
                by_recency,
            ]
        )
        return np.zeros(1)

    resampled(len(cut), note)
    bounds = np.quantile(rows, [0.025, 0.975], axis=0).T
    told = [
        *(
            found["purchases"][f"{name}_interval"]
            for name in ("total_bias", "mean_absolute_error", "correlation")
        ),
        found["ranking"]["recency_reversed"]["auc_interval"],
    ]
    for interval_told, expected_bounds in zip(told, bounds, strict=True):
        assert interval_told == pytest.approx(expected_bounds, abs=2e-6)
