"""The report's section on lifetime value: what was fitted, in which units, and how each model did on later history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from schemas.documents import Document
from streams.reports.parts import (
    Markup,
    anything,
    flagged,
    paragraph,
    percent,
    precise,
    section,
    table,
    words,
)

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


def fit_section(found: Document, report: Document, drawn: bool) -> Markup:
    """Fits with their units, what they did beside naive predictions, and all else that the report says of them."""
    unit = str(found.get("time_unit") or "time unit")
    currency = str((report.get("model") or {}).get("base_currency") or "base units")
    parts = [
        paragraph(
            f"Chosen: {words(found.get('chosen') or 'none')}. Times are in {unit}s, money in {currency}."
        )
    ]
    if found.get("reason"):
        parts.append(paragraph(f"{found['reason']}.", "note"))
    parts.append(_comparison(found.get("holdout") or {}, "Holdout: reported, and not used to choose"))
    parts.append(_comparison(found.get("choice") or {}, "The days to choose by, before the holdout"))
    rest = {key: part for key, part in found.items() if key not in _PLACED}
    in_file = rest.get("model_file")
    parts += _fits(found.get("models"), unit, currency, "up to the cut")
    if isinstance(in_file, dict) and "models" in in_file:
        parts += _fits(in_file["models"], unit, currency, "for the model file")
        rest["model_file"] = {key: part for key, part in in_file.items() if key != "models"}
    if rest:
        parts.append(anything(rest))
    return section("Lifetime value", *parts, anchor="lifetime_value")


def _fits(models: Document | None, unit: str, currency: str, until: str) -> list[Markup]:
    """How each fit went, and its parameters."""
    if not models:
        return []
    rows = [
        (
            words(name),
            flagged(fit.get("status"), fit.get("status") != "converged"),
            fit.get("customers"),
            precise(fit.get("log_likelihood")),
            fit.get("reason"),
        )
        for name, fit in models.items()
    ]
    head = ("model", "status", "customers", "log-likelihood", "reason")
    values = list(_parameters(models, unit, currency))
    return [
        table(head, rows, f"Fits {until}"),
        *([table(("model", "parameter", "value", "unit"), values, f"Parameters {until}")] if values else []),
    ]


def _parameters(models: Document, unit: str, currency: str) -> Iterator[tuple[object, ...]]:
    units = {
        **dict.fromkeys(IN_TIME, f"{unit}s"),
        **dict.fromkeys(IN_MONEY, currency),
        **dict.fromkeys(PER_TIME, f"purchases per {unit}"),
    }
    for name, fit in models.items():
        for parameter, value in (fit.get("parameters") or {}).items():
            shown = Markup(_size(value)) if isinstance(value, list) else precise(value)
            yield words(name), words(parameter), shown, units.get(parameter, "shape, without a unit")


def _size(values: list[Any]) -> str:
    """How many numbers a table has: they are for the machine, and in the JSON report."""
    if values and isinstance(values[0], list):
        return f"{len(values)} × {len(values[0])} numbers"
    return f"{len(values)} numbers"


def _comparison(compared: Document, title: str) -> Markup:
    """What each model and each naive prediction did, in one table, and what else is said of the period."""
    naive = compared.get("naive")
    candidates = {**compared, **(naive if isinstance(naive, dict) else {})}
    told = {
        name: part
        for name, part in candidates.items()
        if isinstance(part, dict) and any(measure in part for measure in _MEASURES)
    }
    measures = [
        measure for measure in _MEASURES if any(part.get(measure) is not None for part in told.values())
    ]
    rows = [
        (words(name), *(_measure(measure, part.get(measure)) for measure in measures))
        for name, part in told.items()
    ]
    rest = {key: part for key, part in compared.items() if key not in told and key != "naive"}
    shown = table(("prediction", *(_MEASURES[measure] for measure in measures)), rows, title) if rows else ""
    return Markup(f"{shown}{anything(rest) if rest else ''}")


def _measure(name: str, value: float | None) -> object:
    return percent(value) if name in _SHARES else value
