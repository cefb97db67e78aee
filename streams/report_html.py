"""The calibration report as one HTML page: nothing is loaded from elsewhere, nothing runs in it.

Warnings come first. Sections that are known get plots and tables of their own; all else in the report is shown as it
is, so that the page leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any, Final

from enrichment.calibration.drift import LARGE, MODERATE
from streams import report_plots as plots
from streams.report_fit import fit_section
from streams.report_parts import (
    STYLE,
    Markup,
    anything,
    figures,
    flagged,
    money,
    number,
    paragraph,
    percent,
    section,
    table,
    text,
    words,
)

Document = dict[str, Any]

NO_PLOTS: Final = "the plots are left out: matplotlib is not installed (pip install 'ebbtide[calibration]')"


def write_html(report: Document, path: Path) -> None:
    """Write the page of a report; `path` is replaced. Raises `OSError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: Document) -> str:
    """The whole page; the same report gives the same page."""
    drawn = plots.are_available()
    model = report.get("model") or {}
    title = f"Calibration of {model.get('name', 'a value model')} {model.get('version', '')}".strip()
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
            parts.append((key, section(words(key).capitalize(), anything(part), anchor=key)))
    links = "".join(f'<a href="#{escape(key)}">{text(words(key).capitalize())}</a>' for key, _ in parts)
    lead = ", ".join(f"{words(key)} {text(value)}" for key, value in scalars.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{lead}</p>'
        f"{_warnings(report, drawn)}{_tiles(report)}<nav>{links}</nav>{''.join(part for _, part in parts)}"
        "</main></body></html>\n"
    )


def warnings_of(report: Document) -> list[str]:
    """The report's warnings and those of its sections, each once."""
    found = list(report.get("warnings") or [])
    for key, part in report.items():
        if isinstance(part, dict):
            found += [
                f"{words(key)}: {warning}" for warning in part.get("warnings") or [] if warning not in found
            ]
    return list(dict.fromkeys(map(str, found)))


def _warnings(report: Document, drawn: bool) -> Markup:
    warnings = [*warnings_of(report), *([] if drawn else [NO_PLOTS])]
    if not warnings:
        return section(
            "No warnings", paragraph("Nothing was found that speaks against this model."), anchor="warnings"
        )
    items = "".join(f"<li>{text(warning)}</li>" for warning in warnings)
    title = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
    return Markup(f'<section id="warnings" class="warnings"><h2>{title}</h2><ul>{items}</ul></section>')


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


def _validation(found: Document, report: Document, drawn: bool) -> Markup:
    period, purchases = found["period"], found["purchases"]
    parts = [
        paragraph(
            f"{found['customers']:,} customers with an order by {period['cut']}, held against what they did from "
            f"{period['from']} to {period['until']} ({period['days']:,} days): {purchases['actual']:,} purchase days, "
            f"where {number(purchases['expected'])} were expected. {found['not_seen_at_end']:,} were erased or denied "
            f"profiling meanwhile and are left out; {found['newcomers']:,} came later."
        )
    ]
    if found["deciles"] and drawn:
        parts.append(figures(*_validation_plots(found)))
    if found["deciles"]:
        parts += [_decile_table(found, _currency(report)), _ranking_table(found)]
    currency = _currency(report)
    for dimension, rows in found["standings"].items():
        parts.append(
            Markup(f"<h3>{text(words(dimension).capitalize())} at the cut, and what came of it</h3>")
        )
        if drawn and any(row["customers"] for row in rows):
            parts.append(
                figures((plots.standing_plot(dimension, rows, currency), "The line is a 95% interval."))
            )
        parts.append(_standing_table(rows, currency))
    return section("Validation on later history", *parts, anchor="validation")


def _validation_plots(found: Document) -> Iterator[tuple[str, str]]:
    yield plots.decile_plot(found["deciles"]), "Tenths of the customers by expected purchases."
    yield (
        plots.calibration_plot(found["calibration_curve"], "calibration", "purchases per customer"),
        "Groups of customers with like expectations; on the line, they do what was expected.",
    )
    yield plots.frequency_plot(found["by_frequency"]), "By how often customers had come back until the cut."
    yield (
        plots.calibration_plot(found["probability_of_purchase"], "reliability", "share who purchase"),
        "The probability of any purchase in the holdout, and the share who made one.",
    )
    if any(ranked["auc"] is not None for ranked in found["ranking"].values()):
        yield (
            plots.roc_plot(found["ranking"]),
            "Who purchases in the holdout: further to the upper left is better.",
        )


def _decile_table(found: Document, currency: str) -> Markup:
    head = (
        "decile",
        "customers",
        "expected",
        "actual",
        "of purchases",
        "who purchase",
        f"revenue, {currency}",
        "of it",
    )
    rows = [
        (
            row["decile"],
            row["customers"],
            row["expected_purchases"],
            row["actual_purchases"],
            percent(row["share_of_purchases"]),
            percent(row["buyers_share"]),
            money(row["revenue"]),
            percent(row["share_of_revenue"]),
        )
        for row in found["deciles"]
    ]
    return table(head, rows, "Holdout by decile of expected purchases")


def _ranking_table(found: Document) -> Markup:
    rows = [(words(name), ranked["auc"]) for name, ranked in found["ranking"].items()]
    return table(("order of customers", "area under the ROC curve"), rows, "Who purchases in the holdout")


def _standing_table(rows: list[Document], currency: str) -> Markup:
    head = (
        "standing",
        "customers",
        "share",
        f"later revenue per customer, {currency}",
        "± standard error",
        f"margin per customer, {currency}",
        "purchases per customer",
        "who purchase",
    )
    return table(
        head,
        [
            (
                row["standing"],
                row["customers"],
                percent(row["share"]),
                money(row["revenue_per_customer"]),
                money(row["revenue_error"]),
                money(row["margin_per_customer"]),
                row["purchases_per_customer"],
                percent(row["buyers_share"]),
            )
            for row in rows
        ],
    )


def _stability(found: Document, report: Document, drawn: bool) -> Markup:
    periods = found["periods"]
    parts = [
        paragraph(
            "How many of the customers who are in both of two snapshots keep their standing, with hysteresis; by "
            "the plain rules more would move."
        )
    ]
    if periods and drawn:
        parts.append(figures((plots.stability_plot(periods), "From one snapshot to the next.")))
    rows = [
        (
            name,
            percent(part["kept_share"]),
            percent(part["kept_share_plain"]),
            percent(part["least_kept_share"]),
        )
        for name, part in found["dimensions"].items()
    ]
    parts.append(table(("dimension", "keep it", "by the plain rules", "in the least steady period"), rows))
    for name, part in found["dimensions"].items():
        parts.append(_transitions(name, part))
    return section("Stability from month to month", *parts, anchor="stability")


def _transitions(name: str, part: Document) -> Markup:
    """Where customers of each standing are one snapshot later."""
    rows = [
        (standing, sum(counts), *(_tinted(share) for share in shares))
        for standing, counts, shares in zip(
            part["standings"], part["transitions"], part["transition_shares"], strict=True
        )
        if shares is not None
    ]
    return table((f"{name}, from", "customers", *(f"to {to}" for to in part["standings"])), rows)


def _tinted(share: float) -> Markup:
    tint = f"color-mix(in srgb, var(--first) {round(45 * share)}%, transparent)"
    return Markup(f'<span class="cell" style="background:{tint}">{percent(share)}</span>')


def _drift(found: Document, report: Document, drawn: bool) -> Markup:
    parts = [paragraph(f"{found['review'][:1].upper()}{found['review'][1:]}.")]
    if found["metrics"]:
        parts.append(
            paragraph(
                f"{found['customers_now']:,} customers as of {found['as_of']} against {found['customers_then']:,} at "
                f"the calibration up to {found['calibrated_until']}. Below {MODERATE:g} a metric is stable, from "
                f"{LARGE:g} on it is of another population; an index below the one by chance says nothing."
            )
        )
        if drawn:
            parts.append(
                figures(
                    (plots.drift_plot(found["metrics"], MODERATE, LARGE), "The lines are the usual limits.")
                )
            )
        head = (
            "metric",
            "PSI",
            "by chance",
            "verdict",
            "median then",
            "median now",
            "undefined then",
            "undefined now",
        )
        parts.append(table(head, [_drift_row(name, metric) for name, metric in found["metrics"].items()]))
    return section("Drift since the last calibration", *parts, anchor="drift")


def _drift_row(name: str, metric: Document) -> tuple[object, ...]:
    verdict = metric["verdict"]
    return (
        name,
        metric["psi"],
        metric["chance"],
        flagged(verdict, verdict == "large"),
        metric["median_then"],
        metric["median_now"],
        percent(metric["missing_then"]),
        percent(metric["missing_now"]),
    )


def _data_quality(found: Document, report: Document, drawn: bool) -> Markup:
    records, first = found["records"], found["first_orders"]
    rows: list[tuple[object, ...]] = [
        ("customers", found["customers"]),
        ("left out, since profiling is denied", found["denied"]),
        ("without a counted order", found["without_counted_order"]),
        ("with returns only", found["only_returns"]),
        ("whose returns exceed their orders", found["net_negative"]),
        ("refunds of orders that are not in the log", found["refunds_without_order"]),
        ("days of history", first["history_days"]),
        ("share of first orders in the first 31 days", percent(first["in_first_31_days"])),
    ]
    if records is not None:
        rows += [
            ("records read", records["read"]),
            ("duplicates", records["duplicates"]),
            ("dead letters", records["dead_letters"]),
            *((f"… {reason}", count) for reason, count in records["dead_letters_by_reason"].items()),
        ]
    far = [
        (
            words(name),
            part["customers"],
            part["high"],
            percent(part["share_of_total_high"]),
            part["low"],
            part["median"],
            part["largest"],
        )
        for name, part in found["outliers"].items()
    ]
    head = ("of", "customers", "far above", "their share of the total", "far below", "median", "largest")
    undefined = [(name, percent(share)) for name, share in found["missing"].items() if share]
    return section(
        "Data quality",
        table(("", "count"), rows),
        table(head, far, "Outliers, by the median absolute deviation of logarithms"),
        table(("metric", "not defined for"), undefined, "Metrics that are missing for some")
        if undefined
        else "",
        anchor="data_quality",
    )


def _currency(report: Document) -> str:
    return str((report.get("model") or {}).get("base_currency") or "base units")


SECTIONS: Final[dict[str, Callable[[Document, Document, bool], Markup]]] = {
    "lifetime_value": fit_section,
    "validation": _validation,
    "stability": _stability,
    "drift": _drift,
    "data_quality": _data_quality,
}
"""Parts of the report that have a section made for them, in the order of the page."""
