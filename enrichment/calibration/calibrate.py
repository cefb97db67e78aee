"""From snapshots of a history to a fitted model document, and a report on how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from enrichment.calibration.capacity import fit_tiers
from enrichment.calibration.drift import drift
from enrichment.calibration.lifetime import LifetimeValueFit, fit_lifetime_value
from enrichment.calibration.potential import validate_potential
from enrichment.calibration.scales import fit_scales
from enrichment.calibration.snapshot import Snapshot
from enrichment.calibration.stability import stability
from enrichment.calibration.validation import validate
from enrichment.days import format_day
from enrichment.model import Model, TierThresholds, TimeUnit
from enrichment.scores import score

Document = dict[str, Any]

LEAST_CHOICE_DAYS: Final = 14
"""A family of models is not chosen by fewer days than these."""
MONTHS: Final = 12
MONTH_DAYS: Final = 30


class RefusedError(ValueError):
    """A history to which no model can be fitted; the message says why, and `report` what could be told."""

    def __init__(self, message: str, report: Document) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, slots=True)
class Days:
    """The UTC days at whose ends a history is looked at.

    The model is fitted to `end`; the report is on a fit to `cut`, held against what came after it. The family of models
    is chosen by a fit to `choice`, held against what came until `cut`; None where there is too little before it.
    """

    choice: int | None
    cut: int
    end: int
    months: tuple[int, ...]

    @classmethod
    def of(cls, first_day: int, end_day: int, holdout_days: int) -> Days:
        """The days for a history whose first record is of `first_day`.

        The choice is made by `holdout_days` too, or by a third of what is before the cut where that is less. `months`
        are 30 days long, at most 12 of them.
        """
        cut = end_day - holdout_days
        choice_days = min(holdout_days, (cut - first_day) // 3)
        months = [end_day - MONTH_DAYS * back for back in range(MONTHS, -1, -1)]
        return cls(
            cut - choice_days if choice_days >= LEAST_CHOICE_DAYS else None,
            cut,
            end_day,
            tuple(day for day in months if day >= first_day),
        )

    @property
    def all(self) -> list[int]:
        """Every day of which a snapshot is needed, ascending."""
        return sorted({*self.months, self.cut, self.end, self.cut if self.choice is None else self.choice})


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model document that is valid, and the report on it; both hold no NaN."""

    document: Document
    report: Document


def calibrate(
    base: Model,
    snapshots: Mapping[int, Snapshot],
    days: Days,
    time_unit: TimeUnit,
    capacities: Mapping[str, str],
) -> Calibrated:
    """Fit what a history can tell; what it says too little about stays as it is in `base`, and the report says so.

    1. Lifetime value, to the cut for the report and to the end for the model.
    2. Scales, segments and limits, to the end; and the tiers, where they are given capacities.
    3. The same to the cut, held against what came after it. Drift is told since the calibration of `base`, or else
       since the cut.

    `snapshots` are those of `days.all`, taken with `base`.

    Raises:
        CapacityError: No threshold meets the capacities.
        RefusedError: No lifetime value can be fitted: nobody's future could be told.
    """
    cut, end = snapshots[days.cut], snapshots[days.end]
    if not len(end):
        raise RefusedError("there is no customer to fit anything to", {})
    lifetime = fit_lifetime_value(  # 1
        None if days.choice is None else snapshots[days.choice], cut, end, time_unit
    )
    report: Document = {
        "history": {
            "choice": None if days.choice is None else format_day(days.choice),
            "cut": format_day(days.cut),
            "until": format_day(days.end),
            "holdout_days": days.end - days.cut,
            "customers_at_cut": len(cut),
            "customers": len(end),
        },
        "lifetime_value": lifetime.report,
    }
    if lifetime.at_end is None:
        warnings = lifetime.warnings
        raise RefusedError(str(lifetime.report["reason"]), {**report, "warnings": warnings})
    document = base.model_dump(mode="json")
    scales = fit_scales(_with(document, lifetime.at_end), end)  # 2
    fitted, tiers = scales.document, None
    warnings = [*lifetime.warnings, *scales.warnings]
    if capacities:
        tiers, tier_warnings = _sized_tiers(fitted, end, capacities)
        warnings += tier_warnings
    model = Model.model_validate(fitted)
    at_cut = _model_at_cut(document, lifetime, cut)  # 3
    validation = None if at_cut is None else validate(at_cut, cut, end)
    if validation is not None:
        fitted["calibration"]["segments"] = _worth(validation)
    report |= {
        "scales": scales.report,
        "tiers": tiers,
        "validation": validation,
        "potential": None if at_cut is None else validate_potential(at_cut, cut, end),
        "stability": stability((snapshots[day] for day in days.months), model),
        "drift": drift(at_cut if base.calibration is None and at_cut is not None else base, end),
    }
    return Calibrated(Model.model_validate(fitted).model_dump(mode="json"), {**report, "warnings": warnings})


def _sized_tiers(
    document: Document, snapshot: Snapshot, capacities: Mapping[str, str]
) -> tuple[Document, list[str]]:
    """Put thresholds that keep to the capacities into a document; gives how they came about."""
    model = Model.model_validate(document)
    features = snapshot.features(model)
    values = score(features, model).value[features.order_count > 0]
    found = fit_tiers(values, capacities, TierThresholds.model_validate(document["tiers"]["by_value"]))
    document["tiers"] |= {"by_value": found.by_value.model_dump(mode="json"), "capacities": dict(capacities)}
    return {"rooms": [asdict(room) for room in found.rooms]}, list(found.warnings)


def _model_at_cut(base: Document, lifetime: LifetimeValueFit, cut: Snapshot) -> Model | None:
    """The model that knows nothing after the cut; None where there was too little to fit one."""
    if lifetime.at_cut is None or not len(cut):
        return None
    return Model.model_validate(fit_scales(_with(base, lifetime.at_cut), cut).document)


def _worth(validation: Document) -> Document:
    """What customers of each segment brought in the holdout, for the model file: `explain` tells of the differences."""
    return {
        found["standing"]: {
            "days": validation["period"]["days"],
            "customers": found["customers"],
            "revenue_per_customer": found["revenue_per_customer"],
            "margin_per_customer": found["margin_per_customer"],
        }
        for found in validation["standings"]["segment"]
        if found["customers"] > 0
    }


def _with(document: Document, lifetime_value: Document) -> Document:
    """The document with fitted lifetime value; a discount rate, which is nobody's to fit, stays."""
    return {**document, "lifetime_value": {**document["lifetime_value"], **lifetime_value}}
