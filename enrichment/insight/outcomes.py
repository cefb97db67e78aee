"""What re-activations brought: those who were written to against the control group, who were not."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE: Final = 0.95
TREATMENT, CONTROL = "treatment", "control"


class Followed(NamedTuple):
    """One customer after a re-activation.

    `group` is `treatment` or `control`; `margin` is what they brought from then on, in base units.
    """

    group: str
    segment: str
    returned: bool
    margin: float


class Estimate(NamedTuple):
    """A figure, and where it may well lie by chance: a 95% interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """The same of so many."""
        return Estimate(*(factor * part for part in self))

    @property
    def is_clear(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


class GroupOutcome(NamedTuple):
    """How one group fared: the share that came back, and the margin of each customer, who came back or not."""

    customers: int
    returned: int
    returns: Estimate
    margin: Estimate


class Effect(NamedTuple):
    """What writing brought, by the difference between the groups: returns as a share, and margin, of each customer."""

    treatment: GroupOutcome
    control: GroupOutcome
    returns: Estimate
    margin: Estimate

    @property
    def margin_of_all(self) -> Estimate:
        """Of all customers of the treatment group together."""
        return self.margin.times(self.treatment.customers)


def effect_of(followed: Sequence[Followed]) -> Effect | None:
    """Treatment against control; None where either has fewer than two customers.

    Each customer must be there once, since groups are of customers. Shares have Wilson's intervals, and their
    difference Newcombe's, made of these (R. G. Newcombe, Interval Estimation for the Difference Between Independent
    Proportions, Statistics in Medicine 17, 1998, method 10). Means and their difference have Student's and Welch's.
    """
    margins = {
        group: np.array([one.margin for one in followed if one.group == group])
        for group in (TREATMENT, CONTROL)
    }
    if min(map(len, margins.values())) < 2:
        return None
    groups = {
        group: _group([one.returned for one in followed if one.group == group], own)
        for group, own in margins.items()
    }
    treatment, control = groups[TREATMENT], groups[CONTROL]
    return Effect(
        treatment,
        control,
        _difference(treatment.returns, control.returns),
        _mean_difference(margins[TREATMENT], margins[CONTROL]),
    )


def _group(returned: Sequence[bool], margins: np.ndarray[tuple[int], np.dtype[np.float64]]) -> GroupOutcome:
    number, count = len(returned), sum(returned)
    share = stats.binomtest(count, number).proportion_ci(CONFIDENCE, method="wilson")
    mean = float(margins.mean())
    half = float(stats.sem(margins)) * float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1))
    return GroupOutcome(
        number,
        count,
        Estimate(count / number, float(share.low), float(share.high)),
        Estimate(mean, mean - half, mean + half),
    )


def _difference(first: Estimate, second: Estimate) -> Estimate:
    """Newcombe's interval of the difference of two shares."""
    value = first.value - second.value
    below = hypot(first.value - first.low, second.high - second.value)
    above = hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - below, value + above)


def _mean_difference(
    first: np.ndarray[tuple[int], np.dtype[np.float64]], second: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> Estimate:
    """Welch's interval of the difference of two means; where nobody differs from anybody, it is that difference."""
    value = float(first.mean() - second.mean())
    if not first.var() and not second.var():
        return Estimate(value, value, value)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(value, float(found.low), float(found.high))
