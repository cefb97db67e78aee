"""From snapshots of a history to a fitted model document, and a report on how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from enrichment.calibration.drift import drift
from enrichment.calibration.engagement_weights import reweighted, with_weights
from enrichment.calibration.lifetime import fit_lifetime_value
from enrichment.calibration.potential import unproven, validate_potential
from enrichment.calibration.rules.hysteresis import fit_hysteresis, weeks_before
from enrichment.calibration.rules.own_return import with_own_return
from enrichment.calibration.rules.scales import fit_scales
from enrichment.calibration.rules.silence import LEFT_TO_THE_HISTORY, SilenceWanted, fit_silence
from enrichment.calibration.rules.tier_points import fit_tier_points
from enrichment.calibration.season import YEAR_OF_WEEKS_DAYS
from enrichment.calibration.snapshot import Snapshot
from enrichment.calibration.stability import stability
from enrichment.calibration.validation import validate
from enrichment.days import format_day
from enrichment.model import Model, TimeUnit
from enrichment.scoring.scores import score
from enrichment.tiers.capacity import TierRoom, fit_tiers
from schemas.documents import Document

LEAST_CHOICE_DAYS: Final = 14
"""A family of models is not chosen by fewer days than these."""
ROLLING_CUTS: Final = 3
LEAST_DRAWN: Final = 100
"""A threshold by fewer customers of a sample is told of: its error is more than a tenth of the tier's size."""
MONTHS: Final = 12
MONTH_DAYS: Final = 30
LEAST_HISTORY_DAYS: Final = 90
"""A fit of a year ago must have so many days before it, and at least as many as the holdout has."""


class CalibrationError(ValueError):
    """A history to which no model can be fitted; the message says why, and `report` what could be told."""

    def __init__(self, message: str, report: Document) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, slots=True)
class Days:
    """The UTC days at whose ends a history is looked at.

    The model is fitted to `end`; the report is on a fit to `cut`, held against what came after it. The family of models
    is chosen by fits to `choices`, ascending, held against what came until `cut`; there are none where too little comes
    before it. `last_year` are the days a year before the cut and the end, where there is history before them.
    """

    choices: tuple[int, ...]
    last_year: tuple[int, int] | None
    cut: int
    end: int
    months: tuple[int, ...]
    weeks_to_cut: tuple[int, ...] = ()
    weeks_to_end: tuple[int, ...] = ()

    @classmethod
    def of(cls, first_day: int, end_day: int, holdout_days: int) -> Days:
        """The days for a history whose first record is of `first_day`.

        The choice is made by `holdout_days` too, or by a third of what is before the cut where that is less; and by two
        thirds and a third of that. `months` are 30 days long, at most 12 of them; of the weeks before the cut and the
        end only some customers are looked at.
        """
        cut = end_day - holdout_days
        choice_days = min(holdout_days, (cut - first_day) // 3)
        choices = (cut - choice_days * part // ROLLING_CUTS for part in range(ROLLING_CUTS, 0, -1))
        last_year = cut - YEAR_OF_WEEKS_DAYS, end_day - YEAR_OF_WEEKS_DAYS
        is_known = last_year[0] - first_day >= max(holdout_days, LEAST_HISTORY_DAYS)
        months = [end_day - MONTH_DAYS * back for back in range(MONTHS, -1, -1)]
        return cls(
            tuple(day for day in choices if cut - day >= LEAST_CHOICE_DAYS),
            last_year if is_known else None,
            cut,
            end_day,
            tuple(day for day in months if day >= first_day),
            tuple(weeks_before(cut, first_day)),
            tuple(weeks_before(end_day, first_day)),
        )

    @property
    def all(self) -> list[int]:
        """Every day of which a snapshot of everyone is needed, ascending."""
        return sorted({*self.months, *self.choices, *(self.last_year or ()), self.cut, self.end})

    @property
    def weeks(self) -> list[int]:
        """Every day of which a snapshot of some customers is needed, ascending."""
        return sorted({*self.weeks_to_cut, *self.weeks_to_end})


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A model document that is valid, and the report on it; both hold no NaN.

    `at_cut` is the model that the report judges, which knows nothing later than the cut; None where nothing could be
    fitted up to it.
    """

    document: Document
    report: Document
    at_cut: Model | None


def calibrate(
    base: Model,
    snapshots: Mapping[int, Snapshot],
    days: Days,
    time_unit: TimeUnit,
    capacities: Mapping[str, str],
    weights: Mapping[str, float] | None = None,
    silence: SilenceWanted = LEFT_TO_THE_HISTORY,
    weeks: Mapping[int, Snapshot] | None = None,
    *,
    is_judged: bool = True,
    drawn_share: float = 1.0,
) -> Calibrated:
    """Fit what a history can tell; what it says too little about stays as it is in `base`, and the report says so.

    1. Lifetime value, to the cut for the report and to the end for the model.
    2. Scales, segments and limits, to the end, with the engagement `weights` that were asked for; the window of silence
       and the limits of its risk, by `silence`; the tiers, by `capacities` and those that `base` keeps; and hysteresis.
    3. The same to the cut, held against what came after it; engagement weights, which were fitted to that, are left out
       there. Drift is told since the calibration of `base`.

    `snapshots` are those of `days.all`, taken with `base`; `weeks` those of `days.weeks`, of some customers, without
    which hysteresis stays as it is. What is not judged goes without the third step, and without the stability of its
    standings. `drawn_share` is the share of all customers that these are: a capacity is for all.

    Raises:
        CapacityError: No threshold meets the capacities.
        CalibrationError: No lifetime value can be fitted: nobody's future could be told.
    """
    cut, end = snapshots[days.cut], snapshots[days.end]
    report: Document = {
        "history": {
            "choice": format_day(days.choices[0]) if days.choices else None,
            "cut": format_day(days.cut),
            "until": format_day(days.end),
            "holdout_days": days.end - days.cut,
            "customers_at_cut": len(cut),
            "customers": len(end),
            "customers_in_all": round(len(end) / drawn_share),
        }
    }
    if not len(end):
        denied = f": {end.denied:,} do not allow profiling" if end.denied else ""
        raise CalibrationError(f"there is no customer to fit anything to{denied}", report)
    last_year = (
        None if days.last_year is None else (snapshots[days.last_year[0]], snapshots[days.last_year[1]])
    )
    lifetime = fit_lifetime_value(
        [snapshots[day] for day in days.choices], cut, end, time_unit, last_year
    )  # 1
    report["lifetime_value"] = lifetime.report
    if lifetime.at_end is None:
        raise CalibrationError(str(lifetime.report["reason"]), report)
    document = base.model_dump(mode="json")
    by_margin = base.tiers.by == "expected_margin" or "by" not in base.tiers.model_fields_set
    kept = {str(tier): size for tier, size in base.tiers.capacities.items()}
    room = _Room({**kept, **capacities}, drawn_share)

    def weighted(snapshot: Snapshot) -> Snapshot:
        return snapshot if weights is None else reweighted(snapshot, reweighting)

    reweighting = base if weights is None else Model.model_validate(with_weights(document, dict(weights)))
    fitted = _fitted(
        reweighting.model_dump(mode="json"),
        lifetime.at_end,
        weighted(end),
        room,
        silence,
        by_margin,
        [] if weeks is None else [weighted(weeks[day]) for day in days.weeks_to_end],
    )  # 2
    model = Model.model_validate(fitted.document)
    at_cut = None  # 3
    if is_judged and lifetime.at_cut is not None and len(cut):
        weeks_to_cut = [] if weeks is None else [weeks[day] for day in days.weeks_to_cut]
        at_cut = Model.model_validate(
            _fitted(document, lifetime.at_cut, cut, room, silence, by_margin, weeks_to_cut).document
        )
    validation = None if at_cut is None else validate(at_cut, cut, end)
    potential = None if at_cut is None else validate_potential(at_cut, cut, end)
    if validation is not None:
        fitted.document["calibration"]["segments"] = _worth(validation)
    report |= {
        "scales": fitted.scales,
        "tiers": fitted.tiers,
        "silence": fitted.silence,
        "hysteresis": fitted.hysteresis,
        "validation": validation,
        "potential": potential,
        "stability": stability((weighted(snapshots[day]) for day in days.months), model)
        if is_judged
        else None,
        "drift": drift(base, end),
        "warnings": [
            *lifetime.warnings,
            *fitted.warnings,
            *(unproven(potential) if potential is not None else []),
        ],
    }
    fitted_model = Model.model_validate(fitted.document)
    return Calibrated(fitted_model.model_dump(mode="json", exclude_none=True), report, at_cut)


@dataclass(frozen=True, slots=True)
class _Room:
    """The capacities of tiers, among all customers, and the share of these that is looked at."""

    capacities: Mapping[str, str]
    drawn_share: float

    @property
    def drawn(self) -> dict[str, str]:
        """The capacities among those who are looked at: a count becomes less, a share stays."""
        return {
            tier: size
            if size.endswith("%")
            else str(max(round(int(size) * self.drawn_share), min(int(size), 1)))
            for tier, size in self.capacities.items()
        }

    def among_all(self, room: TierRoom) -> Document:
        """A tier's room in customers of all."""
        capacity, drawn = self.capacities.get(room.tier), room.places
        is_count = capacity is not None and not capacity.endswith("%")
        return {
            **asdict(room),
            "capacity": capacity,
            "places": int(capacity or 0) if is_count else drawn and round(drawn / self.drawn_share),
            "customers": round(room.customers / self.drawn_share),
            "tied": round(room.tied / self.drawn_share),
        }

    def warnings(self, rooms: Sequence[TierRoom]) -> list[str]:
        """Of each threshold that rests on few customers, because the others were not looked at."""
        return [
            f"the threshold of {room.tier} rests on {room.places} of the customers who were drawn; "
            "--customers takes more of them"
            for room in rooms
            if self.drawn_share < 1 and room.places is not None and room.places < LEAST_DRAWN
        ]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A document with everything fitted to a snapshot, and how its scales, tiers and warnings came about."""

    document: Document
    scales: Document
    tiers: Document | None
    silence: Document
    hysteresis: Document
    warnings: list[str]


def _fitted(
    document: Document,
    lifetime_value: Document,
    snapshot: Snapshot,
    room: _Room,
    wanted: SilenceWanted,
    by_margin: bool,
    weeks: Sequence[Snapshot],
) -> _Fitted:
    """Put lifetime value into a document, then scales, the window of silence, tiers, hysteresis, and who is waited for.

    Tiers go by expected margin, unless the model to begin with says that they go by value. A discount rate, which is
    nobody's to fit, stays.
    """
    document = {**document, "lifetime_value": {**document["lifetime_value"], **lifetime_value}}
    scales = fit_scales(document, snapshot)
    silence = fit_silence(scales.document, snapshot, wanted)
    fitted, of_scales = silence.document, scales.report
    warnings = [*scales.warnings, *silence.warnings]
    if by_margin:
        tiers = fit_tier_points(fitted, snapshot)
        fitted, warnings = tiers.document, [*warnings, *tiers.warnings]
        if tiers.report is not None:
            of_scales = {**of_scales, "tiers": tiers.report}
    rooms = None
    if room.capacities:
        fitted, rooms, of_capacities = _sized(fitted, snapshot, room)
        of_scales = {**of_scales, "tiers": {"action": "sized", "reason": "by capacities: see `tiers`"}}
        warnings += of_capacities
    calm = fit_hysteresis(with_own_return(fitted), weeks)
    return _Fitted(calm.document, of_scales, rooms, silence.report, calm.report, [*warnings, *calm.warnings])


def _sized(fitted: Document, snapshot: Snapshot, room: _Room) -> tuple[Document, Document, list[str]]:
    """The document with thresholds of tiers by their capacities, what room each has, and warnings."""
    model = Model.model_validate(fitted)
    features = snapshot.features(model)
    points = score(features, model).tier_points[features.order_count > 0]
    found = fit_tiers(points, room.drawn, model.tiers.thresholds)
    tiers = {
        **fitted["tiers"],
        f"by_{model.tiers.by}": found.thresholds.model_dump(mode="json"),
        "capacities": dict(room.capacities),
    }
    rooms = {"rooms": [room.among_all(each) for each in found.rooms]}
    return {**fitted, "tiers": tiers}, rooms, [*found.warnings, *room.warnings(found.rooms)]


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
