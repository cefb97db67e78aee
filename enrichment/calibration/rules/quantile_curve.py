"""Breakpoints that turn values into ranks: a customer's points are the percentage of the others below them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from enrichment.scoring.scores import RATIO_CAP

Floats = npt.NDArray[np.float64]
Curve = list[list[float]]
Direction = Literal["more_is_better", "less_is_better", "more_is_costlier"]

BREAKPOINTS_AT = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""The quantiles at which a curve has a breakpoint: tenths, and more of them where few customers differ a lot."""


def quantile_curve(values: Floats, direction: Direction) -> Curve:
    """Breakpoints by mid-ranks of finite `values`, of which at least two differ; ascending, points in 0–100.

    At a breakpoint points are 100 × (share of values below + half the share of equal ones), so that ties share one
    rank. The largest value gets 100 (0 where less is better); zero, which must not be among the values unless less is
    better, gets 0 (100), and a cost ratio that is at its cap 100.
    """
    ranked = np.sort(values)
    at = np.unique(np.quantile(ranked, BREAKPOINTS_AT, method="inverted_cdf"))
    below, up_to = np.searchsorted(ranked, at, side="left"), np.searchsorted(ranked, at, side="right")
    points = np.round(50.0 * (below + up_to) / len(ranked), 2)
    points[-1] = 100.0
    if direction == "less_is_better":
        points = 100.0 - points
    curve = dict(zip(at.tolist(), np.round(points, 2).tolist(), strict=True))
    curve[0.0] = 100.0 if direction == "less_is_better" else 0.0
    if direction == "more_is_costlier":
        curve[RATIO_CAP] = 100.0
    return [[value, curve[value]] for value in sorted(curve)]
