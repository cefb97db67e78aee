"""How far metrics have moved since a model was calibrated: when it is time to review it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from enrichment.calibration.snapshot import Snapshot
from enrichment.days import format_day
from enrichment.model import METRICS, Model, Reference
from enrichment.scoring.scores import score
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

MODERATE = 0.1
LARGE = 0.25
"""The usual limits: below 0.1 stable, from 0.25 on another population (Siddiqi 2006)."""
CONFIDENCE = 0.95


def drift(model: Model, snapshot: Snapshot) -> Document:
    """Each metric's distribution in `snapshot` against the one that `model.calibration` keeps.

    The measure is the population stability index over bins, PSI = Σ (now − then) × ln(now ÷ then) of their shares
    (N. Siddiqi (2006), Credit Risk Scorecards, Wiley, with the limits 0.1 and 0.25). Bins are the tenths between the
    reference's deciles, and one for customers for whom the metric is not defined; or, if that shows more, those who
    have none of it, and all others. Without any drift, PSI is about χ²(bins − 1) × (1/n + 1/N) for n customers now and
    N then (B. Yurdakul (2018), Statistical Properties of Population Stability Index); `chance` is its 95% quantile: an
    index below it says nothing.

    A model that was not calibrated has nothing to drift from: then `metrics` is empty, and `review` says why. A metric
    of which the calibration keeps nothing is named in `warnings`.
    """
    if model.calibration is None:
        return _nothing("the model was not calibrated: there is no distribution to compare with", [])
    if not len(snapshot):
        nobody = "there are no customers to compare with the calibration's"
        return _nothing(nobody, [nobody])
    values = score(snapshot.features(model), model).metrics
    metrics: dict[str, Document] = {}
    unknown = []
    for at, name in enumerate(METRICS):
        reference = model.calibration.metrics.get(name)
        if reference is None:
            unknown.append(name)
        else:
            metrics[name] = _metric(values[:, at], reference, model.calibration.customers)
    warnings = [_warning(name, found) for name, found in metrics.items() if found["verdict"] in _REVIEWED]
    if unknown:
        warnings.append(
            f"the calibration keeps no distribution of {', '.join(unknown)}: no drift can be told"
        )
    return {
        "calibrated_until": model.calibration.until,
        "as_of": format_day(snapshot.day),
        "customers_then": model.calibration.customers,
        "customers_now": len(snapshot),
        "metrics": metrics,
        "review": _review([found["verdict"] for found in metrics.values()]),
        "warnings": warnings,
    }


_REVIEWED = ("moderate", "large")


def population_stability_index(now: Floats, then: Floats, customers_now: int, customers_then: int) -> float:
    """Σ (now − then) × ln(now ÷ then) over the shares of bins; each array adds up to 1.

    A share of nothing counts as that of half a customer, so that the index stays finite.
    """
    now = np.maximum(now, 0.5 / max(customers_now, 1))
    then = np.maximum(then, 0.5 / max(customers_then, 1))
    return float(np.sum((now - then) * np.log(now / then)))


def _nothing(reason: str, warnings: list[str]) -> Document:
    return {
        "calibrated_until": None,
        "as_of": None,
        "customers_then": None,
        "customers_now": None,
        "metrics": {},
        "review": reason,
        "warnings": warnings,
    }


def _metric(values: Floats, reference: Reference, customers_then: int) -> Document:
    defined = np.sort(values[~np.isnan(values)])
    missing = 1.0 - len(defined) / len(values)
    now = _bin_shares(defined, reference) * (1.0 - missing)
    bins = len(now)
    then = np.full(bins, 1.0 - reference.missing) / bins
    now, then = np.append(now, missing), np.append(then, reference.missing)
    told = (now > 0) | (then > 0)  # a bin that was empty and is empty says nothing
    index = population_stability_index(now[told], then[told], len(values), customers_then)
    freedom = int(np.count_nonzero(told)) - 1
    scale = 1.0 / len(values) + 1.0 / max(customers_then, 1)
    chance = float(stats.chi2.ppf(CONFIDENCE, freedom)) * scale if freedom > 0 else 0.0
    of_zero = _index_of_zero(defined, reference, customers_then)
    if of_zero > index:
        index, chance = of_zero, float(stats.chi2.ppf(CONFIDENCE, 1)) * scale
    return {
        "psi": round(index, 6) + 0.0,
        "chance": round(chance, 6),
        "verdict": _verdict(index, chance),
        "bins": [
            {"then": round(float(a), 6) + 0.0, "now": round(float(b), 6) + 0.0}
            for a, b in zip(then, now, strict=True)
        ],
        "median_then": _median(np.array(reference.deciles)),
        "median_now": _median(defined),
        "missing_then": reference.missing,
        "missing_now": round(missing, 6) + 0.0,
    }


def _index_of_zero(defined: Floats, reference: Reference, customers_then: int) -> float:
    """The index over two bins, zero and everything else: tenths do not see what fewer than a tenth have any of."""
    if reference.zero is None or not len(defined):
        return 0.0
    zero = float(np.mean(defined == 0))
    now, then = np.array([zero, 1.0 - zero]), np.array([reference.zero, 1.0 - reference.zero])
    return population_stability_index(
        now, then, len(defined), round(customers_then * (1.0 - reference.missing))
    )


def _bin_shares(defined: Floats, reference: Reference) -> Floats:
    """Shares of the defined values between the reference's quantiles, which are equally spaced in rank.

    A value that many customers share, such as 0, may lie on a quantile, or on several. Its customers are then divided
    between the bins beside it as those of the reference were, as far as they reach: so the same distribution gives an
    index of 0 also where there are ties.
    """
    bins = max(len(reference.deciles) - 1, 1)
    if not len(defined) or len(reference.deciles) < 2:
        return np.full(bins, 1.0 / bins) if not len(defined) else np.append(np.zeros(bins - 1), 1.0)
    cuts = np.array(reference.deciles[1:-1])
    below = np.searchsorted(defined, cuts, side="left") / len(defined)
    up_to = np.searchsorted(defined, cuts, side="right") / len(defined)
    reached = np.clip(np.arange(1, bins) / bins, below, up_to)
    return np.diff(np.concatenate([[0.0], reached, [1.0]]))


def _median(values: Floats) -> float | None:
    return round(float(np.median(values)), 6) + 0.0 if len(values) else None


def _verdict(index: float, chance: float) -> str:
    if index <= chance or index < MODERATE:
        return "stable"
    return "large" if index >= LARGE else "moderate"


def _warning(name: str, found: Document) -> str:
    return f"{name} has drifted since the calibration ({found['verdict']}: PSI {found['psi']:.2f})"


def _review(verdicts: list[str]) -> str:
    """When to look at the model again."""
    if not verdicts:
        return "the calibration keeps no distributions: no drift can be told"
    if "large" in verdicts:
        return "review now: calibrate again, and compare by replay before taking it"
    if "moderate" in verdicts:
        return "review with the next month's data"
    return "nothing has drifted: the next quarterly review is early enough"
