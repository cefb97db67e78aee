"""Maximum likelihood for Pareto/NBD, BG/NBD, MBG/CNBD-k and Gamma-Gamma, with a verdict on what was found.

Parameters are searched as logarithms, within bounds, from several fixed starts: on a part of the histories where there
are very many, then on all of them from the best. Equal histories are computed once and weighted, and sorted first, so
the same histories give the same fit in whatever order they come. The likelihoods are those of
`enrichment.lifetime`, which names their sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from enrichment.calibration.snapshot import Histories
from enrichment.lifetime.lifetime_value import BGNBD, GammaGamma, ParetoNBD, PurchaseModel
from enrichment.lifetime.mbg_cnbd import MBGCNBD

Floats = npt.NDArray[np.float64]
Parameters = ParetoNBD | BGNBD | MBGCNBD | GammaGamma

PARAMETER_LIMIT = 1_000.0
"""Above this, or below its inverse, a parameter has run away. Times (`alpha`, `beta`) are held against so many weeks,
money (`gamma`) against so many medians of customers' mean spend: no unit and no currency changes a verdict."""

STAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 50, 72, 100)
"""Numbers of stages of MBG/CNBD-k that are tried, in this order."""

BOUND = 10_000.0
"""Where the search ends, in the same terms: `lifetime_value` is exact up to here, and beyond it little changes."""

ACTIVE_PROBABILITY, ACTIVE_SHARE = 0.999, 0.99
"""A fit that takes so large a share of the customers to be so surely active has found no dropping out."""

SEARCH_ROWS = 2_000
"""Starts are compared on at most so many different histories."""

MOST_CLIMBS = 5
"""A search that stops before an optimum goes on from there so many times."""

STEEPEST = 1e-4
"""At an optimum the log-likelihood per customer changes by less than this times a parameter's relative change."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of a fit to so many `customers`; `parameters` and `log_likelihood` are None where it `failed`.

    `degenerate`: the best parameters describe no population of customers (see the limits above). Their predictions may
    still be good; only a holdout can say so. `reason` is given wherever the status is not `converged`.
    """

    parameters: Parameters | None
    log_likelihood: float | None
    customers: int
    status: Literal["converged", "degenerate", "failed"]
    reason: str | None = None

    def as_report(self) -> dict[str, Any]:
        """The keys of docs/contract.md, section 7."""
        return {**asdict(self), "parameters": None if self.parameters is None else asdict(self.parameters)}


@dataclass(frozen=True, slots=True)
class _Search:
    """A family's parameters in the order of its constructor: their units, and where to start in those units."""

    family: Callable[..., Parameters]
    names: tuple[str, ...]
    units: tuple[float, ...]
    unit_names: tuple[str, ...]
    starts: tuple[tuple[float, ...], ...]

    def parameters(self, logarithms: Floats) -> Parameters:
        sizes = np.clip(np.exp(logarithms), 1 / BOUND, BOUND)
        return self.family(*(float(value) for value in sizes * self.units))


def fit_pareto_nbd(histories: Histories) -> Fit:
    """Fit `ParetoNBD`; `alpha` and `beta` come in the unit of the histories' times."""
    week = 7.0 / histories.unit_days
    search = _Search(
        ParetoNBD,
        ("r", "alpha", "s", "beta"),
        (1.0, week, 1.0, week),
        ("", " weeks", "", " weeks"),
        ((0.5, 10.0, 0.5, 10.0), (1.5, 10.0, 0.2, 30.0), (0.3, 2.0, 2.0, 40.0), (1.0, 1.0, 0.1, 1.0)),
    )
    return _fit_purchases(search, histories, np.ones(len(histories), np.bool_))


def fit_bg_nbd(histories: Histories) -> Fit:
    """Fit `BGNBD`; `alpha` comes in the unit of the histories' times.

    Whether everyone is taken to be active is asked of repeat buyers only: the family takes all others to be.
    """
    search = _Search(
        BGNBD,
        ("r", "alpha", "a", "b"),
        (1.0, 7.0 / histories.unit_days, 1.0, 1.0),
        ("", " weeks", "", ""),
        ((0.25, 4.0, 0.8, 2.5), (1.0, 4.0, 0.1, 5.0), (1.0, 10.0, 0.5, 30.0), (0.3, 1.0, 3.0, 3.0)),
    )
    return _fit_purchases(search, histories, histories.x > 0)


def fit_mbg_cnbd_k(histories: Histories, mean_log_gap: float) -> Fit:
    """Fit `MBGCNBD`; ``alpha`` comes in the unit of the histories' times. With one stage it is MBG/NBD.

    Stages are tried from one on, as long as the likelihood rises, each from the best parameters of the one before. The
    likelihood is that of the gaps too, of which ``mean_log_gap`` is the mean logarithm in the histories' unit, over
    those that are still held by day.
    """
    week, repeats = 7.0 / histories.unit_days, float(histories.x.sum())
    starts: tuple[tuple[float, ...], ...] = (
        (0.25, 4.0, 0.8, 2.5),
        (1.0, 4.0, 0.1, 5.0),
        (1.0, 10.0, 0.5, 30.0),
        (3.0, 10.0, 1.0, 10.0),
    )
    best: Fit | None = None
    for at, stages in enumerate(STAGES):
        search = _Search(
            partial(MBGCNBD, stages),
            ("r", "alpha", "a", "b"),
            (1.0, week, 1.0, 1.0),
            ("", " weeks", "", ""),
            starts,
        )
        fit = _fit_purchases(search, histories, np.ones(len(histories), np.bool_))
        own = fit.parameters
        if fit.log_likelihood is None or not isinstance(own, MBGCNBD):
            return best or fit
        # The factors of the likelihood in which there is no parameter but the number of stages.
        of_gaps = repeats * ((stages - 1) * mean_log_gap - math.lgamma(stages))
        likelihood = fit.log_likelihood + of_gaps
        if best is not None and likelihood <= (best.log_likelihood or -math.inf):
            break
        best = replace(fit, log_likelihood=likelihood)
        faster = STAGES[min(at + 1, len(STAGES) - 1)] / stages
        starts = ((own.r, own.alpha / week / faster, own.a, own.b),)
    assert best is not None
    return best


def fit_gamma_gamma(histories: Histories) -> Fit:
    """Fit `GammaGamma` to the customers with a `mean_spend`; `gamma` comes in base units."""
    known = (histories.spend_days > 0) & (histories.mean_spend > 0)
    days, spend = histories.spend_days[known], histories.mean_spend[known]
    if len(days) == 0:
        return _failed(0, "no customer has spent anything after the first purchase day")
    if not (days > 1).any():
        return _failed(
            len(days),
            "no customer has spent on two days after the first: nothing tells how one's spend varies",
        )
    if (spend == spend[0]).all():
        return _failed(len(days), "all customers spend the same: there is no spread to fit")
    search = _Search(
        GammaGamma,
        ("p", "q", "gamma"),
        (1.0, 1.0, float(np.median(spend))),
        ("", "", " times the median spend"),
        ((6.0, 4.0, 0.5), (1.0, 2.0, 1.0), (20.0, 1.5, 0.1), (3.0, 10.0, 5.0)),
    )
    fit = _maximize(search, *_grouped(days, spend))
    if fit.status == "converged" and isinstance(fit.parameters, GammaGamma) and fit.parameters.q <= 1.0:
        reason = f"q is {fit.parameters.q:.3g}; at or below 1 there is no mean spend of the population"
        return Fit(fit.parameters, fit.log_likelihood, fit.customers, "degenerate", reason)
    return fit


def _fit_purchases(search: _Search, histories: Histories, may_be_inactive: npt.NDArray[np.bool_]) -> Fit:
    customers = len(histories)
    if customers == 0:
        return _failed(0, "no customer has a counted order")
    if not (histories.x > 0).any():
        return _failed(customers, "no customer has bought on a second day")
    columns = histories.x, histories.t_x, histories.T
    fit = _maximize(search, *_grouped(*columns))
    model = fit.parameters
    if fit.status == "converged" and isinstance(model, PurchaseModel):
        asked = [column[may_be_inactive] for column in columns]
        share = float((model.probability_active(*asked) > ACTIVE_PROBABILITY).mean())
        if share >= ACTIVE_SHARE:
            whom = "customers" if may_be_inactive.all() else "repeat buyers"
            reason = f"{share:.1%} of the {whom} are active with a probability above {ACTIVE_PROBABILITY}"
            return Fit(model, fit.log_likelihood, customers, "degenerate", reason)
    return fit


def _maximize(search: _Search, columns: Sequence[Floats], customers_per_row: Floats) -> Fit:
    """The best fit, its status by convergence and by the limits of parameters."""
    customers = int(customers_per_row.sum())
    part = slice(None, None, -(-len(customers_per_row) // SEARCH_ROWS))
    few = [column[part] for column in columns], customers_per_row[part]
    found = [_climb(search, np.log(start), *few, precise=False) for start in search.starts]
    best = min(found, key=lambda result: float(result.fun))
    for _ in range(MOST_CLIMBS):
        best = _climb(search, best.x, columns, customers_per_row, precise=True)
        at_bound = np.abs(best.x) >= np.log(BOUND) * (1 - 1e-9)
        if (np.abs(best.jac[~at_bound]) <= STEEPEST).all():
            break
    else:
        return _failed(customers, f"the search did not converge, but ended with: {best.message}")
    model = search.parameters(best.x)
    log_likelihood = float(-best.fun * customers)
    ran_away = [
        f"{name} is {size:{',.0f' if size >= 1_000 else '.4g'}}{unit}"
        + (f" or {'more' if size > 1 else 'less'}" if far else "")
        for name, unit, size, far in zip(
            search.names, search.unit_names, np.exp(best.x), at_bound, strict=True
        )
        if not 1 / PARAMETER_LIMIT <= size <= PARAMETER_LIMIT
    ]
    if ran_away:
        reason = f"{', '.join(ran_away)}, not between {1 / PARAMETER_LIMIT:g} and {PARAMETER_LIMIT:,g}"
        return Fit(model, log_likelihood, customers, "degenerate", reason)
    return Fit(model, log_likelihood, customers, "converged")


def _climb(
    search: _Search, start: Floats, columns: Sequence[Floats], customers_per_row: Floats, precise: bool
) -> Any:
    """One search for the least negative log-likelihood per customer, from the logarithms in `start`."""
    share = customers_per_row / customers_per_row.sum()

    def cost(logarithms: Floats) -> float:
        return float(-(share * search.parameters(logarithms).log_likelihood(*columns)).sum())

    return minimize(
        cost,
        start,
        method="L-BFGS-B",
        jac="3-point" if precise else "2-point",
        bounds=[(-np.log(BOUND), np.log(BOUND))] * len(start),
        options={"ftol": 1e-13, "gtol": 1e-7, "maxiter": 300} if precise else {"ftol": 1e-8, "maxiter": 100},
    )


def _grouped(*columns: Floats) -> tuple[list[Floats], Floats]:
    """The different rows, sorted, and how many customers each stands for."""
    rows, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    return [np.ascontiguousarray(column) for column in rows.T], counts.astype(np.float64)


def _failed(customers: int, reason: str) -> Fit:
    return Fit(None, None, customers, "failed", reason)
