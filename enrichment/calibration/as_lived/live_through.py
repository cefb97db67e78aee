"""What the stream itself did over the holdout, with its hysteresis, dwell and midnights, beside plain rules.

The changes are those that a replay of all records made, with a model that knows nothing later than the cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from enrichment.calibration.as_lived.captured import captured
from enrichment.calibration.as_lived.panels import (
    LONG_SILENCE_DAYS,
    Panels,
    panel_days,
    panel_report,
    warnings_beside_recency,
)
from enrichment.calibration.as_lived.reactivations import reactivations
from enrichment.calibration.as_lived.silences import false_alarms, silences_report
from enrichment.calibration.as_lived.there_and_back import there_and_back
from enrichment.calibration.as_lived.timelines import PurchaseDays, moves_of
from enrichment.calibration.snapshot import Snapshot
from enrichment.days import format_day
from enrichment.model import Model
from schemas.documents import ChangeDocument, Document, TriggerDocument

LONGEST_WINDOW_DAYS: Final = 90


def window_of(model: Model, holdout_days: int) -> int:
    """The days without a purchase after which a customer has stayed away."""
    return model.lifecycle.window_days or min(LONGEST_WINDOW_DAYS, holdout_days)


def live_through(
    changes: Iterable[ChangeDocument],
    model: Model,
    cut: Snapshot,
    end: Snapshot,
    window_days: int,
    triggers: Iterable[TriggerDocument] = (),
) -> Document:
    """How warnings, top standings and moves of a replay did after the cut, beside rules that need no model.

    1. Warnings: `panel`, `warned` and `silences`; null, with the `reason`, if the holdout is shorter than the window.
    2. The top: `capture`.
    3. Moves that were taken back: `there_and_back`.
    4. Re-activations that the customers did not need: `reactivations`.
    5. `verdicts`, in sentences, where a plain rule did better.

    `model` made the `changes`, which each customer has in their order, and the `triggers`; it must be fitted up to the
    cut. Purchases are
    purchase days, as known at the end, money is in base units. Customers who are not in `end` (erased, or profiling
    denied meanwhile) are left out. A standing is that of the end of a day. Intervals hold 95% of 300 resamples of the
    customers, and are null where too few of them define a figure.
    """
    purchases = PurchaseDays.of(end)
    moves = moves_of(changes, end.customer_ids)
    lifecycle, days = moves["lifecycle"], panel_days(cut.day, end.day, window_days)
    panel = warned = silences = None
    holdout_days, reason = end.day - cut.day, None
    if not days:  # 1
        reason = f"the holdout of {holdout_days} days is shorter than the window of {window_days} days"
    else:
        panels = Panels.of(purchases, lifecycle, len(end), days, window_days)
        if len(panels):
            panel, warned = panel_report(panels), warnings_beside_recency(panels)
            silences = {
                **silences_report(purchases, lifecycle, cut.day, end.day, window_days),
                **false_alarms(panels, purchases, lifecycle, cut.day, end.day),
            }
        else:
            reason = f"nobody with a standing bought in the {window_days} days before a panel"
    found: Document = {
        "period": {"from": format_day(cut.day + 1), "until": format_day(end.day), "days": holdout_days},
        "window_days": window_days,
        "reason": reason,
        "panel": panel,
        "warned": warned,
        "silences": silences,
        "capture": captured(moves, model, cut, end),  # 2
        "there_and_back": {  # 3
            dimension: there_and_back(of_dimension, len(end), cut.day, end.day)
            for dimension, of_dimension in moves.items()
        },
        "reactivations": reactivations(triggers, purchases, cut.day, end),  # 4
    }
    verdicts = verdicts_on(found)  # 5
    return {**found, "verdicts": verdicts, "warnings": verdicts}


def verdicts_on(found: Document) -> list[str]:
    """Where a plain rule did better than the stream, in sentences that need no other page."""
    verdicts = []
    if found["warned"] is not None:
        verdicts += _verdicts_on_warnings(
            found["warned"]["at_risk_or_lapsed"], found["panel"], found["window_days"]
        )
    for standing, capture in found["capture"].items():
        verdicts += _verdict_on_capture(standing, capture, found["period"]["days"])
    return verdicts


def _verdicts_on_warnings(warned: Document, panel: Document, window_days: int) -> list[str]:
    """Beside everyone silent for 45 days, where that names more and is right no less often; else beside as many."""
    if warned["recall"] is None:
        return []
    named = f"at_risk and lapsed named {warned['recall']:.0%} beforehand"
    told = f"Of the customers who stayed away {window_days} days, {named}"
    recall, precision = panel["recall_of_recency_45"], panel["precision_of_recency_45"]
    if warned["recall"] < recall and precision >= (warned["precision"] or 0):
        right = "" if warned["precision"] is None else f" (of those named: {warned['precision']:.0%})"
        return [
            f"{told}; simply taking everyone silent for {LONG_SILENCE_DAYS} days would have named {recall:.0%}, and "
            f"{precision:.0%} of those taken did stay away{right}."
        ]
    plain = warned["recency"]["recall"]
    if warned["recall"] >= plain or f"{warned['recall']:.0%}" == f"{plain:.0%}":
        return []
    return [
        f"{told}; simply taking those silent longest would have named {plain:.0%} with as many warnings."
        + _by_chance(warned["recall_ratio_interval"])
    ]


def _verdict_on_capture(standing: str, capture: Document, days: int) -> list[str]:
    ratio = capture["ratio_to_last_years_revenue"]
    if ratio is None or round(ratio, 2) >= 1:
        return []
    return [
        f"The customers in {standing} brought {1 - ratio:.0%} less in the next {days} days than as many customers "
        "with the highest revenue of the last year."
        + _by_chance(capture["ratio_to_last_years_revenue_interval"])
    ]


def _by_chance(ratio_interval: list[float] | None) -> str:
    if ratio_interval is not None and ratio_interval[1] < 1:
        return ""
    return " The difference may be chance."
