"""Predictions held against later purchases: figures by hand, by scikit-learn, and as published for CDNOW."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_poisson_deviance, roc_auc_score

from ebbtide.testing.records import consent
from enrichment.calibration.holdout import (
    LEAST_EXPECTED,
    accuracy,
    area_under_curve,
    hold_out,
    holdout_report,
    predictions,
)
from enrichment.lifetime.lifetime_value import ParetoNBD
from tests.enrichment.calibration.histories import orders, snapshots

MODEL = ParetoNBD(r=0.553, alpha=10.578, s=0.606, beta=11.669)


def test_purchase_days_up_to_the_cut_predict_those_after_it() -> None:
    """By hand: a bought on days 0, 7 and 50, cut on day 20, end on day 60; b only before; c only after."""
    before, after = snapshots(
        orders({"a": [(0, 5.0), (7, 5.0), (50, 5.0)], "b": [(14, 5.0)], "c": [(40, 5.0)]}), 20, 60
    )
    holdout = hold_out(before, after, 7.0)
    assert holdout.days == 40
    assert holdout.horizon == pytest.approx(40 / 7)
    assert holdout.histories.x.tolist() == [1, 0]
    assert holdout.histories.T.tolist() == [20 / 7, 6 / 7]
    assert holdout.purchases.tolist() == [1, 0]
    assert holdout.left_out == 0


def test_naive_predictions_are_a_constant_rate_and_the_last_period_again() -> None:
    """By hand: a came on day 0, which never counts, and bought on days 10, 30 and 35; b came on the cut's day."""
    before, after = snapshots(
        orders({"a": [(0, 5.0), (10, 5.0), (30, 5.0), (35, 5.0)], "b": [(40, 5.0)]}), 40, 60
    )
    naive = hold_out(before, after, 7.0).naive
    assert naive["constant_rate"].tolist() == [pytest.approx(3 / 40 * 20), 0.0]
    assert naive["repeat_last_period"].tolist() == [2.0, 0.0]
    before, after = snapshots(
        orders({"a": [(0, 5.0), (10, 5.0), (30, 5.0), (35, 5.0)], "b": [(40, 5.0)]}), 40, 200
    )
    assert hold_out(before, after, 7.0).naive["repeat_last_period"].tolist() == [3.0, 0.0]


def test_customers_of_whom_nothing_later_is_known_are_left_out() -> None:
    """One of two withdraws from profiling after the cut; their later purchase is no zero, but unknown."""
    events = [
        *orders({"a": [(0, 5.0), (30, 5.0)], "b": [(0, 5.0), (31, 5.0)]}),
        consent("2024-02-05", "profiling", False, customer_id="a"),
    ]
    before, after = snapshots(events, 20, 60)
    holdout = hold_out(before, after, 7.0)
    assert holdout.left_out == 1
    assert holdout.purchases.tolist() == [1]


def test_figures_of_accuracy_are_those_of_numpy_and_scikit_learn() -> None:
    """Oracles: np.corrcoef, sklearn.metrics.mean_poisson_deviance, and sorting by hand."""
    random = np.random.default_rng(6)
    expected = random.gamma(1.0, 2.0, 200)
    actual = random.poisson(expected).astype(np.float64)
    figures = accuracy(expected, actual)
    assert figures["correlation"] == pytest.approx(np.corrcoef(expected, actual)[0, 1])
    assert figures["mean_absolute_error"] == pytest.approx(np.abs(expected - actual).mean())
    assert figures["total_bias"] == pytest.approx(expected.sum() / actual.sum() - 1)
    assert figures["mean_poisson_deviance"] == pytest.approx(mean_poisson_deviance(actual, expected))
    top = actual[np.argsort(-expected)[:20]].sum() / actual.sum()
    assert figures["top_decile_share"] == pytest.approx(top)


def test_of_equals_at_the_edge_of_the_top_decile_a_mean_one_is_taken() -> None:
    """Twenty customers, two places: one is clear, three share the other. By hand: 5 + (1 + 2 + 6) / 3 of 20."""
    expected = np.array([9.0, 4.0, 4.0, 4.0] + [1.0] * 16)
    actual = np.array([5.0, 1.0, 2.0, 6.0] + [6.0] + [0.0] * 15)
    assert accuracy(expected, actual)["top_decile_share"] == pytest.approx(8 / 20)


def test_a_purchase_that_was_ruled_out_costs_much_but_not_everything() -> None:
    """Oracle: the deviance at the least expectation that is taken."""
    figures = accuracy(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert figures["mean_poisson_deviance"] == pytest.approx(
        mean_poisson_deviance([1.0, 1.0], [LEAST_EXPECTED, 1.0])
    )


@pytest.mark.parametrize(
    ("expected", "actual"), [([], []), ([1.0], [0.0]), ([1.0, 1.0], [0.0, 3.0]), ([1.0, 2.0], [0.0, 0.0])]
)
def test_what_is_not_defined_is_none(expected: list[float], actual: list[float]) -> None:
    """No NaN and no infinity, for nobody, one customer, equal expectations or no purchases."""
    figures = accuracy(np.array(expected), np.array(actual))
    assert figures["correlation"] is None
    assert all(figure is None or np.isfinite(figure) for figure in figures.values())


def test_area_under_the_curve_is_that_of_scikit_learn() -> None:
    """With ties. Oracle: sklearn.metrics.roc_auc_score; None where everyone, or nobody, is positive."""
    random = np.random.default_rng(7)
    scores, positive = random.integers(0, 9, 300).astype(np.float64), random.random(300) < 0.3
    assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert area_under_curve(scores, np.ones(300, np.bool_)) is None
    assert area_under_curve(scores, np.zeros(300, np.bool_)) is None


def test_a_report_of_nobody_holds_none_and_no_nan() -> None:
    """Before the first order there is nobody to predict for."""
    before, after = snapshots(orders({"a": [(30, 5.0)]}), 20, 60)
    holdout = hold_out(before, after, 7.0)
    report = holdout_report({"pareto_nbd": predictions(MODEL, holdout), "bg_nbd": None}, holdout)
    assert report["customers"] == 0
    assert set(report["pareto_nbd"].values()) == {None}
    assert report["bg_nbd"] is None
    assert report["auc_recency"] is None
