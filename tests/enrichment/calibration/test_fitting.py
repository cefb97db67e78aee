"""Fits against the figures published for CDNOW, and on histories that no model can describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from enrichment.calibration.fitting import (
    BOUND,
    PARAMETER_LIMIT,
    Fit,
    fit_bg_nbd,
    fit_gamma_gamma,
    fit_mbg_cnbd_k,
    fit_pareto_nbd,
)
from enrichment.calibration.snapshot import Histories
from enrichment.lifetime.lifetime_value import BGNBD, GammaGamma, ParetoNBD
from enrichment.lifetime.mbg_cnbd import MBGCNBD

CDNOW = Path(__file__).parents[2] / "data" / "cdnow" / "customers_summary_weeks.csv"
PURCHASE_FITS = pytest.mark.parametrize("fit", [fit_pareto_nbd, fit_bg_nbd])


def histories(
    x: ArrayLike, t_x: ArrayLike, T: ArrayLike, mean_spend: ArrayLike = np.nan, unit_days: float = 7.0
) -> Histories:
    """Histories whose purchase days after the first all brought something, where `mean_spend` is given."""
    columns = np.broadcast_arrays(*(np.asarray(column, np.float64) for column in (x, t_x, T, mean_spend)))
    repeats, last, observed, spend = (np.array(column) for column in columns)
    spend_days = np.where(np.isnan(spend), 0.0, repeats)
    places, recent = np.arange(len(repeats)), np.zeros((len(repeats), 3))
    return Histories(unit_days, places, repeats, last, observed, spend_days, spend, recent)


@pytest.fixture(scope="module")
def cdnow() -> Histories:
    """CDNOW in weeks, up to 1997-09-30."""
    _, x, t_x, T, mean_spend = np.loadtxt(CDNOW, delimiter=",", skiprows=1, unpack=True)
    return histories(x, t_x, T, np.where(x > 0, mean_spend, np.nan))


def steady_buyers() -> Histories:
    """600 customers who never stop: purchases at the rates 0.3 to 1.5 a week, as regular counts over a year."""
    rates = np.linspace(0.3, 1.5, 600)
    x = np.round(rates * 52.0)
    return histories(x, 52.0 - (np.arange(600) % 7) / 7.0, 52.0)


def test_pareto_nbd_finds_the_parameters_published_for_cdnow(cdnow: Histories) -> None:
    """Oracle: Fader, Hardie and Lee 2005, table 2."""
    fit = fit_pareto_nbd(cdnow)
    assert isinstance(fit.parameters, ParetoNBD)
    assert fit.parameters.r == pytest.approx(0.553, abs=0.002)
    assert fit.parameters.alpha == pytest.approx(10.578, abs=0.02)
    assert fit.parameters.s == pytest.approx(0.606, abs=0.002)
    assert fit.parameters.beta == pytest.approx(11.669, abs=0.02)
    assert fit.log_likelihood == pytest.approx(-9594.976, abs=0.01)
    assert (fit.status, fit.reason, fit.customers) == ("converged", None, 2357)


def test_bg_nbd_finds_the_parameters_published_for_cdnow(cdnow: Histories) -> None:
    """Oracle: Fader, Hardie and Lee 2005, table 2."""
    fit = fit_bg_nbd(cdnow)
    assert isinstance(fit.parameters, BGNBD)
    assert fit.parameters.r == pytest.approx(0.243, abs=0.002)
    assert fit.parameters.alpha == pytest.approx(4.414, abs=0.02)
    assert fit.parameters.a == pytest.approx(0.793, abs=0.002)
    assert fit.parameters.b == pytest.approx(2.426, abs=0.002)
    assert fit.log_likelihood == pytest.approx(-9582.429, abs=0.01)
    assert (fit.status, fit.reason, fit.customers) == ("converged", None, 2357)


def test_gamma_gamma_finds_the_parameters_published_for_cdnow(cdnow: Histories) -> None:
    """Oracle: Fader and Hardie 2013 (note 025)."""
    fit = fit_gamma_gamma(cdnow)
    assert isinstance(fit.parameters, GammaGamma)
    assert fit.parameters.p == pytest.approx(6.25, abs=0.005)
    assert fit.parameters.q == pytest.approx(3.74, abs=0.005)
    assert fit.parameters.gamma == pytest.approx(15.44, abs=0.02)
    assert fit.log_likelihood == pytest.approx(-4055.918, abs=0.01)
    assert (fit.status, fit.reason, fit.customers) == ("converged", None, 946)


@PURCHASE_FITS
def test_a_fit_in_days_is_the_fit_in_weeks(fit: Callable[[Histories], Fit], cdnow: Histories) -> None:
    """Times and `alpha`, `beta` grow sevenfold, shapes stay. Oracle: the likelihood's own scaling by its unit."""
    days = replace(cdnow, unit_days=1.0, t_x=cdnow.t_x * 7.0, T=cdnow.T * 7.0)
    weekly, daily = fit(cdnow).parameters, fit(days).parameters
    for name, scale in (("r", 1), ("alpha", 7), ("s", 1), ("beta", 7), ("a", 1), ("b", 1)):
        if hasattr(weekly, name):
            assert getattr(daily, name) == pytest.approx(scale * getattr(weekly, name), rel=1e-5), name


def test_a_fit_in_cents_is_the_fit_in_dollars(cdnow: Histories) -> None:
    """`gamma` grows a hundredfold and is no closer to its limit. Oracle: the likelihood's own scaling."""
    dollars = fit_gamma_gamma(cdnow)
    cents = fit_gamma_gamma(replace(cdnow, mean_spend=cdnow.mean_spend * 100.0))
    assert cents.status == "converged"
    assert isinstance(cents.parameters, GammaGamma)
    assert isinstance(dollars.parameters, GammaGamma)
    assert cents.parameters.gamma > PARAMETER_LIMIT
    assert cents.parameters.gamma == pytest.approx(100 * dollars.parameters.gamma, rel=1e-5)
    assert cents.parameters.p == pytest.approx(dollars.parameters.p, rel=1e-5)


def drawn(true: MBGCNBD, customers: int) -> tuple[Histories, float]:
    """Histories over 60 weeks of customers drawn from a model, and the mean logarithm of their gaps."""
    random = np.random.default_rng(5)
    rate = random.gamma(true.r, 1.0 / true.alpha, customers)
    chance = random.beta(true.a, true.b, customers)
    x, t_x, now = np.zeros(customers), np.zeros(customers), np.zeros(customers)
    active, logs = random.random(customers) >= chance, []
    while active.any():
        gap = random.gamma(true.k, 1.0 / rate)
        now = now + gap
        active &= now <= 60.0
        logs.append(np.log(gap[active]))
        x, t_x = x + active, np.where(active, now, t_x)
        active &= random.random(customers) >= chance
    return histories(x, t_x, 60.0), float(np.concatenate(logs).mean())


@pytest.mark.parametrize(
    "true", [MBGCNBD(1, 0.8, 6.0, 0.6, 3.0), MBGCNBD(4, 3.0, 4.0, 0.5, 5.0)], ids=["MBG/NBD", "four stages"]
)
def test_mbg_cnbd_k_finds_the_model_that_customers_were_drawn_from(true: MBGCNBD) -> None:
    """4,000 customers: the number of stages, and the means of rate and chance within 10%. Oracle: the model itself."""
    fit = fit_mbg_cnbd_k(*drawn(true, 4_000))
    found = fit.parameters
    assert isinstance(found, MBGCNBD)
    assert (fit.status, fit.customers, found.k) == ("converged", 4_000, true.k)
    assert found.r / found.alpha == pytest.approx(true.r / true.alpha, rel=0.1)
    assert found.a / (found.a + found.b) == pytest.approx(true.a / (true.a + true.b), rel=0.1)


@pytest.mark.parametrize("fit", [fit_pareto_nbd, fit_bg_nbd, fit_gamma_gamma])
def test_the_order_of_the_customers_does_not_change_a_bit(
    fit: Callable[[Histories], Fit], cdnow: Histories
) -> None:
    """Oracle: the fit to the same customers in another order."""
    mixed = np.random.default_rng(5).permutation(len(cdnow))
    columns = {name: getattr(cdnow, name)[mixed] for name in ("x", "t_x", "T", "spend_days", "mean_spend")}
    assert fit(replace(cdnow, **columns)) == fit(cdnow)


@PURCHASE_FITS
def test_customers_who_never_stop_make_a_degenerate_fit(fit: Callable[[Histories], Fit]) -> None:
    """The reason names what ran away or how many are active; the parameters are kept, finite and within the bounds."""
    result = fit(steady_buyers())
    assert result.status == "degenerate"
    assert result.reason is not None
    assert (
        "not between 0.001 and 1,000" in result.reason
        or "are active with a probability above 0.999" in result.reason
    )
    assert result.parameters is not None
    assert result.log_likelihood is not None
    assert np.isfinite(list(result.as_report()["parameters"].values())).all()
    assert max(result.as_report()["parameters"].values()) <= BOUND * (1 + 1e-9)


@PURCHASE_FITS
def test_a_fit_by_which_everyone_is_active_is_degenerate(fit: Callable[[Histories], Fit]) -> None:
    """Three of 600 regular buyers have left: no parameter runs away, but nothing is learned about leaving."""
    random = np.random.default_rng(0)
    rate = random.gamma(4.0, 0.5, 600) + 0.2
    x = random.poisson(rate * 52.0) + 1.0
    last = np.round(7 * (52.0 - np.minimum(random.exponential(1 / rate), 10.0) * 0.3)) / 7
    x[:3], last[:3] = np.maximum(np.round(x[:3] / 5.0), 1.0), [10.0, 11.0, 12.0]
    result = fit(histories(x, last, 52.0))
    assert result.status == "degenerate"
    assert result.reason == "99.5% of the customers are active with a probability above 0.999"


@PURCHASE_FITS
@pytest.mark.parametrize(
    ("nobody", "reason"),
    [
        (histories([], [], []), "no customer has a counted order"),
        (histories([0, 0, 0], [0, 0, 0], [3, 9, 20]), "no customer has bought on a second day"),
    ],
    ids=["returns only", "one order each"],
)
def test_without_a_repeat_purchase_a_fit_fails_and_says_so(
    fit: Callable[[Histories], Fit], nobody: Histories, reason: str
) -> None:
    """No parameters are made up."""
    assert fit(nobody) == Fit(None, None, len(nobody), "failed", reason)


@pytest.mark.parametrize(
    ("few", "reason"),
    [
        (histories([0, 0], [0, 0], [3, 9]), "no customer has spent anything after"),
        (histories([1, 1], [2, 3], [3, 9], [5.0, 7.0]), "no customer has spent on two days"),
        (histories([2, 3], [2, 3], [3, 9], 5.0), "all customers spend the same"),
    ],
)
def test_gamma_gamma_fails_where_spend_shows_no_spread(few: Histories, reason: str) -> None:
    """Within customers or between them, and the reason says which."""
    fit = fit_gamma_gamma(few)
    assert (fit.parameters, fit.log_likelihood, fit.status) == (None, None, "failed")
    assert fit.reason is not None
    assert fit.reason.startswith(reason)


def test_spend_without_a_mean_is_degenerate() -> None:
    """Spend over six orders of magnitude: `q` falls to 1 or below, where the population has no mean."""
    spend = 10.0 ** np.linspace(0.0, 6.0, 300)
    fit = fit_gamma_gamma(histories(np.full(300, 4.0), 10.0, 20.0, spend))
    assert fit.status == "degenerate"
    assert fit.reason is not None
    assert fit.reason.startswith("q is ")


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_handful_of_customers_gets_an_answer(count: int) -> None:
    """Whatever the verdict, parameters are finite and a missing one has its reason."""
    few = histories(
        np.arange(count), np.arange(count) * 3.0, np.arange(count) * 3.0 + 2.0, np.arange(count) * 9.0 + 1
    )
    for fit in (fit_pareto_nbd(few), fit_bg_nbd(few), fit_gamma_gamma(few)):
        report = fit.as_report()
        assert report["status"] == "converged" or report["reason"]
        assert report["parameters"] is None or np.isfinite(list(report["parameters"].values())).all()


def test_one_whale_moves_spend_of_the_others_by_little(cdnow: Histories) -> None:
    """One customer of 10,000 times the median among 946. Oracle: the fit without them, within a quarter."""
    whale = int(np.flatnonzero(cdnow.x > 3)[0])
    spend = cdnow.mean_spend.copy()
    spend[whale] = 10_000 * np.nanmedian(spend)
    fit, without = fit_gamma_gamma(replace(cdnow, mean_spend=spend)), fit_gamma_gamma(cdnow)
    assert fit.status == "converged"
    assert isinstance(fit.parameters, GammaGamma)
    assert isinstance(without.parameters, GammaGamma)
    assert fit.parameters.population_mean == pytest.approx(without.parameters.population_mean, rel=0.25)
