"""Pareto/NBD, corrected by what earlier cuts of a business's own history have shown.

Pareto/NBD knows a customer by three numbers. It does not know that someone buys more often lately than before, and its
likelihood is that of all histories, not of the next months. So two regressions correct it over a horizon of ``h``
days: a Poisson regression what it expects, and a logistic regression its odds of any purchase (McCullagh and Nelder
1989, "Generalized Linear Models", chapters 4 and 6; Pareto/NBD's log expectation and logit are offsets). With
``E_b`` and ``S_b`` for Pareto/NBD's expected purchases and probability of none, and ``u = min(t, h)``::

    E(t) = E_b(t) + (exp(c) - 1) E_b(u)
    S(t) = S_b(t) / (S_b(u) + (1 - S_b(u)) exp(d))

where ``c`` and ``d`` are sums over the features below. So up to the horizon the rate is that of Pareto/NBD times
``exp(c)``, and the odds of a purchase are its odds times ``exp(d)``. Beyond the horizon, of which no cut has told, what
comes is Pareto/NBD's. Nobody is expected to buy less often than they are likely to buy at all: ``E >= 1 - S``.

With both corrections 0 it is Pareto/NBD. ``probability_active`` is Pareto/NBD's in any case. Unlike it, this family
need not move one way in silence: a feature may weigh either way, and counts fall in steps as purchases leave a window.
Expected purchases and the chance of one never fall with a longer horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from enrichment.lifetime.lifetime_value import RECENT_DAYS, Floats, ParetoNBD, Predictor, predict

FEATURES: tuple[str, ...] = (
    "log_expected",
    "logit",
    "log_recency",
    "log_recency_over_gap",
    *(f"log_days_{days}d" for days in RECENT_DAYS),
    *(f"log_pace_{days}d" for days in RECENT_DAYS),
)
"""What corrections are made of; `features_of` says what each is."""

MOST_RISK = 1.0 - 1e-12
LEAST_EXPECTED = 1e-12
"""Logarithms are taken of nothing smaller."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One feature: it adds ``expected`` to ``c`` and ``buys`` to ``d`` per unit, between ``least`` and ``most``.

    A value outside the range, which the fit has not seen, counts as the nearer end.
    """

    least: float
    most: float
    expected: float
    buys: float


@dataclass(frozen=True, slots=True)
class RecalibratedParetoNBD(Predictor):
    """Pareto/NBD with corrections over ``horizon_days``; the base's times are in units of ``days_per_unit`` days.

    ``typical_gap_days`` is mixed into each customer's own gap, as one gap more. ``features`` has a correction for each
    of `FEATURES`. ``ValueError`` names what is not as it must be.
    """

    looks_back: ClassVar[bool] = True
    base: ParetoNBD
    days_per_unit: float
    horizon_days: float
    typical_gap_days: float
    expected_intercept: float
    buys_intercept: float
    features: Mapping[str, Correction]

    def __post_init__(self) -> None:
        if missing := [name for name in FEATURES if name not in self.features]:
            raise ValueError(f"features must have {', '.join(missing)}")
        for name in ("days_per_unit", "horizon_days", "typical_gap_days"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and above 0")
        corrections = [self.features[name] for name in FEATURES]
        numbers = [number for own in corrections for number in (own.least, own.most, own.expected, own.buys)]
        if not np.isfinite([self.expected_intercept, self.buys_intercept, *numbers]).all():
            raise ValueError("intercepts and features must be finite")
        if any(own.most < own.least for own in corrections):
            raise ValueError("most must not be below least in any of features")

    def corrections(
        self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike, recent: ArrayLike
    ) -> tuple[Floats, Floats]:
        """``c`` and ``d`` of flat columns; ``recent`` has shape (rows, 3)."""
        _, silent, expected = predict(self.base, x, t_x, T, self.horizon_days / self.days_per_unit)
        columns = tuple(np.asarray(column, np.float64) for column in (x, t_x, T))
        counts = tuple(np.asarray(recent, np.float64).T)
        return self._corrections(columns, counts, expected, silent)

    def _predict(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats]:
        horizon = self._horizon(T)
        (active, *of_horizon), (_, *of_t) = self.base._predict_for(x, t_x, T, horizon, t)
        silent, expected = self._corrected((x, t_x, T), recent, of_horizon, (t, *of_t))[:2]
        return active, silent, expected

    def _predict_with_window(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, window: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        horizon = self._horizon(T)
        by_base = self.base._predict_for(x, t_x, T, horizon, t, window)
        (active, *of_horizon), (_, *of_t), (_, in_window, _) = by_base
        silent, expected, odds = self._corrected((x, t_x, T), recent, of_horizon, (t, *of_t))
        until = np.where(window < horizon, in_window, of_horizon[0])
        return active, silent, expected, _silent(in_window, until, odds)

    def _expected_after_purchase(self, x: Floats, T: Floats, t: Floats, *recent: Floats) -> Floats:
        # The purchase of today is the last of those known, so each window holds one of them at least. Who has just
        # bought is active, so that no drop-out before today needs to be integrated.
        known = tuple(np.minimum(np.maximum(count, 1.0), np.maximum(x, count)) for count in recent)
        both_times = np.concatenate((self._horizon(T), t))
        silent, expected = self.base._while_active(both_times, np.tile(x, 2), np.tile(T, 2))
        of_horizon, of_t = (silent[: T.size], expected[: T.size]), (silent[T.size :], expected[T.size :])
        return self._corrected((x, T, T), known, of_horizon, (t, *of_t))[1]

    def _horizon(self, T: Floats) -> Floats:
        return np.full_like(T, self.horizon_days / self.days_per_unit)

    def _corrected(
        self,
        columns: tuple[Floats, ...],
        recent: tuple[Floats, ...],
        of_horizon: Sequence[Floats],
        of_t: tuple[Floats, ...],
    ) -> tuple[Floats, Floats, Floats]:
        """(probability of no purchase, expected purchases, factor on the odds of one) in the next ``t``.

        ``of_horizon`` are the first two of these by the base, over the horizon; ``of_t`` are ``t`` and the two over it.
        """
        (silent_h, expected_h), (t, silent, expected) = of_horizon, of_t
        corrections = self._corrections(columns, recent, expected_h, silent_h)
        more, odds = np.exp(corrections[0]), np.exp(corrections[1])
        is_within = t < self.horizon_days / self.days_per_unit
        expected = expected + (more - 1.0) * np.where(is_within, expected, expected_h)
        corrected = _silent(silent, np.where(is_within, silent, silent_h), odds)
        return corrected, np.maximum(expected, 1.0 - corrected), odds

    def _corrections(
        self, columns: tuple[Floats, ...], recent: tuple[Floats, ...], expected: Floats, silent: Floats
    ) -> tuple[Floats, Floats]:
        """``c`` and ``d``: sums in the order of `FEATURES`, so that a row's bits do not depend on other rows."""
        features = features_of(
            self.base, columns, recent, expected, silent, self.days_per_unit, self.typical_gap_days
        )
        more = np.full_like(expected, self.expected_intercept)
        buys = np.full_like(expected, self.buys_intercept)
        for name in FEATURES:
            own = self.features[name]
            seen = np.clip(features[name], own.least, own.most)
            more += own.expected * seen
            buys += own.buys * seen
        return more, buys


def features_of(
    base: ParetoNBD,
    columns: tuple[Floats, ...],
    recent: tuple[Floats, ...],
    expected: Floats,
    silent: Floats,
    days_per_unit: float,
    typical_gap_days: float,
) -> dict[str, Floats]:
    """The features of flat columns: by name, one value a customer.

    - ``log_expected``: log of the purchases that the base expects over the horizon;
    - ``logit``: log odds of any purchase over the horizon, by the base;
    - ``log_recency``: log of 1 + the days since the last purchase day;
    - ``log_recency_over_gap``: the same, less the log of the own gap: (t_x + a typical gap) / (x + 1), in days. So the
      own gap itself is a difference of these two;
    - ``log_days_30d`` and so on: log of 1 + the purchase days after the first in the window;
    - ``log_pace_30d`` and so on: ``log_days``, less the log of 1 + the purchase days that (r + x) / (alpha + T), the
      customer's mean rate if they never left, would have brought within as much of the window as they are known.

    Args:
        base: fitted in the unit of ``t_x`` and ``T``.
        columns: ``x``, ``t_x`` and ``T``, each of shape (rows,), like all that follow.
        recent: one column for each of `RECENT_DAYS`.
        expected: the base's expected purchases over the horizon.
        silent: the base's probability of none.
        days_per_unit: days in a unit of time.
        typical_gap_days: see `RecalibratedParetoNBD`.
    """
    x, t_x, T = columns
    risk = np.clip(silent, 1.0 - MOST_RISK, MOST_RISK)
    log_recency = np.log1p((T - t_x) * days_per_unit)
    gap_days = (t_x * days_per_unit + typical_gap_days) / (x + 1.0)
    rate = (base.r + x) / (base.alpha + T)
    found = {
        "log_expected": np.log(np.maximum(expected, LEAST_EXPECTED)),
        "logit": np.log1p(-risk) - np.log(risk),
        "log_recency": log_recency,
        "log_recency_over_gap": log_recency - np.log(gap_days),
    }
    for days, count in zip(RECENT_DAYS, recent, strict=True):
        usual = rate * np.minimum(days / days_per_unit, T)
        found[f"log_days_{days}d"] = np.log1p(count)
        found[f"log_pace_{days}d"] = np.log1p(count) - np.log1p(usual)
    return found


def _silent(silent: Floats, until: Floats, odds: Floats) -> Floats:
    """The corrected probability of no purchase; ``until`` is the base's up to the horizon, or up to t if less."""
    bought = (1.0 - until) * odds
    corrected = np.divide(silent, until + bought, out=np.ones_like(silent), where=until + bought > 0.0)
    return np.minimum(corrected, 1.0)
