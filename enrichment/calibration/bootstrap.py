"""Figures that may not be defined, and their intervals: customers are drawn again and again, alike in every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 300
CONFIDENCE: Final = 0.95
LEAST_DEFINED: Final = 0.9
"""A figure that fewer of the resamples define than this share has no interval."""
_SEED: Final = 1979


def resampled(customers: int, figures: Callable[[Floats], Floats]) -> Floats:
    """The figures of each of RESAMPLES draws of as many customers, with replacement: (RESAMPLES, number of figures).

    `figures` is given how often each customer was drawn, and gives as many values each time; NaN is not defined.
    """
    rng = np.random.default_rng(_SEED)
    draws = (rng.integers(0, customers, customers) for _ in range(RESAMPLES))
    return np.stack([figures(np.bincount(drawn, minlength=customers).astype(np.float64)) for drawn in draws])


def interval(values: Floats) -> list[float] | None:
    """The middle 95% of a figure over its resamples (percentiles); None where too few of them define it."""
    defined = values[np.isfinite(values)]
    if len(defined) < LEAST_DEFINED * len(values) or not len(defined):
        return None
    bounds = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return [round(float(bound), 6) + 0.0 for bound in bounds]


def quotient(part: float, whole: float) -> float:
    """A part of a whole; NaN where the whole is not above zero."""
    return part / whole if whole > 0 else float("nan")


def rounded(figure: Any) -> float | None:
    """A figure for a report; None where it is not defined."""
    return round(float(figure), 6) + 0.0 if np.isfinite(figure) else None


def ratio(part: Any, whole: Any) -> float | None:
    """A quotient for a report."""
    return rounded(quotient(float(part), float(whole)))
