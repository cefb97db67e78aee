"""The report's section on lifetime value: what was fitted, in which units, and how each model did on the holdout."""

from __future__ import annotations

from typing import Any, Final

from streams.report_parts import Markup, anything, flagged, paragraph, percent, precise, section, table, words

Document = dict[str, Any]

IN_TIME: Final = ("alpha", "beta")
IN_MONEY: Final = ("gamma",)
"""Parameters that are scales; all others are shapes, and have no unit."""
_PLACED: Final = {"chosen", "time_unit", "models", "holdout", "warnings"}
_MEASURES: Final = ("correlation", "mean_absolute_error", "top_decile_share", "total_bias")


def fit_section(found: Document, report: Document, drawn: bool) -> Markup:
    """Fits with their units, the holdout beside naive predictions, and all else that the report says of them."""
    unit = str(found.get("time_unit") or "time unit")
    currency = str((report.get("model") or {}).get("base_currency") or "base units")
    parts = [
        paragraph(
            f"Chosen: {words(found.get('chosen') or 'none')}. Times are in {unit}s, money in {currency}."
        )
    ]
    models = found.get("models") or {}
    if models:
        parts += [_fits(models), _parameters(models, unit, currency)]
    parts.append(_holdout(found.get("holdout") or {}))
    rest = {key: part for key, part in found.items() if key not in _PLACED}
    if rest:
        parts.append(anything(rest))
    return section("Lifetime value", *parts, anchor="lifetime_value")


def _fits(models: Document) -> Markup:
    rows = []
    for name, fit in models.items():
        status = fit.get("status")
        shown = flagged(status, status != "converged")
        likelihood = precise(fit.get("log_likelihood"))
        rows.append((words(name), shown, fit.get("customers"), likelihood, fit.get("reason")))
    return table(("model", "status", "customers", "log-likelihood", "reason"), rows, "Fits")


def _parameters(models: Document, unit: str, currency: str) -> Markup:
    units = {**dict.fromkeys(IN_TIME, f"{unit}s"), **dict.fromkeys(IN_MONEY, currency)}
    rows = [
        (words(name), parameter, precise(value), units.get(parameter, "shape, without a unit"))
        for name, fit in models.items()
        for parameter, value in (fit.get("parameters") or {}).items()
    ]
    return table(("model", "parameter", "value", "unit"), rows, "Parameters")


def _holdout(holdout: Document) -> Markup:
    """How each model did, with naive predictions in the same table, and the areas under the ROC curve."""
    rows = [
        (words(name), *(_measure(measure, part.get(measure)) for measure in _MEASURES))
        for name, part in holdout.items()
        if isinstance(part, dict) and any(measure in part for measure in _MEASURES)
    ]
    rest = {
        key: part
        for key, part in holdout.items()
        if not (isinstance(part, dict) and any(measure in part for measure in _MEASURES))
    }
    shown = table(("prediction", *map(words, _MEASURES)), rows, "Holdout") if rows else ""
    return Markup(f"{shown}{anything(rest) if rest else ''}")


def _measure(name: str, value: float | None) -> object:
    return percent(value) if name in ("top_decile_share", "total_bias") else value
