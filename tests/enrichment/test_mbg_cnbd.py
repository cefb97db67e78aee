"""MBG/CNBD-k against the equations in many digits, against BG/NBD, against simulated customers, and in a stream."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import mpmath
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import betainc

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import model, order
from enrichment.lifetime.lifetime_value import BGNBD, Floats, predict, predict_with_window
from enrichment.lifetime.mbg_cnbd import MBGCNBD

REGULAR = MBGCNBD(k=3, r=1.4, alpha=2.0, a=0.5, b=6.0)
"""In weeks: gaps of some four weeks, and 8% who drop out after each purchase."""
FAMILIES = [
    MBGCNBD(1, 0.6, 5.0, 0.8, 2.4),
    REGULAR,
    MBGCNBD(12, 30.0, 10.0, 0.4, 9.0),
    MBGCNBD(100, 4.0, 0.3, 0.4, 9.0),
]


def grid() -> tuple[Floats, Floats, Floats]:
    """(x, t_x, T) of one-time, regular and frequent buyers, after silences from none to long."""
    rows = [
        (x, t_x, t_x + silence)
        for x, t_x in ((0, 0.0), (1, 4.0), (6, 26.0), (40, 60.0))
        for silence in (0.0, 0.5, 3.0, 12.0, 60.0)
    ]
    x, t_x, T = np.array(rows, np.float64).T
    return x, t_x, T


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"k = {family.k}")
def test_the_likelihood_is_the_mixture_integrated(family: MBGCNBD) -> None:
    """Oracle: purchases, silence and dropping out given one rate and one chance, integrated over both by mpmath."""
    k, gap_free = family.k, mpmath.mpf(1)
    for x, t_x, T in ((0, 0.0, 5.0), (2, 9.0, 13.0), (5, 30.0, 30.0)):

        def stayed(p: Any, x: int = x) -> Any:
            return mpmath.power(1 - p, x)

        def rate_part(u: float, stages: int, x: int = x, t_x: float = t_x) -> Any:
            """Integral of rate^(kx + j) exp(-rate (t_x + u)) over the gamma density, in closed form."""
            shape = family.r + k * x + stages
            return (
                mpmath.gamma(shape)
                / mpmath.gamma(family.r)
                * mpmath.power(family.alpha, family.r)
                * mpmath.power(family.alpha + t_x + u, -shape)
            )

        def chance(weight: Any) -> Any:
            """The mean over the beta density, by its moments' integral."""
            density = lambda p: (  # noqa: E731
                mpmath.power(p, family.a - 1) * mpmath.power(1 - p, family.b - 1) * weight(p)
            )
            return mpmath.quad(density, [0, 0.01, 0.5, 1]) / mpmath.beta(family.a, family.b)

        idle = T - t_x
        waiting = sum(
            rate_part(idle, j) * mpmath.power(idle, j) / mpmath.factorial(j)
            if idle or not j
            else mpmath.mpf(0)
            for j in range(k)
        )
        gone = chance(lambda p: p * stayed(p)) * rate_part(0.0, 0) * gap_free
        alive = chance(lambda p: (1 - p) * stayed(p)) * waiting
        found = float(family.log_likelihood(x, t_x, T))
        assert found == pytest.approx(float(mpmath.log(gone + alive)), rel=1e-6)
        active = float(family.probability_active(x, t_x, T))
        assert active == pytest.approx(float(alive / (gone + alive)), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"k = {family.k}")
def test_no_purchase_is_a_ratio_of_likelihoods(family: MBGCNBD) -> None:
    """Oracle: L(x, t_x, T + t) / L(x, t_x, T)."""
    x, t_x, T = grid()
    for weeks in (0.0, 2.0, 13.0, 52.0):
        silent = predict(family, x, t_x, T, weeks)[1]
        ratio = np.exp(family.log_likelihood(x, t_x, T + weeks) - family.log_likelihood(x, t_x, T))
        np.testing.assert_allclose(silent, ratio, rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"k = {family.k}")
def test_expected_purchases_are_the_chances_of_each_purchase_added_up(family: MBGCNBD) -> None:
    """Oracle: for each stage passed, and each purchase to come, a negative binomial tail (an incomplete beta)."""
    k, weeks = family.k, 26.0
    for x, t_x, T in (
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 10.0),
        (3.0, 12.0, 14.0),
        (20.0, 60.0, 63.0),
        (20.0, 60.0, 90.0),
    ):
        active, _, expected = (float(part) for part in predict(family, x, t_x, T, weeks))
        rho, w = family.r + k * x, (T - t_x) / (family.alpha + T)
        weights = [1.0]
        for j in range(1, k):
            weights.append(weights[-1] * (rho + j - 1) / j * w)
        total = 0.0
        for j, weight in enumerate(weights):
            stays = 1.0
            for number in range(1, 2_000):
                tail = float(betainc(number * k - j, rho + j, weeks / (family.alpha + T + weeks)))
                total += weight / sum(weights) * stays * tail
                stays *= (family.b + x + number) / (family.a + family.b + x + number)
                if tail < 1e-18:
                    break
        assert expected == pytest.approx(active * total, rel=1e-9)


def test_with_one_stage_it_is_bg_nbd_with_one_more_chance_to_leave() -> None:
    """Oracle: BG/NBD's mean over the chance of dropping out, after one purchase more (b + 1); exact for x = 0 too."""
    family, x, T = FAMILIES[0], np.array([0.0, 1.0, 7.0]), np.array([3.0, 20.0, 30.0])
    other = BGNBD(family.r, family.alpha, family.a, family.b + 1.0)
    active, _, expected = predict(family, x, x, T, 39.0)
    np.testing.assert_allclose(
        expected / active,
        other._expected_while_active(family.r + x, other.b + x, 39.0 / (family.alpha + T)),
        rtol=1e-8,
    )


def test_simulated_customers_buy_as_often_as_expected() -> None:
    """Oracle: 40,000 customers drawn from the model; those of each number of purchases, within four standard errors."""
    random, weeks = np.random.default_rng(7), 13.0
    count, until = 40_000, 30.0
    rate = random.gamma(REGULAR.r, 1.0 / REGULAR.alpha, count)
    chance = random.beta(REGULAR.a, REGULAR.b, count)
    x, t_x, later, now = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count)
    active = random.random(count) >= chance
    while active.any():
        now = now + random.gamma(REGULAR.k, 1.0 / rate)
        bought = active & (now <= until)
        x, t_x = x + bought, np.where(bought, now, t_x)
        later += active & (now > until) & (now <= until + weeks)
        active &= (now <= until + weeks) & (random.random(count) >= chance)
    expected = REGULAR.expected_purchases(weeks, x, t_x, until)
    for number in range(8):
        these = x == number
        error = later[these].std() / np.sqrt(these.sum())
        assert abs(expected[these].mean() - later[these].mean()) < 4 * error


def test_a_one_time_buyer_may_be_gone_and_a_regular_one_is_missed_sooner() -> None:
    """Unlike BG/NBD's probability of 1; and silence says more of somebody who used to be regular."""
    assert float(REGULAR.probability_active(0, 0.0, 40.0)) < 0.9
    irregular = replace(REGULAR, k=1, alpha=REGULAR.alpha / REGULAR.k)
    assert REGULAR.probability_active(6, 26.0, 46.0) < irregular.probability_active(6, 26.0, 46.0)


def test_a_rows_bits_do_not_depend_on_the_rows_beside_it() -> None:
    """Oracle: each customer alone; and the window in one pass gives what it gives by itself."""
    x, t_x, T = (np.concatenate([column] * 40) for column in grid())
    together = predict_with_window(REGULAR, x, t_x, T, 52.0, 8.0)
    for row in range(0, len(x), 61):
        alone = predict_with_window(REGULAR, x[row], t_x[row], T[row], 52.0, 8.0)
        assert [float(part) for part in alone] == [float(part[row]) for part in together]
    np.testing.assert_array_equal(together[3], REGULAR.probability_of_no_purchase(8.0, x, t_x, T))
    after = REGULAR.expected_after_purchase(52.0, x, T)
    np.testing.assert_array_equal(after, REGULAR.expected_purchases(52.0, x, T, T))


def test_a_profile_is_scored_by_the_family_of_its_model() -> None:
    """Oracle: `predict` on the customer's purchase days, times in weeks, rounded to six decimals."""
    stream = LocalStream(model(lifetime_value={"purchases": {"family": "mbg_cnbd_k", **asdict(REGULAR)}}))
    stream.take(order("2025-01-01"), order("2025-01-15"), order("2025-02-05"))
    stream.pass_midnight("2025-03-12")
    traits = stream.profile()["traits"]
    active, silent, expected = predict(REGULAR, 2.0, 5.0, 10.0, 365 / 7)
    assert traits["probability_active"] == round(float(active), 6)
    assert traits["churn_risk"] == round(float(silent), 6)
    assert traits["expected_orders_365d"] == round(float(expected), 6)


@pytest.mark.parametrize("changed", [{"k": 0}, {"k": 101}, {"k": 1.5}, {"r": 0.0}, {"b": float("nan")}])
def test_a_model_file_with_impossible_parameters_is_refused_by_name(changed: dict[str, Any]) -> None:
    """Under `lifetime_value.purchases`, with the key."""
    parameters = {"family": "mbg_cnbd_k", **asdict(REGULAR), **changed}
    with pytest.raises(ValidationError, match=rf"lifetime_value\.purchases(.|\n)*{next(iter(changed))}"):
        model(lifetime_value={"purchases": parameters})
