"""The calibration report as one HTML page: nothing is loaded from elsewhere, nothing runs in it.

Warnings come first. Sections that are known get plots and tables of their own; all else in the report is shown as it
is, so that the page leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Final

from schemas.documents import Document
from streams.reports import plots as plots
from streams.reports.fit import fit_section
from streams.reports.parts import (
    STYLE,
    Markup,
    anything,
    paragraph,
    percent,
    section,
    text,
    title,
    words,
)
from streams.reports.sections import (
    data_quality_section,
    drift_section,
    stability_section,
    validation_section,
)

NO_PLOTS: Final = "the plots are left out: matplotlib is not installed (pip install 'ebbtide[calibration]')"


def write_html(report: Document, path: Path) -> None:
    """Write the page of a report; `path` is replaced. Raises `OSError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: Document) -> str:
    """The whole page; the same report gives the same page."""
    drawn = plots.are_available()
    model = report.get("model") or {}
    heading = f"Calibration of {model.get('name', 'a value model')} {model.get('version', '')}".strip()
    parts = [
        (key, make(report[key], report, drawn))
        for key, make in SECTIONS.items()
        if isinstance(report.get(key), dict)
    ]
    rest = {
        key: part for key, part in report.items() if key not in SECTIONS and key not in ("warnings", "model")
    }
    scalars = {key: part for key, part in rest.items() if not isinstance(part, (dict, list))}
    for key, part in rest.items():
        if key not in scalars and part:
            parts.append((key, section(title(key), anything(part), anchor=key)))
    links = "".join(f'<a href="#{escape(key)}">{text(title(key))}</a>' for key, _ in parts)
    lead = ", ".join(f"{words(key)} {text(value)}" for key, value in scalars.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(heading)}</h1><p class="lead">{lead}</p>'
        f"{_warnings(report, drawn)}{_tiles(report)}<nav>{links}</nav>{''.join(part for _, part in parts)}"
        "</main></body></html>\n"
    )


def warnings_of(report: Document) -> list[str]:
    """The report's warnings and those of its sections, each once."""
    found = [str(warning) for warning in report.get("warnings") or []]
    for key, part in report.items():
        if isinstance(part, dict):
            of = f"{words(key)}: "
            told = [str(warning).removeprefix(of) for warning in part.get("warnings") or []]
            found += [f"{of}{warning}" for warning in told if warning not in found]
    return list(dict.fromkeys(found))


def _warnings(report: Document, drawn: bool) -> Markup:
    warnings = [*warnings_of(report), *([] if drawn else [NO_PLOTS])]
    if not warnings:
        return section(
            "No warnings", paragraph("Nothing was found that speaks against this model."), anchor="warnings"
        )
    items = "".join(f"<li>{text(warning)}</li>" for warning in warnings)
    count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
    return Markup(f'<section id="warnings" class="warnings"><h2>{count}</h2><ul>{items}</ul></section>')


def _tiles(report: Document) -> Markup:
    told = "".join(
        f'<div class="tile"><b>{text(big)}</b><span>{text(small)}</span></div>'
        for big, small in _told(report)
    )
    return Markup(f'<div class="tiles">{told}</div>')


def _told(report: Document) -> Iterator[tuple[object, str]]:
    """What a reader in a hurry looks for."""
    fitted, validated = report.get("lifetime_value") or {}, report.get("validation") or {}
    stable, drifted = report.get("stability") or {}, report.get("drift") or {}
    if fitted.get("chosen"):
        yield words(fitted["chosen"]), "model of purchases"
    purchases = validated.get("purchases")
    if purchases and purchases.get("total_bias") is not None:
        yield (
            Markup(f"{purchases['total_bias']:+.1%}"),
            "expected against actual purchases of the holdout, in all",
        )
    for name, small in (("churn_risk_reversed", "churn risk"), ("recency_reversed", "recency alone")):
        found = (validated.get("ranking") or {}).get(name) or {}
        if found.get("auc") is not None:
            yield Markup(f"{found['auc']:.3f}"), f"area under the ROC curve, {small}"
    deciles = validated.get("deciles")
    if deciles and deciles[0]["share_of_purchases"] is not None:
        yield percent(deciles[0]["share_of_purchases"]), "of later purchases are the top decile's"
    segment = (stable.get("dimensions") or {}).get("segment") or {}
    if segment.get("kept_share") is not None:
        yield percent(segment["kept_share"]), "keep their segment from one snapshot to the next"
    if drifted.get("metrics"):
        moved = sum(found["verdict"] != "stable" for found in drifted["metrics"].values())
        yield moved, f"of {len(drifted['metrics'])} metrics have drifted"


SECTIONS: Final[dict[str, Callable[[Document, Document, bool], Markup]]] = {
    "lifetime_value": fit_section,
    "validation": validation_section,
    "stability": stability_section,
    "drift": drift_section,
    "data_quality": data_quality_section,
}
"""Parts of the report that have a section made for them, in the order of the page."""
