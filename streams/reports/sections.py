"""The report's sections on validation, stability, drift and data quality: plots, tables, and a few words to each."""

from __future__ import annotations

from collections.abc import Iterator

from enrichment.calibration.drift import LARGE, MODERATE
from schemas.documents import Document
from streams.reports import plots as plots
from streams.reports.parts import (
    Markup,
    figures,
    flagged,
    money,
    number,
    paragraph,
    percent,
    section,
    table,
    text,
    title,
    words,
)


def validation_section(found: Document, report: Document, drawn: bool) -> Markup:
    """A model held against what came after a cut; without plots where `drawn` is false."""
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
        parts.append(Markup(f"<h3>{text(title(dimension))} at the cut, and what came of it</h3>"))
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


def stability_section(found: Document, report: Document, drawn: bool) -> Markup:
    """How many keep their standing, and where the others go."""
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


def drift_section(found: Document, report: Document, drawn: bool) -> Markup:
    """Which metrics have moved since the calibration, and when to review."""
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


def data_quality_section(found: Document, report: Document, drawn: bool) -> Markup:
    """What was found on the way: counts, outliers, what is missing."""
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
            *((f"of which {reason}", count) for reason, count in records["dead_letters_by_reason"].items()),
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
        table(("what", "count"), rows),
        table(head, far, "Outliers, by the median absolute deviation of logarithms"),
        table(("metric", "not defined for"), undefined, "Metrics that are missing for some")
        if undefined
        else "",
        anchor="data_quality",
    )


def _currency(report: Document) -> str:
    return str((report.get("model") or {}).get("base_currency") or "base units")
