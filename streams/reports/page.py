"""The calibration report as one HTML page: nothing is loaded from elsewhere, nothing runs in it.

Warnings come first. Sections that are known get plots and tables of their own; all else in the report is shown as it
is, so that the page leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from enrichment.calibration.drift import LARGE, MODERATE
from schemas.documents import Document
from streams.reports import plots as plots
from streams.reports.fit import fitted_of
from streams.reports.formats import percent, words
from streams.reports.rendering import render

NO_PLOTS: Final = "the plots are left out: matplotlib is not installed (pip install 'ebbtide[calibration]')"
SECTIONS: Final = ("lifetime_value", "validation", "stability", "drift", "data_quality")
"""Parts of the report that have a template of their own, in the order of the page."""


def write_html(report: Document, path: Path) -> None:
    """Write the page of a report; `path` is replaced. Raises `OSError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: Document) -> str:
    """The whole page; the same report gives the same page."""
    model = report.get("model") or {}
    heading = f"Calibration of {model.get('name', 'a value model')} {model.get('version', '')}".strip()
    return render("calibration.html.jinja", heading=heading, body=body_of(report))


def body_of(report: Document) -> Markup:
    """The page below its heading, to be put into another page."""
    drawn = plots.are_available()
    known = [key for key in SECTIONS if isinstance(report.get(key), dict)]
    rest = {
        key: part for key, part in report.items() if key not in SECTIONS and key not in ("warnings", "model")
    }
    facts = {key: part for key, part in rest.items() if not isinstance(part, (dict, list))}
    currency = str((report.get("model") or {}).get("base_currency") or "base units")
    values: dict[str, Any] = {
        "report": report,
        "facts": facts,
        "warnings": [*warnings_of(report), *([] if drawn else [NO_PLOTS])],
        "tiles": list(_tiles(report)),
        "known": known,
        "others": {key: part for key, part in rest.items() if key not in facts and part},
        "currency": currency,
        "plots": _drawn(report, known, currency) if drawn else {},
        "drift_limits": (MODERATE, LARGE),
    }
    if "lifetime_value" in known:
        values["fitted"] = fitted_of(report["lifetime_value"], currency)
    if "stability" in known:
        values["transitions"] = _transitions(report["stability"])
    return Markup(render("calibration_body.html.jinja", **values))


def warnings_of(report: Document) -> list[str]:
    """The report's warnings and those of its sections, each once."""
    found = [str(warning) for warning in report.get("warnings") or []]
    for key, part in report.items():
        if isinstance(part, dict):
            of = f"{words(key)}: "
            told = [str(warning).removeprefix(of) for warning in part.get("warnings") or []]
            found += [f"{of}{warning}" for warning in told if warning not in found]
    return list(dict.fromkeys(found))


def _tiles(report: Document) -> Iterator[tuple[object, str]]:
    """What a reader in a hurry looks for."""
    fitted, validated = report.get("lifetime_value") or {}, report.get("validation") or {}
    stable, drifted = report.get("stability") or {}, report.get("drift") or {}
    if fitted.get("chosen"):
        yield words(fitted["chosen"]), "model of purchases"
    purchases = validated.get("purchases")
    if purchases and purchases.get("total_bias") is not None:
        yield (
            f"{purchases['total_bias']:+.1%}",
            "expected against actual purchases of the holdout, in all",
        )
    for name, small in (("churn_risk_reversed", "churn risk"), ("recency_reversed", "recency alone")):
        found = (validated.get("ranking") or {}).get(name) or {}
        if found.get("auc") is not None:
            yield f"{found['auc']:.3f}", f"area under the ROC curve, {small}"
    deciles = validated.get("deciles")
    if deciles and deciles[0]["share_of_purchases"] is not None:
        yield percent(deciles[0]["share_of_purchases"]), "of later purchases are the top decile's"
    segment = (stable.get("dimensions") or {}).get("segment") or {}
    if segment.get("kept_share") is not None:
        yield percent(segment["kept_share"]), "keep their segment from one snapshot to the next"
    if drifted.get("metrics"):
        moved = sum(found["verdict"] != "stable" for found in drifted["metrics"].values())
        yield moved, f"of {len(drifted['metrics'])} metrics have drifted"


def _drawn(report: Document, known: list[str], currency: str) -> dict[str, Markup]:
    """The plots of the report's sections, by their names in the templates."""
    return {
        name: Markup(svg)
        for section, draw in plots.OF_SECTION.items()
        if section in known
        for name, svg in draw(report[section], currency)
    }


def _transitions(found: Document) -> dict[str, list[tuple[Any, ...]]]:
    """By dimension: how many have each standing, and which shares of them have which one snapshot later."""
    return {
        dimension: [
            (standing, sum(counts), *shares)
            for standing, counts, shares in zip(
                part["standings"], part["transitions"], part["transition_shares"], strict=True
            )
            if shares is not None
        ]
        for dimension, part in found["dimensions"].items()
    }
