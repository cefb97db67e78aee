"""What a customer spends on a purchase day: Gamma-Gamma, or credibility where that has no usable answer.

Credibility (Bühlmann and Straub 1970) weighs a customer's own mean of n days against the population's, n to K, where K
is the variance between a customer's days over the variance between customers. Gamma-Gamma's expectation has the same
form, with K = (q - 1) / p, so both go into a model file as `p`, `q` and `gamma`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from enrichment.calibration.fitting import Fit, fit_gamma_gamma
from enrichment.calibration.snapshot import Histories, Snapshot
from enrichment.lifetime.lifetime_value import GammaGamma

Floats = npt.NDArray[np.float64]

LARGEST_IN_MEDIANS = 100.0
"""In the variances of credibility, a day's spend counts as at most so many medians."""

LEAST_K, MOST_K = 0.01, 100.0


@dataclass(frozen=True, slots=True)
class Spend:
    """Parameters for the model file and where they come from; None, with the reason, where nobody has spent."""

    gamma_gamma: Fit
    parameters: GammaGamma | None
    family: Literal["gamma_gamma", "credibility"] | None
    reason: str | None

    def as_report(self) -> dict[str, Any]:
        """What the model file uses, and why it is not Gamma-Gamma where it is not."""
        return {"used": self.family, "reason": self.reason}


def fit_spend(snapshot: Snapshot, histories: Histories) -> Spend:
    """Fit spend per purchase day to a snapshot, of which `histories` are the histories."""
    fit = fit_gamma_gamma(histories)
    if fit.status == "converged" and isinstance(fit.parameters, GammaGamma):
        return Spend(fit, fit.parameters, "gamma_gamma", None)
    customers = [_spends(snapshot, place, after_first=True) for place in histories.at]
    why = f"Gamma-Gamma has {'failed' if fit.status == 'failed' else 'a degenerate fit'}: {fit.reason}"
    if not any(len(days) for days in customers):
        customers = [_spends(snapshot, place, after_first=False) for place in histories.at]
        why += "; spend is that of the first purchase days"
    customers = [days for days in customers if len(days)]
    if not customers:
        return Spend(fit, None, None, f"{why}; no order has brought any money")
    return Spend(fit, _credibility(customers), "credibility", why)


def _credibility(customers: list[Floats]) -> GammaGamma:
    """Bühlmann and Straub's estimators, K held within its limits; K = 1 where the data cannot tell."""
    count = np.array([len(days) for days in customers], dtype=np.float64)
    days = np.concatenate(customers)
    days = np.minimum(days, LARGEST_IN_MEDIANS * float(np.median(days)))
    owner = np.repeat(np.arange(len(count)), count.astype(np.int64))
    own = np.bincount(owner, weights=days) / count
    total = count.sum()
    k = 1.0
    if total > len(count) > 1:
        within = float(((days - own[owner]) ** 2).sum() / (total - len(count)))
        spread = float((count * (own - days.mean()) ** 2).sum()) - (len(count) - 1) * within
        between = spread / float(total - (count**2).sum() / total)
        k = min(max(within / between, LEAST_K), MOST_K) if between > 0.0 else MOST_K
    return GammaGamma(p=1.0, q=1.0 + k, gamma=k * float(own.mean()))


def _spends(snapshot: Snapshot, place: int, after_first: bool) -> Floats:
    """A customer's purchase days that brought something, in base units; with or without the very first."""
    money = snapshot.views[place].money
    days = money.columns[money.columns[:, 2] > 0]
    if after_first:
        days = days[days[:, 0] > (money.totals.first_day or 0)]
    return np.asarray(days[:, 2] / 1e6, dtype=np.float64)


def spend_frequency_correlation(histories: Histories) -> dict[str, float | int | None]:
    """How mean spend goes with the number of purchase days, which Gamma-Gamma takes to be independent.

    Pearson's correlation, as in note 025, and Spearman's, which no whale decides; None where nothing varies.
    """
    known = histories.spend_days > 0
    days, spend = histories.spend_days[known], histories.mean_spend[known]
    if len(days) < 2 or np.ptp(days) == 0 or np.ptp(spend) == 0:
        return {"customers": len(days), "pearson": None, "spearman": None}
    return {
        "customers": len(days),
        "pearson": float(np.corrcoef(days, spend)[0, 1]),
        "spearman": float(spearmanr(days, spend).statistic),
    }
