"""The empirical hazard against processes with a known answer, and what silence does under it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import model, order
from enrichment.lifetime.empirical_hazard import EmpiricalHazard
from enrichment.lifetime.lifetime_value import Floats, predict, predict_with_window

STEADY = EmpiricalHazard(
    typical_gap=4.0,
    active_within=52.0,
    silences=(0.0, 2.0, 10.0),
    after_first=(0.25, 0.25, 0.25),
    paces=(1.0, 4.0),
    hazards=((0.25, 0.25, 0.25), (0.25, 0.25, 0.25)),
)
"""One hazard for everyone: a Poisson process."""

FADING = EmpiricalHazard(
    typical_gap=6.0,
    active_within=60.0,
    silences=(0.0, 1.0, 4.0, 12.0, 30.0),
    after_first=(0.08, 0.05, 0.03, 0.01, 0.004),
    paces=(0.5, 2.0, 9.0),
    hazards=((1.6, 1.2, 0.6, 0.1, 0.02), (0.5, 0.45, 0.2, 0.06, 0.02), (0.1, 0.1, 0.05, 0.03, 0.004)),
)
PARAMETERS: dict[str, Any] = {
    "family": "empirical",
    **{name: getattr(FADING, name) for name in FADING.__dataclass_fields__},
}


def grid() -> tuple[Floats, Floats, Floats]:
    """(x, t_x, T) of one-time buyers, regulars and heavy buyers, after silences from none to ten years."""
    rows = [
        (x, t_x, t_x + silence)
        for x, t_x in ((0, 0.0), (1, 0.3), (1, 60.0), (5, 9.0), (200, 150.0))
        for silence in (0.0, 0.1, 0.9, 1.0, 3.0, 11.0, 12.0, 29.0, 31.0, 100.0, 520.0)
    ]
    x, t_x, T = np.array(rows, np.float64).T
    return x, t_x, T


def test_one_hazard_for_everyone_is_a_poisson_process() -> None:
    """Oracle: Poisson, rate 0.25 a week: 13 purchases in 52 weeks, none with probability exp(-13)."""
    active, silent, expected = predict(STEADY, *grid(), 52.0)
    np.testing.assert_allclose(expected, 13.0, rtol=5e-4)
    np.testing.assert_allclose(silent, math.exp(-13.0), rtol=1e-6)
    np.testing.assert_allclose(active, -math.expm1(-13.0), rtol=1e-12)


def test_expected_purchases_are_those_of_a_simulated_renewal_process() -> None:
    """Oracle: 100,000 simulated customers of the pace 2.0, each silent for 3 weeks, over 20 weeks."""
    random, customers, horizon = np.random.default_rng(1), 100_000, 20.0
    edges, rates = np.array(FADING.silences), np.array(FADING.hazards[1])
    heights = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(edges))])

    def wait(silence: Floats) -> Floats:
        at = np.searchsorted(edges, silence, side="right") - 1
        target = heights[at] + rates[at] * (silence - edges[at]) + random.exponential(size=len(silence))
        end = np.searchsorted(heights, target, side="right") - 1
        time: Floats = edges[end] + (target - heights[end]) / rates[end] - silence
        return time

    now = wait(np.full(customers, 3.0))
    bought = np.zeros(customers)
    while (now <= horizon).any():
        bought += now <= horizon
        now = now + wait(np.zeros(customers))
    # x = 1 000 000 and a T to match: so many gaps that one more, of any length, leaves the pace at 2.0.
    x, T = 1_000_000.0, 2_000_000.0
    _, silent, expected = predict(FADING, x, T - 3.0, T, horizon)
    assert float(expected) == pytest.approx(bought.mean(), abs=4 * bought.std() / math.sqrt(customers))
    assert float(silent) == pytest.approx((bought == 0).mean(), abs=0.01)


def test_silence_only_makes_things_worse() -> None:
    """By every step of silence, for one-time, regular and heavy buyers. Oracle: the order of the numbers."""
    for x, t_x in ((0.0, 0.0), (1.0, 0.3), (5.0, 9.0), (200.0, 150.0)):
        silence = np.linspace(0.0, 80.0, 801)
        active, silent, expected = predict(FADING, x, t_x, t_x + silence, 52.0)
        assert (np.diff(active) <= 1e-15).all()
        assert (np.diff(silent) >= -1e-15).all()
        assert (np.diff(expected) <= 1e-12).all()


def test_a_faster_pace_promises_more() -> None:
    """Customers of the same age and silence. Oracle: the order of the numbers."""
    active, silent, expected = predict(FADING, np.arange(1.0, 60.0), 50.0, 52.0, 52.0)
    assert (np.diff(active) >= -1e-15).all()
    assert (np.diff(silent) <= 1e-15).all()
    assert (np.diff(expected) >= -1e-12).all()


@pytest.mark.parametrize("horizon", [0.0, 1e-6, 0.5, 52.0, 5200.0])
def test_predictions_are_finite_and_in_their_bounds(horizon: float) -> None:
    """Whatever the history and the horizon; in no time nothing is bought."""
    active, silent, expected = predict(FADING, *grid(), horizon)
    assert ((active >= 0) & (active <= 1) & (silent >= 0) & (silent <= 1)).all()
    assert (np.isfinite(expected) & (expected >= 1.0 - silent - 1e-12)).all()
    if horizon == 0.0:
        assert (expected == 0.0).all()
        assert (silent == 1.0).all()


def test_a_row_has_the_same_bits_alone_and_in_any_batch() -> None:
    """Oracle: the row by itself, among others with other horizons."""
    x, t_x, T = (np.tile(column, 20) for column in grid())
    horizon = np.where(np.arange(len(x)) % 3 == 0, 13.0, 52.0)
    together = predict(FADING, x, t_x, T, horizon)
    for row in range(0, len(x), 37):
        alone = predict(FADING, x[row], t_x[row], T[row], horizon[row])
        assert [float(values[row]) for values in together] == [float(value) for value in alone]


def test_a_window_beside_the_horizon_has_the_same_bits_as_alone() -> None:
    """Oracle: the two asked for one after the other."""
    *predicted, in_window = predict_with_window(FADING, *grid(), 52.0, 13.0)
    for found, expected in zip(predicted, predict(FADING, *grid(), 52.0), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(in_window, FADING.probability_of_no_purchase(13.0, *grid()))


def test_a_unit_of_time_changes_nothing() -> None:
    """Oracle: the same hazards in days, a seventh of those in weeks."""
    days = EmpiricalHazard(
        typical_gap=FADING.typical_gap * 7,
        active_within=FADING.active_within * 7,
        silences=tuple(value * 7 for value in FADING.silences),
        after_first=tuple(value / 7 for value in FADING.after_first),
        paces=tuple(value * 7 for value in FADING.paces),
        hazards=tuple(tuple(value / 7 for value in row) for row in FADING.hazards),
    )
    x, t_x, T = grid()
    # Not at the silences themselves: there, rounding decides to which side a time belongs.
    weeks, daily = predict(FADING, x, t_x, T + 0.01, 52.0), predict(days, x, t_x * 7, (T + 0.01) * 7, 364.0)
    for in_weeks, in_days in zip(weeks, daily, strict=True):
        np.testing.assert_allclose(in_days, in_weeks, rtol=1e-9)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"silences": (1.0, 2.0, 3.0, 4.0, 5.0)}, "silences must begin with 0"),
        ({"silences": (0.0, 4.0, 4.0, 12.0, 30.0)}, "silences must ascend"),
        ({"paces": (2.0, 0.5, 9.0)}, "paces must ascend"),
        ({"paces": (), "hazards": ()}, "at least one"),
        ({"paces": (1.0,)}, "a row for each of paces"),
        ({"after_first": (0.08, 0.05)}, "after_first must have a hazard for each"),
        ({"after_first": (0.01, 0.05, 0.03, 0.01, 0.004)}, "after_first must not rise with silence"),
        ({"hazards": FADING.hazards[::-1]}, "must not rise with a slower pace"),
        ({"after_first": (0.08, 0.05, 0.03, 0.01, 0.0)}, "finite, and above 0"),
        ({"typical_gap": math.nan}, "finite, and above 0"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name(changed: dict[str, Any], named: str) -> None:
    """As numbers, and in a model file with the key."""
    with pytest.raises(ValueError, match=named):
        replace(FADING, **changed)
    with pytest.raises(ValidationError, match=rf"lifetime_value\.purchases(.|\n)*({named}|finite number)"):
        model(lifetime_value={"purchases": {**PARAMETERS, **changed}})


def test_a_profile_is_scored_by_the_empirical_hazard_of_its_model() -> None:
    """Oracle: `predict` on the customer's purchase days, times in weeks, rounded to six decimals."""
    partition = LocalStream(model(lifetime_value={"purchases": PARAMETERS}))
    partition.take(order("2025-01-01"), order("2025-01-15"), order("2025-02-05"))
    partition.pass_midnight("2025-03-12")
    traits = partition.profile()["traits"]
    active, silent, expected = predict(FADING, 2.0, 5.0, 10.0, 365 / 7)
    assert traits["probability_active"] == round(float(active), 6)
    assert traits["churn_risk"] == round(float(silent), 6)
    assert traits["expected_orders_365d"] == round(float(expected), 6)
    assert float(traits["customer_lifetime_value_365d"]) > 0
