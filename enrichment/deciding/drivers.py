"""Drivers: which metrics moved a customer's value since the last change, and by how much."""

from __future__ import annotations

from functools import reduce
from operator import add

from enrichment.customer.decision import Baseline
from enrichment.model import METRICS
from enrichment.scoring.scores import Scored
from schemas.changes import MIN_LISTED_EFFECT
from schemas.documents import DriverDocument


def baseline_of(scored: Scored, row: int) -> Baseline:
    """What later changes will be compared with."""
    return Baseline(
        metrics=tuple([None if value != value else value for value in scored.metrics[row].tolist()]),
        contributions=tuple(scored.contributions[row].tolist()),
        scores=tuple(scored.scores[row].tolist()),
    )


def drivers_between(before: Baseline, after: Baseline) -> list[DriverDocument]:
    """Metrics whose effect on value is at least 0.05, largest first.

    The effects of all metrics add up to the change in value.
    """
    effects = []
    for at, (old, new) in enumerate(zip(before.contributions, after.contributions, strict=True)):
        if old == new:
            continue
        effect = round(new - old, 6)
        if abs(effect) >= MIN_LISTED_EFFECT:
            effects.append((-abs(effect), METRICS[at], before.metrics[at], after.metrics[at], effect))
    return [
        {"metric": metric, "before": _plain(old), "after": _plain(new), "effect_on_value": effect}
        for _, metric, old, new, effect in sorted(effects, key=lambda driver: driver[:2])
    ]


def model_driver(before: Baseline, after: Baseline) -> list[DriverDocument]:
    """The one driver of a change that a new model brought; the metric has no value of its own."""
    effect = round(_total(after) - _total(before), 6)
    return [{"metric": "model", "before": None, "after": None, "effect_on_value": effect}]


def _total(baseline: Baseline) -> float:
    """The sum of the contributions, one after the other: `sum` adds floats in another way from Python 3.12 on."""
    return reduce(add, baseline.contributions, 0.0)


def _plain(value: float | None) -> float | int | None:
    """Whole numbers as integers, so that days read as days."""
    return int(value) if value is not None and value.is_integer() else value
