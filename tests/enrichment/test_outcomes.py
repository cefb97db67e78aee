"""Treatment against control: published figures, and intervals that hold what is true as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from enrichment.insight.outcomes import CONTROL, TREATMENT, Followed, effect_of


def followed(group: str, customers: int, returned: int, margin: float = 10.0) -> list[Followed]:
    return [
        Followed(group, "low", at < returned, margin if at < returned else 0.0) for at in range(customers)
    ]


def test_the_difference_of_shares_is_newcombes() -> None:
    """His own example: 56 of 70 against 48 of 80 (1998, table II, method 10)."""
    effect = effect_of(followed(TREATMENT, 70, 56) + followed(CONTROL, 80, 48))
    assert effect is not None
    assert effect.returns == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert effect.returns.is_clear


def test_a_share_has_wilsons_interval() -> None:
    """15 of 148, by Newcombe's other paper of 1998 (Two-sided confidence intervals for the single proportion)."""
    effect = effect_of(followed(TREATMENT, 148, 15) + followed(CONTROL, 148, 15))
    assert effect is not None
    assert effect.control.returns[1:] == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert not effect.returns.is_clear


def test_margin_is_of_each_customer_also_of_who_did_not_come_back() -> None:
    effect = effect_of(followed(TREATMENT, 100, 30, 20.0) + followed(CONTROL, 50, 10, 20.0))
    assert effect is not None
    assert effect.treatment.margin.value == pytest.approx(6.0)
    assert effect.margin.value == pytest.approx(6.0 - 4.0)
    assert effect.margin_of_all.value == pytest.approx(200.0)
    assert effect.margin_of_all.low == pytest.approx(100 * effect.margin.low)


def test_where_nobody_differs_nothing_is_uncertain() -> None:
    """Nor does anything fail: of nobody who came back there is no margin."""
    effect = effect_of(followed(TREATMENT, 5, 0) + followed(CONTROL, 5, 0))
    assert effect is not None
    assert effect.margin == (0.0, 0.0, 0.0)
    assert effect.returns.low < 0 < effect.returns.high


@pytest.mark.parametrize(("treated", "left_alone"), [(0, 9), (9, 1), (1, 1)])
def test_of_too_few_nothing_is_told(treated: int, left_alone: int) -> None:
    assert effect_of(followed(TREATMENT, treated, 0) + followed(CONTROL, left_alone, 0)) is None


def test_the_intervals_hold_what_is_true_nineteen_times_of_twenty() -> None:
    """Of 400 made-up experiments in which writing brings a tenth more back, at 40 of margin each (seeded)."""
    rng = np.random.default_rng(7)
    held = {"returns": 0, "margin": 0}
    for _ in range(400):
        experiment = [
            Followed(group, "low", bool(came), float(came * rng.gamma(2.0, 20.0)))
            for group, customers, share in ((TREATMENT, 450, 0.3), (CONTROL, 150, 0.2))
            for came in rng.random(customers) < share
        ]
        effect = effect_of(experiment)
        assert effect is not None
        held["returns"] += effect.returns.low <= 0.1 <= effect.returns.high
        held["margin"] += effect.margin.low <= 4.0 <= effect.margin.high
    assert all(0.92 <= count / 400 <= 0.98 for count in held.values()), held
