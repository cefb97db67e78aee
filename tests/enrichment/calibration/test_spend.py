"""Spend per purchase day, where Gamma-Gamma has an answer and where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from enrichment.calibration.fitting import fit_gamma_gamma
from enrichment.calibration.snapshot import Histories
from enrichment.calibration.spend import MOST_K, Spend, fit_spend, spend_frequency_correlation
from enrichment.lifetime.lifetime_value import GammaGamma
from tests.enrichment.calibration.histories import orders, snapshots


def spend_of(purchases: dict[str, list[tuple[int, float]]]) -> Spend:
    (snapshot,) = snapshots(orders(purchases), 100)
    return fit_spend(snapshot, Histories.of(snapshot, 7.0))


def test_gamma_gamma_is_used_where_it_converges() -> None:
    """Customers with means of their own. Oracle: `fit_gamma_gamma` on the same histories."""
    random = np.random.default_rng(8)
    purchases = {
        f"c{customer}": [(day, float(random.gamma(4.0, mean / 4.0)) + 0.01) for day in range(0, 60, 10)]
        for customer, mean in enumerate(random.gamma(5.0, 8.0, 150))
    }
    (snapshot,) = snapshots(orders(purchases), 100)
    histories = Histories.of(snapshot, 7.0)
    spend = fit_spend(snapshot, histories)
    assert spend.family == "gamma_gamma"
    assert spend.reason is None
    assert spend.parameters == fit_gamma_gamma(histories).parameters


def test_credibility_weighs_own_days_as_buehlmann_and_straub_do() -> None:
    """Equal counts of days, where the estimators are one-way analysis of variance: K = within / between.

    Gamma-Gamma has no mean here, with spends over four orders of magnitude. Oracle: K and the weighted mean by hand.
    """
    means = 10.0 ** np.linspace(0.0, 4.0, 40)
    purchases = {
        f"c{customer}": [(0, 1.0), (5, 0.5 * mean), (10, 1.5 * mean)] for customer, mean in enumerate(means)
    }
    spend = spend_of(purchases)
    assert spend.family == "credibility"
    assert spend.reason is not None
    assert spend.reason.startswith("Gamma-Gamma has a degenerate fit: q is ")
    assert spend.parameters is not None
    days = np.round(np.stack([0.5 * means, 1.5 * means], axis=1), 2)
    days = np.minimum(days, 100 * np.median(days))
    own = days.mean(axis=1)
    within = days.var(axis=1, ddof=1).mean()
    k = within / (own.var(ddof=1) - within / 2)
    assert spend.parameters.population_mean == pytest.approx(own.mean(), rel=1e-6)
    expected = (k * own.mean() + 3 * 70.0) / (k + 3)
    assert spend.parameters.expected_spend(3.0, 70.0) == pytest.approx(expected, rel=1e-6)


def test_where_all_spend_the_same_everyone_is_expected_to() -> None:
    """Own days count for little beside the population: K is at its largest."""
    spend = spend_of({f"c{customer}": [(0, 9.0), (5, 9.0), (9, 9.0)] for customer in range(30)})
    assert spend.reason == "Gamma-Gamma has failed: all customers spend the same: there is no spread to fit"
    assert spend.parameters == GammaGamma(p=1.0, q=1.0 + MOST_K, gamma=MOST_K * 9.0)


def test_without_spend_after_the_first_day_the_first_days_count() -> None:
    """Later orders were free. Oracle: the mean of the first orders."""
    spend = spend_of({f"c{customer}": [(0, 9.0 + customer), (5, 0.0)] for customer in range(3)})
    assert spend.reason is not None
    assert spend.reason.endswith("spend is that of the first purchase days")
    assert spend.parameters is not None
    assert spend.parameters.population_mean == pytest.approx(10.0)


@pytest.mark.parametrize("purchases", [{}, {"a": [(0, 0.0), (5, 0.0)]}])
def test_without_any_spend_there_is_no_answer_but_a_reason(
    purchases: dict[str, list[tuple[int, float]]],
) -> None:
    """No price is made up."""
    spend = spend_of(purchases)
    assert spend.parameters is None
    assert spend.reason is not None
    assert spend.reason.endswith("no order has brought any money")


def test_how_spend_goes_with_frequency_is_told_by_two_correlations() -> None:
    """Oracles: scipy's pearsonr and spearmanr; None where nothing varies."""
    purchases = {
        f"c{customer}": [(0, 5.0)] + [(day, 1.0 + customer) for day in range(2, 3 + customer % 5)]
        for customer in range(12)
    }
    (snapshot,) = snapshots(orders(purchases), 100)
    found = spend_frequency_correlation(Histories.of(snapshot, 7.0))
    days, spend = [1 + customer % 5 for customer in range(12)], [1.0 + customer for customer in range(12)]
    assert found["pearson"] == pytest.approx(pearsonr(days, spend).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(days, spend).statistic)
    (snapshot,) = snapshots(orders({"a": [(0, 5.0), (3, 5.0)]}), 100)
    assert spend_frequency_correlation(Histories.of(snapshot, 7.0)) == {
        "customers": 1,
        "pearson": None,
        "spearman": None,
    }
