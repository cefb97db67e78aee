"""The plots of the calibration report, as SVG to be put into a page: no colours of their own, no ids that clash.

Colours are the page's CSS variables, so that a plot follows it into the dark. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from enrichment.calibration.drift import LARGE, MODERATE
from schemas.documents import Document

if TYPE_CHECKING:
    from matplotlib.axes import Axes


WIDTH_INCHES: Final = 5.0
"""Of every plot: narrow, so that its text can be read on a phone."""

INK, MUTED, GRID, FIRST, SECOND, THIRD, BAD = (f"#0a0b0{digit}" for digit in range(1, 8))
"""Stand-ins that matplotlib writes and `_themed` turns into the page's colours."""
_VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    BAD: "var(--bad)",
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "font.family": "sans-serif",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
}


def are_available() -> bool:
    """Whether matplotlib is installed; the extra `calibration` brings it."""
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError:
        return False
    return True


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
    with _drawing("deciles", 3.0, "Purchases by decile: expected and actual") as (axes, finish):
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
    with _drawing(name, 3.6, f"{quantity}: actual against expected, with 95% intervals") as (axes, finish):
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
    with _drawing("frequency", 3.0, "Purchases by repeat purchase days: expected and actual") as (
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
    with _drawing("roc", 3.9, "ROC curves of who purchases in the holdout") as (axes, finish):
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
    with _drawing(
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
    with _drawing("stability", 3.0, "Share of customers who keep their standing") as (axes, finish):
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
    with _drawing("drift", 0.9 + 0.3 * len(metrics), "Population stability index by metric") as (
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


@contextmanager
def _drawing(name: str, height_inches: float, label: str) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Axes to draw on, and what gives the SVG after the block; `name` keeps the plot's ids apart from others'."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    written: list[str] = []
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot(), lambda: written[0]
        file = io.StringIO()
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
        written.append(_themed(file.getvalue(), name, label))


def _themed(svg: str, name: str, label: str) -> str:
    """The bare element, with the page's colours, ids of its own, and a name for those who cannot see it."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL
    )  # it would style the whole page
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', f'<svg role="img" aria-label="{label}"', svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg


OF_SECTION: Final[dict[str, Callable[[Document, str], Iterator[tuple[str, str]]]]] = {
    "validation": validation_plots,
    "stability": stability_plots,
    "drift": drift_plots,
}
"""What draws a section's plots: the name of each, which is also that of its ids, and its SVG."""
