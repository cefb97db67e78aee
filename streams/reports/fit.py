"""What the report's section on lifetime value shows: fits, their units, and how each model did on later history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from schemas.documents import Document

IN_TIME: Final = ("alpha", "beta", "typical_gap", "active_within", "silences")
IN_MONEY: Final = ("gamma",)
PER_TIME: Final = ("after_first", "paces", "hazards")
"""Parameters with a unit; all others are shapes, and have none."""
_PLACED: Final = ("chosen", "reason", "time_unit", "days_per_unit", "models", "holdout", "choice", "warnings")
_MEASURES: Final = {
    "correlation": "correlation",
    "mean_absolute_error": "mean absolute error",
    "mean_poisson_deviance": "mean Poisson deviance",
    "top_decile_share": "top decile's share",
    "total_bias": "bias of the total",
    "auc_probability_active": "AUC, probability active",
    "auc_churn_risk": "AUC, churn risk reversed",
}
_SHARES: Final = ("top_decile_share", "total_bias")


class Fits(NamedTuple):
    """Fitted models by name, and a row for each of their parameters."""

    models: Document
    parameters: list[Document]


class Comparison(NamedTuple):
    """What each model and each naive prediction did in a period, and what else is said of the period."""

    rows: list[Document]
    columns: list[tuple[str, ...]]
    rest: Document


class Fitted(NamedTuple):
    """The section's parts; `rest` is all else that the report says of the fits."""

    chosen: str
    reason: str | None
    unit: str
    holdout: Comparison
    choice: Comparison
    up_to_cut: Fits
    for_file: Fits
    rest: Document


def fitted_of(found: Document, currency: str) -> Fitted:
    """The parts of a report's `lifetime_value`."""
    unit = str(found.get("time_unit") or "time unit")
    rest = {key: part for key, part in found.items() if key not in _PLACED}
    in_file = rest.get("model_file")
    models_in_file: Document | None = None
    if isinstance(in_file, dict) and "models" in in_file:
        models_in_file = in_file["models"]
        rest["model_file"] = {key: part for key, part in in_file.items() if key != "models"}
    return Fitted(
        chosen=found.get("chosen") or "none",
        reason=found.get("reason"),
        unit=unit,
        holdout=_comparison(found.get("holdout") or {}),
        choice=_comparison(found.get("choice") or {}),
        up_to_cut=_fits(found.get("models"), unit, currency),
        for_file=_fits(models_in_file, unit, currency),
        rest=rest,
    )


def _fits(models: Document | None, unit: str, currency: str) -> Fits:
    return Fits(models or {}, list(_parameters(models or {}, unit, currency)))


def _parameters(models: Document, unit: str, currency: str) -> Iterator[Document]:
    units = {
        **dict.fromkeys(IN_TIME, f"{unit}s"),
        **dict.fromkeys(IN_MONEY, currency),
        **dict.fromkeys(PER_TIME, f"purchases per {unit}"),
    }
    for name, fit in models.items():
        for parameter, value in _flat(fit.get("parameters") or {}):
            yield {
                "model": name,
                "parameter": parameter,
                "value": value,
                "unit": units.get(parameter, "shape, without a unit"),
            }


def _flat(parameters: Document, within: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters by name; one within another by both names."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name} ")
        else:
            yield within + name, value


def _comparison(compared: Document) -> Comparison:
    naive = compared.get("naive")
    candidates: Document = {**compared, **(naive if isinstance(naive, dict) else {})}
    told: dict[str, dict[str, Any]] = {
        name: part
        for name, part in candidates.items()
        if isinstance(part, dict) and any(measure in part for measure in _MEASURES)
    }
    measures = [
        measure for measure in _MEASURES if any(part.get(measure) is not None for part in told.values())
    ]
    return Comparison(
        rows=[{**part, "name": name} for name, part in told.items()],
        columns=[
            ("prediction", "name", "words"),
            *(
                (_MEASURES[measure], measure, "percent" if measure in _SHARES else "shown")
                for measure in measures
            ),
        ],
        rest={key: part for key, part in compared.items() if key not in told and key != "naive"},
    )
