"""Discounting of lifetime value: off unless a model asks for it."""

from __future__ import annotations

import pytest
from scipy.integrate import quad

from ebbtide.testing.records import model
from enrichment.scoring.scores import Scored, score
from tests.enrichment.calibration.histories import orders, snapshots

HISTORY = orders({"a": [(0, 40.0), (20, 60.0), (50, 50.0)], "b": [(30, 25.0)]})


def scored(**lifetime_value: float) -> Scored:
    """The history as of its day 90."""
    (snapshot,) = snapshots(HISTORY, 90)
    other = model(lifetime_value=lifetime_value)
    return score(snapshot.features(other), other)


@pytest.mark.parametrize("rate", [1e-9, 0.1, 1.5])
def test_lifetime_value_is_discounted_as_money_that_comes_evenly_over_the_year(rate: float) -> None:
    """Oracle: numerical integration of (1 + rate)^-t over the year."""
    factor, _ = quad(lambda year: (1.0 + rate) ** -year, 0.0, 1.0)
    plain, discounted = scored(), scored(discount_rate_per_year=rate)
    assert discounted.customer_lifetime_value_365d == pytest.approx(
        factor * plain.customer_lifetime_value_365d, abs=1e-6
    )
    assert (discounted.expected_orders_365d == plain.expected_orders_365d).all()


def test_a_rate_of_zero_is_the_model_that_does_not_name_it() -> None:
    """The same bits and the same fingerprint; another rate is another model."""
    plain, zero = scored(), scored(discount_rate_per_year=0.0)
    assert (plain.customer_lifetime_value_365d == zero.customer_lifetime_value_365d).all()
    assert model(lifetime_value={"discount_rate_per_year": 0.0}).fingerprint == model().fingerprint
    assert model(lifetime_value={"discount_rate_per_year": 0.1}).fingerprint != model().fingerprint
