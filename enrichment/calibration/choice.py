"""Which family of purchases goes into a model file: by holdouts, if there are any, and by what each fit is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from enrichment.calibration.empirical import fit_empirical_hazard, mean_log_gap
from enrichment.calibration.fitting import Fit, fit_bg_nbd, fit_mbg_cnbd_k, fit_pareto_nbd
from enrichment.calibration.holdout import (
    Holdout,
    Predicted,
    area_under_curve,
    hold_out,
    holdout_report,
    poisson_deviance,
    predictions,
)
from enrichment.calibration.recalibrated import fit_recalibrated
from enrichment.calibration.snapshot import Histories, Snapshot
from enrichment.days import YEAR_DAYS
from enrichment.lifetime.lifetime_value import Floats, ParetoNBD, Predictor, PurchaseModel

Family = Literal["pareto_nbd", "bg_nbd", "mbg_cnbd_k", "empirical", "recalibrated"]
FAMILIES: tuple[Family, ...] = ("pareto_nbd", "bg_nbd", "mbg_cnbd_k", "empirical", "recalibrated")
"""In the order of preference, where nothing tells them apart. Pareto/NBD comes first since its probability of being
active ranks one-time buyers; the empirical hazard after those with a theory, since it knows nothing beyond what was
observed; and last what corrects Pareto/NBD, which must prove that it does."""

NAMES: dict[Family, str] = {
    "pareto_nbd": "Pareto/NBD",
    "bg_nbd": "BG/NBD",
    "mbg_cnbd_k": "MBG/CNBD-k",
    "empirical": "the empirical hazard",
    "recalibrated": "recalibrated Pareto/NBD",
}

LEAST_REPEAT_BUYERS = 20
"""With fewer customers who have bought on two days, nothing is fitted: four parameters need some evidence."""

LEAST_HOLDOUT_PURCHASES = 50
"""A holdout with fewer purchases decides nothing."""

MOST_CUSTOMERS = 20_000
"""As many tell families apart as well as any more would."""

UNSEEN_SEASON = (
    "; the history before them has not seen these months of the year, so a season may have its part in it"
)

STANDARD_ERRORS = 2.0
"""By so many, of the mean difference in Poisson deviance, a family must be better than one that is preferred to it."""


@dataclass(frozen=True, slots=True)
class FamilyCandidates:
    """Every family fitted to one snapshot. `refused` says why none of them is to be used."""

    histories: Histories
    fits: dict[Family, Fit]
    models: dict[Family, Predictor]
    """Those that have parameters, degenerate ones included."""
    faults: dict[Family, str]
    """What is wrong with the families that have no `Fit`; those without a fault are not in it."""
    refused: str | None

    def why_not(self, family: Family) -> str | None:
        """What is wrong with a family's fit; None where it converged."""
        if family not in self.fits:
            return self.faults.get(family)
        fit = self.fits[family]
        return None if fit.status == "converged" else f"{fit.status}: {fit.reason}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The families from the best on, and the mean Poisson deviance of those that were held against the holdout."""

    ranking: tuple[Family, ...]
    deviance: dict[Family, float]
    reason: str
    report: dict[str, Any]

    def is_better(self, family: Family, other: Family | None) -> bool:
        """Whether `family` predicted the holdout better than `other`; without `other`, whether it predicted it."""
        if family not in self.deviance:
            return False
        return other is None or (other in self.deviance and self.deviance[family] < self.deviance[other])


@dataclass(frozen=True, slots=True)
class Used:
    """The family used with one snapshot's fits, and why; None, with the reason, where there is none to use."""

    family: Family | None
    reason: str
    set_aside: tuple[str, ...] = ()


def fit_candidates(snapshot: Snapshot, unit_days: float) -> FamilyCandidates:
    """Fit every family to a snapshot, times in units of so many days."""
    histories = Histories.of(snapshot, unit_days)
    fits: dict[Family, Fit] = {
        "pareto_nbd": fit_pareto_nbd(histories),
        "bg_nbd": fit_bg_nbd(histories),
        "mbg_cnbd_k": fit_mbg_cnbd_k(histories, mean_log_gap(snapshot, unit_days)),
    }
    models: dict[Family, Predictor] = {
        family: fit.parameters for family, fit in fits.items() if isinstance(fit.parameters, PurchaseModel)
    }
    faults: dict[Family, str] = {}
    base = fits["pareto_nbd"]
    found: dict[Family, Predictor | str] = {
        "empirical": fit_empirical_hazard(snapshot, unit_days),
        "recalibrated": fit_recalibrated(
            snapshot, histories, base.parameters if isinstance(base.parameters, ParetoNBD) else None
        ),
    }
    for family, model in found.items():
        if isinstance(model, str):
            faults[family] = model
        else:
            models[family] = model
    if "recalibrated" in models and base.status != "converged":
        faults["recalibrated"] = f"{base.status}: in Pareto/NBD, which it corrects, {base.reason}"
    repeat_buyers = int((histories.x > 0).sum())
    refused = None
    if len(histories) == 0:
        refused = "no customer has a counted order"
    elif repeat_buyers < LEAST_REPEAT_BUYERS:
        refused = (
            f"{repeat_buyers} of {len(histories)} customers with a counted order have bought on a second day; "
            f"at least {LEAST_REPEAT_BUYERS} are needed to tell how customers come back"
        )
    return FamilyCandidates(histories, fits, models, faults, refused)


def choose(choices: Sequence[Snapshot], cut: Snapshot, unit_days: float) -> Choice:
    """Rank the families by how their fits to each of `choices` predict what came until `cut`.

    The first of them, which leaves the longest holdout, decides; the reason says whether the others agree, and whether
    the history before the first has seen these months of the year. Of very many customers some are looked at.
    """
    longest, *others = (
        (_choose_by(some_of(choice), cut, unit_days) for choice in choices) if choices else (None,)
    )
    if longest is None:
        return _without_holdout("there is no earlier holdout to choose by")
    if not longest.deviance:
        return longest
    told = [
        {
            "days": cut.day - choice.day,
            "first": found.ranking[0],
            "mean_poisson_deviance": {family: round(value, 6) for family, value in found.deviance.items()},
        }
        for choice, found in zip(choices, (longest, *others), strict=True)
        if found.deviance
    ]
    is_season_seen = _first_day(choices[0]) <= choices[0].day - YEAR_DAYS
    reason = longest.reason + _agreement(told) + ("" if is_season_seen else UNSEEN_SEASON)
    report = {**longest.report, "reason": reason, "rolling": told, "is_season_seen": is_season_seen}
    return replace(longest, reason=reason, report=report)


def some_of(snapshot: Snapshot) -> Snapshot:
    """The snapshot, or of more than MOST_CUSTOMERS every second, third and so on, by id."""
    step = -(-len(snapshot) // MOST_CUSTOMERS)
    return snapshot if step <= 1 else snapshot.only(set(snapshot.customer_ids[::step]))


def _first_day(snapshot: Snapshot) -> int:
    """That of the earliest first purchase; the snapshot's own where there is none."""
    days = (view.money.totals.first_day for view in snapshot.views)
    return min((day for day in days if day is not None), default=snapshot.day)


def _agreement(told: Sequence[dict[str, Any]]) -> str:
    """Whether the families are ranked alike by shorter holdouts, as the end of a sentence."""
    first, *others = told
    apart = [each for each in others if each["first"] != first["first"]]
    if apart:
        firsts = dict.fromkeys(each["first"] for each in apart)
        said = ", and ".join(
            f"{NAMES[first]} by the last {_in_words(apart, first)} days alone" for first in firsts
        )
        return f"; {said}, but the longer period decides"
    return f"; it is by the last {_in_words(others, first['first'])} days too" if others else ""


def _in_words(told: Sequence[dict[str, Any]], first: Family) -> str:
    """The lengths of the periods by which a family is first."""
    return " and ".join(str(each["days"]) for each in told if each["first"] == first)


def _choose_by(choice: Snapshot, cut: Snapshot, unit_days: float) -> Choice:
    """Rank the families by one fit and one holdout."""
    if choice.day >= cut.day:
        return _without_holdout("there is no earlier holdout to choose by")
    candidates, holdout = fit_candidates(choice, unit_days), hold_out(choice, cut, unit_days)
    if candidates.refused is not None:
        return _without_holdout(f"the holdout to choose by cannot be used: before it, {candidates.refused}")
    if holdout.purchases.sum() < LEAST_HOLDOUT_PURCHASES:
        return _without_holdout(
            f"the holdout to choose by has only {holdout.purchases.sum():.0f} purchases; "
            f"at least {LEAST_HOLDOUT_PURCHASES} are needed"
        )
    predicted = {family: predictions(candidates.models[family], holdout) for family in candidates.models}
    deviance = {
        family: poisson_deviance(each.expected_purchases, holdout.purchases)
        for family, each in predicted.items()
    }
    order, why = _ranked(predicted, deviance, holdout)
    report = {
        **holdout_report(predictions_of(candidates.models, holdout), holdout),
        "status": {family: candidates.why_not(family) or "converged" for family in FAMILIES},
        "ranking": list(order),
        "reason": why,
    }
    return Choice(order, {family: float(each.mean()) for family, each in deviance.items()}, why, report)


def predictions_of(models: dict[Family, Predictor], holdout: Holdout) -> dict[str, Predicted | None]:
    """Every family's predictions for a holdout; None for one without a model."""
    return {family: predictions(models[family], holdout) if family in models else None for family in FAMILIES}


def use(choice: Choice, candidates: FamilyCandidates) -> Used:
    """The best family whose fit converged; a degenerate one if it predicted better than the next that converged."""
    if candidates.refused is not None:
        return Used(None, candidates.refused)
    set_aside: list[str] = []
    families = [*choice.ranking, *(family for family in FAMILIES if family not in choice.ranking)]
    for at, family in enumerate(families):
        fault = candidates.why_not(family)
        if fault is None:
            return Used(family, choice.reason, tuple(set_aside))
        converged = [other for other in families[at + 1 :] if candidates.why_not(other) is None]
        other = converged[0] if converged else None
        if family in candidates.models and choice.is_better(family, other):
            instead = (
                "and there is no other to take its place"
                if other is None
                else f"but over the days to choose by its predictions were better than those of {NAMES[other]}, which "
                "would take its place"
            )
            why = f"{choice.reason}; the fit is {fault}, {instead}, so its predictions are used"
            return Used(family, why, tuple(set_aside))
        set_aside.append(f"{NAMES[family]} is set aside: {fault}")
    return Used(None, "; ".join(set_aside), tuple(set_aside))


def _without_holdout(why: str) -> Choice:
    reason = f"{why}: the first of {', '.join(NAMES[family] for family in FAMILIES)} that converges is used"
    return Choice(FAMILIES, {}, reason, {"reason": reason})


def _ranked(
    predicted: dict[Family, Predicted], deviance: dict[Family, Floats], holdout: Holdout
) -> tuple[tuple[Family, ...], str]:
    """The families from the best on, and why the first is."""
    backwards = [family for family in predicted if _ranks_backwards(predicted[family], holdout)]
    left = [family for family in FAMILIES if family in predicted and family not in backwards]
    order: list[Family] = []
    while left:
        best = left[0]
        for other in left[1:]:
            difference = deviance[best] - deviance[other]
            error = float(np.std(difference, ddof=1)) / math.sqrt(len(difference))
            if difference.mean() > STANDARD_ERRORS * error:
                best = other
        order.append(best)
        left.remove(best)
    first = order[0] if order else backwards[0]
    figures = ", ".join(f"{NAMES[family]} {deviance[family].mean():.3f}" for family in predicted)
    reason = (
        f"{NAMES[first]} is first, by the mean Poisson deviance over the {holdout.days} days to choose by ({figures}); "
        f"a family preferred less must be better by more than {STANDARD_ERRORS:g} standard errors of the difference"
    )
    for family in backwards:
        reason += (
            f"; {NAMES[family]} comes last: among these customers, its probability of being active ranks those who "
            "bought below those who did not"
        )
    return (*order, *backwards), reason


def _ranks_backwards(predicted: Predicted, holdout: Holdout) -> bool:
    area = area_under_curve(predicted.probability_active, holdout.purchases > 0)
    return area is not None and area < 0.5


def better_than(own: dict[str, float | None], other: dict[str, float | None]) -> bool:
    """Whether predictions are better than others by both their correlation and their mean absolute error."""
    return (own["correlation"] or 0.0) > (other["correlation"] or 0.0) and (
        own["mean_absolute_error"] or 0.0
    ) < (other["mean_absolute_error"] or 0.0)
