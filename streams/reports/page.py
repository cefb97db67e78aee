"""The calibration report as one HTML page: nothing is loaded from elsewhere, nothing runs in it.

Warnings come first, then what the stream itself did; the statistics behind it are folded away. Sections that are known
get plots and tables of their own; all else in the report is shown as it is, so that the page leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from enrichment.calibration.drift import LARGE, MODERATE
from schemas.documents import Document
from streams.reports import drawing, plots
from streams.reports.fit import fitted_of
from streams.reports.formats import percent, words
from streams.reports.rendering import render

NO_PLOTS: Final = "the plots are left out: matplotlib is not installed (pip install 'ebbtide[calibration]')"
SECTIONS: Final = ("lived", "lifetime_value", "validation", "stability", "drift", "data_quality")
"""Parts of the report that have a template of their own, in the order of the page."""


def write_html(report: Document, path: Path) -> None:
    """Write the page of a report; `path` is replaced. Raises `OSError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: Document) -> str:
    """The whole page; the same report gives the same page."""
    return render("calibration.html.jinja", heading=_heading(report.get("model") or {}), body=body_of(report))


def _heading(model: Document) -> str:
    named = [str(model[key]) for key in ("name", "version") if model.get(key)]
    return f"{' '.join(['Value model', ', '.join(named)]).strip()}: how good it is"


def body_of(report: Document) -> Markup:
    """The page below its heading, to be put into another page."""
    drawn = drawing.are_available()
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
    warned = ((report.get("lived") or {}).get("warned") or {}).get("at_risk_or_lapsed")
    if warned and warned["recall"] is not None:
        days = report["lived"]["window_days"]
        yield (
            percent(warned["recall"]),
            f"of those who stayed away {days} days were at_risk or lapsed before; "
            f"{percent(warned['recency']['recall'])} were among as many who were silent longest",
        )
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
