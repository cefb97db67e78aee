"""Scales: breakpoints, cuts and limits that fit the customers at hand.

Points become ranks. A customer's points for a metric are the percentage of customers below, and half of those who
have the same, among all who have anything of it at all. A whale then moves nobody else, currency does not matter, and
weights weigh what they say.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.calibration.rules.quantile_curve import Direction, quantile_curve
from enrichment.calibration.rules.thresholds import MIN_CUSTOMERS, fit_thresholds
from enrichment.calibration.snapshot import Snapshot
from enrichment.days import format_day
from enrichment.model import METRICS, Model
from enrichment.scoring.scores import Scored, score
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

DIRECTIONS: dict[str, Direction] = {
    "recency_days": "less_is_better",
    "cost_to_serve_ratio": "more_is_costlier",
    "cost_to_acquire_ratio": "more_is_costlier",
}
"""What is not listed is better the more there is of it; more points of a cost mean more cost."""
ALREADY_POINTS = "declared_intent"
AFTER_THE_OTHERS = "engagement_ahead_of_spend"
"""A difference of two other metrics' points, so their curves come first."""


@dataclass(frozen=True, slots=True)
class Scales:
    """A model document whose scales fit a snapshot, and what was done to get there.

    `report` has `customers`, `metrics` (by name: `action`, which is `fitted` or `kept`, its `reason`, and how many
    customers it rests on) and what `fit_thresholds` says.
    """

    document: Document
    report: Document
    warnings: list[str]


def fit_scales(document: Document, snapshot: Snapshot) -> Scales:
    """Fit breakpoints, RFM cuts, thresholds and limits to a snapshot, and say so under `calibration`.

    `document` is a valid model as JSON (`Model.model_dump(mode="json")`) that has its final `lifetime_value` and
    engagement weights; the snapshot was taken with the same weights. It is left as it is. What the snapshot says too
    little about keeps its numbers, with the reason in the report.

    1. Every metric but one is scaled by its own values.
    2. `engagement_ahead_of_spend` is scaled, by the points that come of 1.
    3. Thresholds are set on the points and scores that come of 2.
    4. How each metric is spread is noted, for telling later how far it has drifted.

    ``ValueError`` where the snapshot has no customer.
    """
    if not len(snapshot):
        raise ValueError("the history has no customer to fit scales to")
    document = copy.deepcopy(document)
    features = snapshot.features(Model.model_validate(document))

    def scored() -> Scored:
        return score(features, Model.model_validate(document))

    actions: dict[str, Document] = {}
    first = scored()
    for name in METRICS:  # 1
        if name != AFTER_THE_OTHERS:
            actions[name] = _fit_metric(document, name, first)
    actions[AFTER_THE_OTHERS] = _fit_metric(document, AFTER_THE_OTHERS, scored())  # 2
    last = scored()
    thresholds = fit_thresholds(  # 3
        document, features, last, actions["customer_lifetime_value_365d"]["action"] == "fitted"
    )
    document["calibration"] = {  # 4
        "until": format_day(snapshot.day),
        "customers": len(snapshot),
        "metrics": {name: _reference(last.metrics[:, at]) for at, name in enumerate(METRICS)},
    }
    Model.model_validate(document)
    report = {
        "customers": len(snapshot),
        "metrics": {name: actions[name] for name in METRICS},
        **thresholds.report,
    }
    return Scales(document, report, [*_warnings(actions), *thresholds.warnings])


def _fit_metric(document: Document, name: str, scored: Scored) -> Document:
    """Give a metric new breakpoints, or leave it as it is; says which and why."""
    column = scored.metrics[:, METRICS.index(name)]
    defined = column[~np.isnan(column)]
    direction = DIRECTIONS.get(name, "more_is_better")
    used = defined if direction == "less_is_better" else defined[defined > 0]
    told = {"defined": len(defined), "above_zero": int(np.count_nonzero(defined > 0))}
    kept = _reason_to_keep(name, defined, used)
    if kept is not None:
        return {"action": "kept", "reason": f"{kept}: kept as it was", **told}
    document["metrics"][name]["breakpoints"] = quantile_curve(used, direction)
    who = "for whom it is defined" if direction == "less_is_better" else "who have more than zero"
    return {"action": "fitted", "reason": f"ranks among the {len(used)} customers {who}", **told}


def _reason_to_keep(name: str, defined: Floats, used: Floats) -> str | None:
    """Why a metric's values say nothing about its scale; None where they do."""
    if name == ALREADY_POINTS:
        return "points already"
    if not len(defined):
        return "defined for nobody"
    if not len(used):
        return "all zero" if not defined.any() else "nowhere above zero"
    if len(used) < MIN_CUSTOMERS:
        return f"only {len(used)} of the {MIN_CUSTOMERS} customers that ranks take have any of it"
    if used.min() == used.max():
        return "the same for everyone who has any of it"
    return None


def _reference(column: Floats) -> Document:
    defined = column[~np.isnan(column)]
    deciles = np.round(np.quantile(defined, np.linspace(0.0, 1.0, 11)), 6).tolist() if len(defined) else []
    zero = round(float(np.mean(defined == 0)), 6) if len(defined) else None
    return {"deciles": deciles, "zero": zero, "missing": round(1.0 - len(defined) / len(column), 6)}


def _warnings(actions: dict[str, Document]) -> list[str]:
    kept = [name for name, told in actions.items() if told["action"] == "kept" and name != ALREADY_POINTS]
    if not kept:
        return []
    return [f"scales kept as they were, because the history says too little about them: {', '.join(kept)}"]
