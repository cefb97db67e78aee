"""The plots of the calibration report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Final

from enrichment.calibration.drift import LARGE, MODERATE
from schemas.documents import Document
from streams.reports.drawing import BAD, FIRST, INK, MUTED, SECOND, THIRD, drawing


def validation_plots(found: Document, currency: str) -> Iterator[tuple[str, str]]:
    """The plots of a report's `validation` by name; none of what there is nothing to draw."""
    if found["deciles"]:
        yield "deciles", decile_plot(found["deciles"])
        yield (
            "calibration",
            calibration_plot(found["calibration_curve"], "calibration", "purchases per customer"),
        )
        yield "frequency", frequency_plot(found["by_frequency"])
        yield (
            "reliability",
            calibration_plot(found["probability_of_purchase"], "reliability", "share who purchase"),
        )
        if any(ranked["auc"] is not None for ranked in found["ranking"].values()):
            yield "roc", roc_plot(found["ranking"])
    for dimension, rows in found["standings"].items():
        if any(row["customers"] for row in rows):
            yield f"standing-{dimension}", standing_plot(dimension, rows, currency)


def stability_plots(found: Document, currency: str) -> Iterator[tuple[str, str]]:
    """The plot of a report's `stability`."""
    if found["periods"]:
        yield "stability", stability_plot(found["periods"])


def drift_plots(found: Document, currency: str) -> Iterator[tuple[str, str]]:
    """The plot of a report's `drift`."""
    if found["metrics"]:
        yield "drift", drift_plot(found["metrics"], MODERATE, LARGE)


def decile_plot(deciles: Sequence[Document]) -> str:
    """Expected beside actual purchases, by decile of expectation."""
    with drawing("deciles", 3.0, "Purchases by decile: expected and actual") as (axes, finish):
        at = [row["decile"] for row in deciles]
        axes.bar(
            [x - 0.2 for x in at], _column(deciles, "expected_purchases"), 0.4, color=FIRST, label="expected"
        )
        axes.bar(
            [x + 0.2 for x in at], _column(deciles, "actual_purchases"), 0.4, color=SECOND, label="actual"
        )
        axes.set_xticks(at)
        axes.set_xlabel("decile, the highest expectation first")
        axes.set_ylabel("purchases")
        axes.grid(axis="x", visible=False)
        axes.legend()
    return finish()


def calibration_plot(groups: Sequence[Document], name: str, quantity: str) -> str:
    """Actual against expected means of groups, with 95% intervals; on the diagonal they are the same."""
    with drawing(name, 3.6, f"{quantity}: actual against expected, with 95% intervals") as (axes, finish):
        expected, actual = _column(groups, "expected"), _column(groups, "actual")
        top = max([*expected, *actual, *_column(groups, "actual_high"), 1e-9]) * 1.05
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle="--", label="as expected")
        for x, row in zip(expected, groups, strict=True):
            if row["actual_low"] is not None:
                axes.plot(
                    [x, x], [row["actual_low"], row["actual_high"]], color=FIRST, linewidth=1, alpha=0.6
                )
        axes.plot(expected, actual, "o", color=FIRST, label="group of customers")
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_xlabel(f"expected {quantity}")
        axes.set_ylabel(f"actual {quantity}")
        axes.legend(loc="upper left")
    return finish()


def frequency_plot(groups: Sequence[Document]) -> str:
    """Expected and actual purchases per customer, by repeat purchase days until the cut."""
    with drawing("frequency", 3.0, "Purchases by repeat purchase days: expected and actual") as (
        axes,
        finish,
    ):
        at = list(range(len(groups)))
        axes.plot(at, _column(groups, "expected"), "o-", color=FIRST, label="expected")
        axes.plot(at, _column(groups, "actual"), "o--", color=SECOND, label="actual")
        axes.set_xticks(
            at, [f"{row['repeat_purchase_days']:g}{'+' if row['or_more'] else ''}" for row in groups]
        )
        axes.set_xlabel("repeat purchase days until the cut")
        axes.set_ylabel("purchases per customer")
        axes.set_ylim(bottom=0)
        axes.legend()
    return finish()


def roc_plot(rankings: dict[str, Document]) -> str:
    """ROC curves: the share of buyers found against that of others who are taken for buyers."""
    with drawing("roc", 3.9, "ROC curves of who purchases in the holdout") as (axes, finish):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        styles = ((FIRST, "-"), (SECOND, "-"), (SECOND, ":"), (THIRD, "--"), (MUTED, ":"))
        told = [(name, ranked) for name, ranked in rankings.items() if ranked["auc"] is not None]
        for (name, ranked), (colour, line) in zip(told, cycle(styles), strict=False):
            xs, ys = zip(*ranked["roc"], strict=True)
            axes.plot(xs, ys, line, color=colour, label=f"{name.replace('_', ' ')}, {ranked['auc']:.3f}")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.set_xlabel("share of those who did not purchase")
        axes.set_ylabel("share of those who did")
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=10)
    return finish()


def standing_plot(dimension: str, rows: Sequence[Document], currency: str) -> str:
    """Later revenue per customer by standing, with intervals of two standard errors."""
    told = [row for row in rows if row["customers"]]
    with drawing(
        f"standing-{dimension}", 0.8 + 0.42 * len(told), f"Later revenue per customer by {dimension}"
    ) as (
        axes,
        finish,
    ):
        at = list(range(len(told)))[::-1]
        axes.barh(at, _column(told, "revenue_per_customer"), 0.6, color=FIRST)
        for y, row in zip(at, told, strict=True):
            if row["revenue_error"] is not None:
                mean, reach = row["revenue_per_customer"], 1.96 * row["revenue_error"]
                axes.plot([mean - reach, mean + reach], [y, y], color=INK, linewidth=1.2)
        axes.set_yticks(at, [f"{row['standing']} ({row['customers']:,})" for row in told])
        axes.set_xlabel(f"later revenue per customer, {currency}")
        axes.grid(axis="y", visible=False)
    return finish()


def stability_plot(periods: Sequence[Document]) -> str:
    """The share of customers who keep each standing from one snapshot to the next."""
    with drawing("stability", 3.0, "Share of customers who keep their standing") as (axes, finish):
        at = list(range(len(periods)))
        for dimension, colour in (("segment", FIRST), ("tier", SECOND), ("lifecycle", THIRD)):
            shares = [period["kept_share"][dimension] for period in periods]
            shown = [(x, 100 * share) for x, share in zip(at, shares, strict=True) if share is not None]
            axes.plot([x for x, _ in shown], [y for _, y in shown], "o-", color=colour, label=dimension)
        step = -(-len(periods) // 5)
        axes.set_xticks(at[::step], [period["until"][:7] for period in periods[::step]])
        axes.set_ylim(top=100.5)
        axes.set_ylabel("% who keep their standing")
        axes.legend(loc="lower right")
    return finish()


def drift_plot(metrics: dict[str, Document], moderate: float, large: float) -> str:
    """Population stability index by metric, with its two usual limits."""
    with drawing("drift", 0.9 + 0.3 * len(metrics), "Population stability index by metric") as (
        axes,
        finish,
    ):
        at = list(range(len(metrics)))[::-1]
        colours = {"stable": FIRST, "moderate": SECOND, "large": BAD}
        indexes = [found["psi"] for found in metrics.values()]
        axes.barh(at, indexes, 0.6, color=[colours[found["verdict"]] for found in metrics.values()])
        for limit in (moderate, large):
            axes.axvline(limit, color=MUTED, linewidth=1, linestyle="--")
        axes.set_yticks(at, list(metrics))
        axes.set_xlim(0, max([*indexes, large]) * 1.1)
        axes.set_xlabel("population stability index")
        axes.grid(axis="y", visible=False)
    return finish()


def _column(rows: Sequence[Document], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


OF_SECTION: Final[dict[str, Callable[[Document, str], Iterator[tuple[str, str]]]]] = {
    "validation": validation_plots,
    "stability": stability_plots,
    "drift": drift_plots,
}
"""What draws a section's plots: the name of each, which is also that of its ids, and its SVG."""
