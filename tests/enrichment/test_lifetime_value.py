"""Lifetime value against the figures published for CDNOW, and against the equations in many digits."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from enrichment.lifetime.lifetime_value import (
    BGNBD,
    Floats,
    GammaGamma,
    ParetoNBD,
    PurchaseModel,
    predict,
    predict_with_window,
)

CDNOW = Path(__file__).parents[1] / "data" / "cdnow"
HOLDOUT_WEEKS = 39.0

# Fader, Hardie, Lee 2005 (weeks); Fader, Hardie 2013 (dollars): rounded as printed.
PUBLISHED_PARETO = ParetoNBD(r=0.553, alpha=10.578, s=0.606, beta=11.669)
PUBLISHED_BG = BGNBD(r=0.243, alpha=4.414, a=0.793, b=2.426)
PUBLISHED_SPEND = GammaGamma(p=6.25, q=3.74, gamma=15.44)
PUBLISHED = pytest.mark.parametrize("model", [PUBLISHED_PARETO, PUBLISHED_BG], ids=["pareto", "bg"])

HISTORIES_DAYS = [
    (0, 0, 0),
    (0, 0, 1),
    (0, 0, 400),
    (0, 0, 10950),
    (1, 1, 10950),
    (1, 10950, 10950),
    (3, 20, 1000),
    (30, 300, 365),
    (30, 365, 365),
    (300, 5000, 5100),
    (5000, 10900, 10950),
    (5000, 10950, 10950),
    (10000, 9000, 10950),
]
"""(x, t_x, T): newcomers, one-time buyers, the lapsed, the loyal for thirty years."""

Prediction = tuple[mp.mpf, mp.mpf, mp.mpf, mp.mpf]
"""(probability active, probability of no purchase, expected purchases, log-likelihood)."""


class Cdnow(NamedTuple):
    x: Floats
    t_x: Floats
    T: Floats
    mean_spend: Floats
    holdout: Floats


@pytest.fixture(scope="module")
def cdnow() -> Cdnow:
    """The summary in weeks, with each customer's purchase days in the 39 weeks after it."""
    ids, x, t_x, T, mean_spend = np.loadtxt(
        CDNOW / "customers_summary_weeks.csv", delimiter=",", skiprows=1
    ).T
    days: dict[int, set[dt.date]] = {int(customer): set() for customer in ids}
    for line in (CDNOW / "CDNOW_sample.txt").read_text().splitlines():
        _, customer_id, day, _, _ = line.split()
        days[int(customer_id)].add(dt.datetime.strptime(day, "%Y%m%d").date())
    holdout = [sum(day > dt.date(1997, 9, 30) for day in days[int(customer)]) for customer in ids]
    return Cdnow(x, t_x, T, mean_spend, np.array(holdout, float))


def area_under_curve(score: Floats, positive: Any) -> float:
    """Probability that a positive outranks a negative (Mann-Whitney; ties count half)."""
    ranks, count = rankdata(score), positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


def everything(model: PurchaseModel, x: float, t_x: float, T: float, t: float) -> list[float]:
    predicted = predict(model, x, t_x, T, t)
    return [*(float(value) for value in predicted), float(model.log_likelihood(x, t_x, T))]


def worst_error(model: PurchaseModel, oracle: Any, digits: int) -> float:
    """Largest relative error over the histories, at two horizons (of log-likelihoods below 1, absolute)."""
    errors = []
    for history, t in itertools.product(HISTORIES_DAYS, (1.0, 365.0)):
        with mp.workdps(digits):
            expected = oracle(model, *(mp.mpf(value) for value in (*history, t)))
            floors = 1e-290, 1e-290, 1e-290, 1.0
            for got, exact, floor in zip(everything(model, *history, t), expected, floors, strict=True):
                assert np.isfinite(got), (model, history, t)
                errors.append(float(abs(got - exact) / max(abs(exact), floor)))
    return max(errors)


# The oracles: published equations, in as many digits as their cancellations need.


def pareto_in_digits(model: ParetoNBD, x: mp.mpf, t_x: mp.mpf, T: mp.mpf, t: mp.mpf) -> Prediction:
    """Fader and Hardie 2005, equations 18 to 20 (likelihood) and 41 (expectation)."""
    r, alpha, s, beta = (mp.mpf(value) for value in (model.r, model.alpha, model.s, model.beta))
    total, larger = r + s + x, max(alpha, beta)
    second = s + 1 if alpha >= beta else r + x

    def hypergeometric(time: mp.mpf) -> mp.mpf:
        z = abs(alpha - beta) / (larger + time)
        return mp.hyp2f1(total, second, total + 1, z) / (larger + time) ** total

    def terms(until: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
        active = (alpha + until) ** -(r + x) * (beta + until) ** -s
        return active, s / total * (hypergeometric(t_x) - hypergeometric(until))

    return pareto_from(model, x, T, t, terms(T), terms(T + t), mp.mpf(0))


def pareto_by_integration(model: ParetoNBD, x: mp.mpf, t_x: mp.mpf, T: mp.mpf, t: mp.mpf) -> Prediction:
    """Schmittlein, Morrison, Colombo 1987: the same likelihood before its integral has a name.

    For parameters where mpmath's hypergeometric function takes minutes. Everything is in units of the first
    term at T, since mpmath's quadrature stops at an absolute error.
    """
    r, alpha, s, beta = (mp.mpf(value) for value in (model.r, model.alpha, model.s, model.beta))
    small = min(alpha, beta)

    def active(u: mp.mpf) -> mp.mpf:
        return ((alpha + T) / (alpha + u)) ** (r + x) * ((beta + T) / (beta + u)) ** s

    def dropped_out(start: mp.mpf, end: mp.mpf) -> mp.mpf:
        def integrand(w: mp.mpf) -> mp.mpf:
            u = (small + start) * mp.exp(w) - small
            return s * active(u) * (small + u) / (beta + u)

        width = mp.log((small + end) / (small + start))
        pieces = [width / 2**k * third / 3 for k in range(24, 0, -1) for third in (3, 4, 5)] + [width]
        return mp.quad(integrand, [0, *pieces], method="gauss-legendre", maxdegree=4) if width else mp.mpf(0)

    by_T, unit = dropped_out(t_x, T), -(r + x) * mp.log(alpha + T) - s * mp.log(beta + T)
    later = active(T + t), by_T + dropped_out(T, T + t)
    return pareto_from(model, x, T, t, (mp.mpf(1), by_T), later, unit)


def pareto_from(
    model: ParetoNBD,
    x: mp.mpf,
    T: mp.mpf,
    t: mp.mpf,
    at_T: tuple[mp.mpf, mp.mpf],
    later: tuple[mp.mpf, mp.mpf],
    log_unit: mp.mpf,
) -> Prediction:
    """From the likelihood's two terms at ``T`` and at ``T + t``, in a unit of the given logarithm."""
    r, alpha, s, beta = (mp.mpf(value) for value in (model.r, model.alpha, model.s, model.beta))
    active = at_T[0] / sum(at_T)
    grown = (beta + T + t) / (beta + T)
    lived = mp.log(grown) if s == 1 else (1 - grown ** (1 - s)) / (s - 1)
    log_likelihood = (
        mp.loggamma(r + x)
        - mp.loggamma(r)
        + r * mp.log(alpha)
        + s * mp.log(beta)
        + log_unit
        + mp.log(sum(at_T))
    )
    return active, sum(later) / sum(at_T), active * (r + x) * (beta + T) / (alpha + T) * lived, log_likelihood


def bg_in_digits(model: BGNBD, x: mp.mpf, t_x: mp.mpf, T: mp.mpf, t: mp.mpf) -> Prediction:
    """Fader, Hardie, Lee 2005, equations 6 (likelihood) and 10 (expectation; near a = 1 its limit).

    The hypergeometric function is Euler-transformed, without which mpmath takes minutes for large x.
    """
    r, alpha, a, b = (mp.mpf(value) for value in (model.r, model.alpha, model.a, model.b))

    def terms(until: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
        dropped_out = a / (b + x - 1) * (alpha + t_x) ** -(r + x) if x > 0 else mp.mpf(0)
        return (alpha + until) ** -(r + x), dropped_out

    active, silent = terms(T)[0] / sum(terms(T)), sum(terms(T + t)) / sum(terms(T))
    log_likelihood = mp.loggamma(r + x) - mp.loggamma(r) + r * mp.log(alpha) + mp.log(sum(terms(T)))
    log_likelihood += mp.log(mp.beta(a, b + x) / mp.beta(a, b))
    if a == 1:
        a += mp.mpf(10) ** -20
    c, z = a + b + x - 1, t / (alpha + T + t)
    hypergeometric = mp.hyp2f1(a - 1, c - r - x, c, z) * (1 - z) ** (a - 1)
    expected = active * c / (a - 1) * (1 - hypergeometric)
    return active, silent, expected, log_likelihood


# Published figures.

PUBLISHED_CUSTOMERS = [
    # x, t_x, T, BG/NBD active, BG/NBD purchases, Pareto/NBD active, Pareto/NBD purchases
    (2, 30.43, 38.86, 0.72658, 1.22603, 0.86917, 1.45512),
    (1, 1.71, 38.86, 0.21210, 0.20319, 0.16800, 0.17109),
    (0, 0, 38.86, 1.0, 0.19510, 0.29529, 0.10708),
    (7, 29.43, 38.86, 0.64176, 3.33705, 0.74950, 3.71225),
    (29, 37.71, 38.00, 0.96913, 20.05295, 0.99613, 19.59577),
    (26, 30.86, 31.00, 0.96892, 20.74973, 0.99792, 20.11703),
]
"""CDNOW customers 1, 2, 3, 6, 157 and 1516, in weeks, at the published rounded parameters."""


@pytest.mark.parametrize(
    ("model", "column"), [(PUBLISHED_BG, 3), (PUBLISHED_PARETO, 5)], ids=["bg", "pareto"]
)
def test_cdnow_customers_get_the_published_predictions(model: PurchaseModel, column: int) -> None:
    """Six CDNOW customers: the published probability of being active and purchases in 39 weeks."""
    table = np.array(PUBLISHED_CUSTOMERS)
    x, t_x, T = table[:, :3].T
    active, _, purchases = predict(model, x, t_x, T, HOLDOUT_WEEKS)
    np.testing.assert_allclose(active, table[:, column], atol=1e-5)
    np.testing.assert_allclose(purchases, table[:, column + 1], atol=1e-5)


def test_bg_nbd_purchases_equal_hardies_spreadsheet() -> None:
    """Customer 1 of CDNOW is expected to buy 1.226 times in 39 weeks (Hardie's BG/NBD spreadsheet)."""
    assert float(PUBLISHED_BG.expected_purchases(39, 2, 30.43, 38.86)) == pytest.approx(1.226, abs=5e-4)


def test_log_likelihoods_equal_the_published_ones(cdnow: Cdnow) -> None:
    """Fader, Hardie, Lee 2005 print -9594.976 and -9582.429; note 025 prints -4055.918 for spend.

    The difference left is that of the printed, rounded parameters.
    """
    history = cdnow.x, cdnow.t_x, cdnow.T
    assert PUBLISHED_PARETO.log_likelihood(*history).sum() == pytest.approx(-9594.976, abs=0.05)
    assert PUBLISHED_BG.log_likelihood(*history).sum() == pytest.approx(-9582.429, abs=0.05)
    spend = PUBLISHED_SPEND.log_likelihood(cdnow.x, cdnow.mean_spend)
    assert spend.sum() == pytest.approx(-4055.918, abs=0.05)


def test_holdout_correlations_equal_the_published_ones(cdnow: Cdnow) -> None:
    """Fader, Hardie, Lee 2005, table 3: actual and expected purchases correlate .630 and .626."""
    for model, published in ((PUBLISHED_PARETO, 0.630), (PUBLISHED_BG, 0.626)):
        expected = model.expected_purchases(HOLDOUT_WEEKS, cdnow.x, cdnow.t_x, cdnow.T)
        assert np.corrcoef(expected, cdnow.holdout)[0, 1] == pytest.approx(published, abs=5e-4)


def test_ranking_of_holdout_buyers_equals_the_reference_figures(cdnow: Cdnow) -> None:
    """BG/NBD's probability of being active ranks CDNOW backwards; Pareto/NBD's likelihood ratio does well.

    Areas under the curve, for a purchase in the 39 weeks held out; the reference is the project's design
    (section 5): .726 and .771 for Pareto/NBD, .771 for plain recency, .316 for BG/NBD.
    """
    buys = cdnow.holdout > 0
    history = cdnow.x, cdnow.t_x, cdnow.T
    active, silent, _ = predict(PUBLISHED_PARETO, *history, HOLDOUT_WEEKS)
    assert area_under_curve(active, buys) == pytest.approx(0.726, abs=5e-4)
    assert area_under_curve(-silent, buys) == pytest.approx(0.771, abs=5e-4)
    assert area_under_curve(cdnow.t_x - cdnow.T, buys) == pytest.approx(0.771, abs=5e-4)
    assert area_under_curve(PUBLISHED_BG.probability_active(*history), buys) == pytest.approx(0.316, abs=5e-4)


def test_expected_spend_equals_hardies_spreadsheet(cdnow: Cdnow) -> None:
    """The first ten CDNOW customers: Hardie's spreadsheet for note 025, at the rounded parameters."""
    hardie = [24.65, 18.91, 35.17, 35.17, 35.17, 71.46, 18.91, 35.17, 27.28, 35.17]
    got = PUBLISHED_SPEND.expected_spend(cdnow.x[:10], cdnow.mean_spend[:10])
    np.testing.assert_allclose(got, hardie, atol=0.05)


# The equations in many digits.

PARETO_DAYS = [
    PUBLISHED_PARETO,
    ParetoNBD(r=0.553, alpha=74.046, s=0.606, beta=81.683),
    ParetoNBD(r=0.553, alpha=81.683, s=0.606, beta=74.046),
    ParetoNBD(r=0.5, alpha=10, s=0.5, beta=10),
    ParetoNBD(r=2.25, alpha=50, s=1, beta=50),
]
RAN_AWAY_PARETO = [
    ParetoNBD(r=0.05, alpha=1, s=0.05, beta=1e4),
    ParetoNBD(r=10, alpha=3000, s=10, beta=100),
    ParetoNBD(r=1000, alpha=5e4, s=1000, beta=1e6),
    ParetoNBD(r=1e6, alpha=1e8, s=0.5, beta=10),
    ParetoNBD(r=0.5, alpha=1, s=1e6, beta=1e9),
    ParetoNBD(r=0.1, alpha=0.01, s=0.1, beta=0.01),
    ParetoNBD(r=1, alpha=0.001, s=5, beta=1),
]
BG_DAYS = [
    PUBLISHED_BG,
    BGNBD(r=0.243, alpha=30.898, a=0.793, b=2.426),
    BGNBD(r=0.243, alpha=30.898, a=1, b=2.426),
    BGNBD(r=0.243, alpha=30.898, a=1.0000001, b=2.426),
    BGNBD(r=1.5, alpha=40, a=2.3, b=5),
    BGNBD(r=1, alpha=10, a=1, b=1),
    BGNBD(r=0.05, alpha=1, a=0.01, b=0.01),
    BGNBD(r=0.5, alpha=4, a=3, b=0.5),
    BGNBD(r=1, alpha=0.5, a=108, b=1),
]
RAN_AWAY_BG = [
    BGNBD(r=10, alpha=1e4, a=1000, b=1000),
    BGNBD(r=1000, alpha=1e5, a=0.1, b=1e4),
    BGNBD(r=1, alpha=1, a=2000, b=10),
]


@pytest.mark.parametrize("model", PARETO_DAYS, ids=str)
def test_pareto_nbd_equals_the_published_equations_in_many_digits(model: ParetoNBD) -> None:
    """To 1e-9, for 0 to 10,000 purchases in up to thirty years of days (mpmath, Fader and Hardie 2005)."""
    assert worst_error(model, pareto_in_digits, digits=150) < 1e-9


@pytest.mark.parametrize("model", RAN_AWAY_PARETO, ids=str)
def test_pareto_nbd_is_exact_for_parameters_that_ran_away(model: ParetoNBD) -> None:
    """To 1e-9, against mpmath's integral of the likelihood."""
    assert worst_error(model, pareto_by_integration, digits=30) < 1e-9


@pytest.mark.parametrize("model", BG_DAYS, ids=str)
def test_bg_nbd_equals_the_published_equations_in_many_digits(model: BGNBD) -> None:
    """To 1e-9, also at a = 1, where the published form is 0 / 0 (mpmath, Fader, Hardie, Lee 2005)."""
    assert worst_error(model, bg_in_digits, digits=60) < 1e-9


@pytest.mark.parametrize("model", RAN_AWAY_BG, ids=str)
def test_bg_nbd_is_exact_for_parameters_that_ran_away(model: BGNBD) -> None:
    """To 1e-9 (mpmath, Fader, Hardie, Lee 2005)."""
    assert worst_error(model, bg_in_digits, digits=60) < 1e-9


def test_gamma_gamma_likelihood_is_a_density() -> None:
    """Over all mean spends, the likelihood of three purchases integrates to 1 (mpmath's quadrature)."""

    def density(mean_spend: mp.mpf) -> mp.mpf:
        return mp.exp(float(PUBLISHED_SPEND.log_likelihood(3, float(mean_spend))))

    assert float(mp.quad(density, [1e-6, 5, 20, 50, 200, 1e3, 1e4, 1e5])) == pytest.approx(1, abs=1e-6)


# Properties.


@st.composite
def histories(draw: st.DrawFn) -> tuple[float, float, float]:
    """(x, t_x, T) in days, to thirty years."""
    x = draw(st.integers(0, 5000))
    T = draw(st.floats(0, 10950))
    return float(x), draw(st.floats(0, T)) if x else 0.0, T


SHAPES = st.floats(0.05, 1000)
TIMES = st.floats(0.5, 1e5)
MODELS = st.one_of(
    st.builds(ParetoNBD, r=SHAPES, alpha=TIMES, s=SHAPES, beta=TIMES),
    st.builds(BGNBD, r=SHAPES, alpha=TIMES, a=SHAPES, b=SHAPES),
)
HORIZONS = st.floats(0, 10950)


@given(MODELS, histories(), HORIZONS, HORIZONS)
def test_predictions_stay_in_their_ranges_and_follow_the_horizon(
    model: PurchaseModel, history: tuple[float, float, float], first: float, second: float
) -> None:
    """A longer horizon never makes silence likelier nor purchases fewer; no purchase stays a probability."""
    active, silent, purchases = predict(model, *history, np.sort([first, second]))
    assert np.all((active >= 0) & (active <= 1) & (silent >= 0) & (silent <= 1) & np.isfinite(purchases))
    assert silent[1] <= silent[0] * (1 + 1e-9)
    assert purchases[1] >= purchases[0] * (1 - 1e-9)
    assert np.all(silent >= 1 - active - 1e-12), "who dropped out buys nothing"


@given(MODELS, histories(), HORIZONS)
def test_silence_never_makes_a_customer_likelier_to_be_active(
    model: PurchaseModel, history: tuple[float, float, float], longer: float
) -> None:
    """The probability of being active falls in T."""
    x, t_x, T = history
    before, after = model.probability_active(x, t_x, np.array([T, T + longer]))
    assert after <= before * (1 + 1e-9)


@given(MODELS, histories(), HORIZONS)
def test_no_purchase_is_the_ratio_of_two_likelihoods(
    model: PurchaseModel, history: tuple[float, float, float], t: float
) -> None:
    """``L(x, t_x, T + t) / L(x, t_x, T)``, the contract's churn_risk, by the model's own log-likelihoods."""
    x, t_x, T = history
    now, later = model.log_likelihood(x, t_x, np.array([T, T + t]))
    silent = float(model.probability_of_no_purchase(t, x, t_x, T))
    scale = max(1.0, abs(now), abs(later))
    assert silent == pytest.approx(np.exp(later - now), rel=1e-8 + 1e-13 * scale, abs=1e-300)


@given(MODELS, histories())
def test_nothing_is_bought_in_no_time(model: PurchaseModel, history: tuple[float, float, float]) -> None:
    """At horizon 0 no purchase is certain and none is expected."""
    _, silent, purchases = predict(model, *history, 0)
    assert silent == pytest.approx(1, abs=1e-12)
    assert purchases == pytest.approx(0, abs=1e-9)


@PUBLISHED
def test_a_row_has_the_same_bits_alone_and_in_any_batch(model: PurchaseModel, cdnow: Cdnow) -> None:
    """Predictions do not depend on how customers fall into batches (the oracle is one row at a time)."""
    x, t_x, T = cdnow.x, cdnow.t_x, cdnow.T
    together = np.stack(predict(model, x, t_x, T, HOLDOUT_WEEKS))
    alone = [np.stack(predict(model, x[i], t_x[i], T[i], HOLDOUT_WEEKS)) for i in range(600)]
    np.testing.assert_array_equal(np.stack(alone, axis=1), together[:, :600])
    for rows in (slice(1, 8), slice(3, 700), slice(511, 1026), slice(1, None)):
        batch = np.stack(predict(model, x[rows], t_x[rows], T[rows], HOLDOUT_WEEKS))
        np.testing.assert_array_equal(batch, together[:, rows])


@PUBLISHED
def test_methods_and_predict_give_the_same_numbers(model: PurchaseModel, cdnow: Cdnow) -> None:
    """``predict`` shares work between the three methods and changes no bit of them."""
    history = cdnow.x, cdnow.t_x, cdnow.T
    active, silent, purchases = predict(model, *history, HOLDOUT_WEEKS)
    np.testing.assert_array_equal(active, model.probability_active(*history))
    np.testing.assert_array_equal(silent, model.probability_of_no_purchase(HOLDOUT_WEEKS, *history))
    np.testing.assert_array_equal(purchases, model.expected_purchases(HOLDOUT_WEEKS, *history))
    with_window = predict_with_window(model, *history, HOLDOUT_WEEKS, 13)
    for found, expected in zip(with_window[:3], (active, silent, purchases), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(with_window[3], model.probability_of_no_purchase(13, *history))


@PUBLISHED
def test_arguments_broadcast(model: PurchaseModel) -> None:
    """Scalars and arrays mix as in numpy; no rows give no rows."""
    silent = model.probability_of_no_purchase(np.array([[13.0], [39.0]]), [2, 1, 0], [30.43, 1.71, 0], 38.86)
    assert silent.shape == (2, 3)
    assert silent[1, 0] == model.probability_of_no_purchase(39, 2, 30.43, 38.86)
    assert model.log_likelihood(2, 30.43, 38.86).shape == ()
    assert [part.shape for part in predict(model, [], [], [], 39)] == [(0,)] * 3


@PUBLISHED
@pytest.mark.parametrize(
    ("history", "names"),
    [((-1, 0, 1), "x"), ((1, 5, 4), "t_x"), ((1, np.nan, 4), "t_x"), ((1, 1, np.inf), "T")],
)
def test_impossible_histories_are_refused(
    model: PurchaseModel, history: tuple[float, float, float], names: str
) -> None:
    """A negative, infinite or missing number, or a purchase after the observation, is named and refused."""
    with pytest.raises(ValueError, match=rf"^{names}\b"):
        predict(model, *history, 39)


def test_a_parameter_that_is_not_positive_is_refused() -> None:
    """Each parameter must be finite and above 0; the error names it."""
    with pytest.raises(ValueError, match="ParetoNBD: beta must be finite and above 0, not 0"):
        ParetoNBD(r=1, alpha=1, s=1, beta=0)
    with pytest.raises(ValueError, match="GammaGamma: gamma must be finite"):
        GammaGamma(p=1, q=2, gamma=float("nan"))


def test_spend_of_a_customer_without_history_is_the_populations() -> None:
    """At x = 0 the expected spend is p gamma / (q - 1), whatever stands in for the mean (note 025)."""
    assert PUBLISHED_SPEND.population_mean == pytest.approx(6.25 * 15.44 / 2.74)
    spend = PUBLISHED_SPEND.expected_spend([0, 0, 3], [np.nan, 12.0, 20.0])
    np.testing.assert_allclose(spend[:2], PUBLISHED_SPEND.population_mean, rtol=1e-15)
    assert PUBLISHED_SPEND.log_likelihood([0], [np.nan]).tolist() == [0.0]


def test_spend_that_has_no_mean_is_refused() -> None:
    """With q at or below 1 the population's mean spend is infinite, and a free purchase has no likelihood."""
    heavy = GammaGamma(p=1, q=1, gamma=10)
    assert heavy.population_mean == np.inf
    with pytest.raises(ValueError, match="q is above 1"):
        heavy.expected_spend(1, 10)
    with pytest.raises(ValueError, match="mean_spend must be above 0"):
        heavy.log_likelihood(1, 0)
