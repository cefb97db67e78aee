"""The lifetime-value part of a model, fitted to a business's own history, with a report on how good it is.

Families are compared by their fits at some days before `cut` and what came until it; the report is of fits at `cut` and
what came until `end`, which chose nothing; the model file is fitted to `end`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from enrichment.calibration.choice import (
    FAMILIES,
    NAMES,
    Choice,
    Family,
    FamilyCandidates,
    Used,
    better_than,
    choose,
    fit_candidates,
    predictions_of,
    use,
)
from enrichment.calibration.holdout import Holdout, accuracy, hold_out, holdout_report, predictions
from enrichment.calibration.season import seasonal_level
from enrichment.calibration.snapshot import Snapshot
from enrichment.calibration.spend import Spend, fit_spend, spend_frequency_correlation
from enrichment.lifetime.recalibrated import RecalibratedParetoNBD
from enrichment.model import DAYS_PER_UNIT, LifetimeValue, TimeUnit

LARGEST_BIAS = 0.15
"""Expected purchases that miss the holdout's total by more are warned of."""

LARGEST_CORRELATION = 0.3
"""Spend and frequency that go together by more (Spearman) are warned of: Gamma-Gamma takes them to be independent."""


@dataclass(frozen=True, slots=True)
class LifetimeValueFit:
    """`lifetime_value` parts of model documents, fitted up to the cut and to the end; None where one is refused.

    They hold what was fitted: `time_unit`, `purchases` and `spend`; a `discount_rate_per_year` is not theirs to say.
    `report` gives the reasons, under `model_file` and `at_cut`; it holds numbers, text and None only.
    """

    at_cut: dict[str, Any] | None
    at_end: dict[str, Any] | None
    report: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Everything fitted to one snapshot, and what of it is used."""

    candidates: FamilyCandidates
    spend: Spend
    used: Used
    time_unit: TimeUnit

    @property
    def refused(self) -> str | None:
        if self.used.family is None:
            return self.used.reason
        return self.spend.reason if self.spend.parameters is None else None

    def document(self) -> dict[str, Any] | None:
        if self.used.family is None or self.spend.parameters is None:
            return None
        model = self.candidates.models[self.used.family]
        document = {
            "time_unit": self.time_unit,
            "purchases": {"family": self.used.family} | _parameters(model),
            "spend": asdict(self.spend.parameters),
        }
        return LifetimeValue.model_validate(document).model_dump(mode="json", exclude_unset=True)

    def as_report(self) -> dict[str, Any]:
        return {
            "family": self.used.family if self.refused is None else None,
            "reason": self.used.reason,
            "refused": self.refused,
            "set_aside": list(self.used.set_aside),
            "spend": self.spend.as_report(),
        }

    def models(self) -> dict[str, Any]:
        fits: dict[str, Any] = {family: fit.as_report() for family, fit in self.candidates.fits.items()}
        others: dict[str, Any] = {
            family: self._without_likelihood(family)
            for family in FAMILIES
            if family not in self.candidates.fits
        }
        return {**fits, "gamma_gamma": self.spend.gamma_gamma.as_report(), **others}

    def _without_likelihood(self, family: Family) -> dict[str, Any]:
        """What the report says of a family that is not fitted by its likelihood."""
        model, fault = self.candidates.models.get(family), self.candidates.faults.get(family)
        return {
            "parameters": None if model is None else _parameters(model),
            "customers": len(self.candidates.histories),
            "status": "failed" if model is None else "converged" if fault is None else "degenerate",
            "reason": fault,
        }


def fit_lifetime_value(
    choices: Sequence[Snapshot],
    cut: Snapshot,
    end: Snapshot,
    time_unit: TimeUnit,
    last_year: tuple[Snapshot, Snapshot] | None = None,
) -> LifetimeValueFit:
    """Fit, choose and report. Never raises for what customers did: what cannot be fitted is refused, with its reason.

    `choices` are the snapshots to choose by, the earliest first. There may be none, or none that holds enough; then the
    order of `choice.FAMILIES` decides. `last_year` are the snapshots a year before the cut and the end, where there is
    history before them.
    """
    unit_days = DAYS_PER_UNIT[time_unit]
    chosen = choose(choices, cut, unit_days)
    at_cut, at_end = (_fit(snapshot, chosen, time_unit) for snapshot in (cut, end))
    holdout = hold_out(cut, end, unit_days)
    models = at_cut.candidates.models
    measured = holdout_report(predictions_of(models, holdout), holdout)
    # The family of the model file is the one that people will live with; its fit at the cut is what could be tested.
    family = at_end.used.family or at_cut.used.family
    of_chosen = measured[family] if family is not None else None
    for name in ("auc_probability_active", "auc_churn_risk"):
        measured[name] = None if of_chosen is None else of_chosen[name]
    season = None if last_year is None else seasonal_level(*last_year, chosen, unit_days)
    if season is not None and season["level"] is not None and of_chosen is not None:
        assert family is not None
        expected = predictions(models[family], holdout).expected_purchases * season["level"]
        season["total_bias"] = accuracy(expected, holdout.purchases)["total_bias"]
    report = {
        "chosen": None if at_end.refused is not None else family,
        "reason": at_end.refused or at_end.used.reason,
        "time_unit": time_unit,
        "days_per_unit": unit_days,
        "models": at_cut.models(),
        "holdout": measured,
        "choice": chosen.report,
        "season": season,
        "spend_frequency_correlation": spend_frequency_correlation(at_end.candidates.histories),
        "at_cut": at_cut.as_report(),
        "model_file": {**at_end.as_report(), "models": at_end.models()},
    }
    return LifetimeValueFit(
        at_cut.document(), at_end.document(), report, _warnings(at_cut, at_end, measured, holdout, report)
    )


def _fit(snapshot: Snapshot, chosen: Choice, time_unit: TimeUnit) -> _Fitted:
    candidates = fit_candidates(snapshot, DAYS_PER_UNIT[time_unit])
    return _Fitted(candidates, fit_spend(snapshot, candidates.histories), use(chosen, candidates), time_unit)


def _parameters(model: Any) -> dict[str, Any]:
    """A model's parameters by name, as in a model file."""
    parameters: dict[str, Any] = asdict(model)
    if isinstance(model, RecalibratedParetoNBD):
        del parameters["days_per_unit"]  # the file's time unit says it
        return {**parameters.pop("base"), **parameters}
    return parameters


def _warnings(
    at_cut: _Fitted, at_end: _Fitted, measured: dict[str, Any], holdout: Holdout, report: dict[str, Any]
) -> list[str]:
    """What a person should know before using the fit."""
    if at_end.refused is not None:
        return [f"lifetime value was not fitted: {at_end.refused}"]
    warnings = [f"lifetime value: {text}" for text in at_end.used.set_aside]
    family = at_end.used.family
    assert family is not None
    fault = at_end.candidates.why_not(family)
    if fault is not None:
        warnings.append(f"lifetime value: {NAMES[family]} is used although its fit is {fault}")
    if at_cut.refused is not None:
        warnings.append(f"lifetime value: nothing could be tested, up to the cut {at_cut.refused}")
    elif at_cut.used.family != family:
        used = NAMES[at_cut.used.family] if at_cut.used.family else "nothing"
        warnings.append(
            f"lifetime value: up to the cut {used} would be used, but {NAMES[family]} for the model file"
        )
    own = measured[family]
    if own is not None and holdout.purchases.sum() > 0:
        warnings += _warnings_of_holdout(NAMES[family], own, measured, report["season"])
    elif at_cut.refused is None:
        warnings.append(f"lifetime value: nothing could be tested in the holdout of {holdout.days} days")
    if at_end.spend.family == "credibility":
        warnings.append(f"spend: credibility is used, for {at_end.spend.reason}")
    together = report["spend_frequency_correlation"]["spearman"]
    if together is not None and abs(together) > LARGEST_CORRELATION:
        warnings.append(
            f"spend: it goes with frequency (Spearman {together:+.2f}), which Gamma-Gamma takes not to be so"
        )
    return warnings


def _warnings_of_holdout(
    name: str, own: dict[str, Any], measured: dict[str, Any], season: dict[str, Any] | None
) -> list[str]:
    warnings = []
    if abs(own["total_bias"]) > LARGEST_BIAS:
        by_season = ""
        if season is not None and season.get("total_bias") is not None:
            by_season = (
                f"; the same days of last year brought {season['level']:.2f} times what was expected of them, and with "
                f"that it would be {season['total_bias']:+.0%} off"
            )
        warnings.append(
            f"lifetime value: in the holdout {name} was {own['total_bias']:+.0%} off the total of purchases{by_season}"
        )
    for naive, figures in measured["naive"].items():
        if not better_than(own, figures):
            warnings.append(
                f"lifetime value: in the holdout {name} was no better than {naive.replace('_', ' ')}, by correlation "
                "and mean absolute error"
            )
    area = own["auc_probability_active"]
    if area is not None and area < 0.5:
        warnings.append(
            f"lifetime value: in the holdout the probability of being active ranked backwards (area under the curve "
            f"{area:.3f}); rank by churn risk"
        )
    return warnings
