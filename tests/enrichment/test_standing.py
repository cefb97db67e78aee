"""Standings: the clamp between harder and easier, dwell, and when the plain rule holds at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import cancellation, engagement, model, order, refund
from enrichment.model import METRICS, Model
from enrichment.scoring.features import Features
from enrichment.scoring.scores import SCORES, Scored
from enrichment.scoring.standing import (
    ACTIVE,
    AT_RISK,
    HIGH,
    LAPSED,
    LIFECYCLE,
    LIFECYCLE_PROSPECT,
    MEDIUM,
    NEW,
    SEGMENT,
    TIER,
    Candidates,
    candidates,
    keeps_standing,
    moved,
    next_standing,
)

LONG_AGO = (0, 0, 0)
ranks = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([ACTIVE, AT_RISK, LAPSED]))


def stand(
    current: tuple[int, int, int] | None,
    plain: tuple[int, int, int],
    hard: tuple[int, int, int] | None = None,
    easy: tuple[int, int, int] | None = None,
    changed_days: tuple[int, int, int] = LONG_AGO,
    past_new: bool = True,
    dwell_days: int = 7,
) -> tuple[int, int, int]:
    """Where a customer stands on day 100."""
    return next_standing(
        current,
        changed_days,
        100,
        list(plain),
        list(hard or plain),
        list(easy or plain),
        past_new,
        (dwell_days, dwell_days, dwell_days),
    )


@given(current=ranks, plain=ranks, easier=ranks, harder=ranks)
def test_a_standing_is_clamped_between_harder_and_easier(
    current: tuple[int, int, int],
    plain: tuple[int, int, int],
    easier: tuple[int, int, int],
    harder: tuple[int, int, int],
) -> None:
    """It moves only as far as both rules allow; oracle: the nearest rank of the interval."""
    low = tuple(map(min, easier, plain))
    high = tuple(map(max, harder, plain))
    found = stand(current, plain, (high[0], high[1], high[2]), (low[0], low[1], low[2]))
    for rank, was, least, most in zip(found, current, low, high, strict=True):
        assert rank == min(range(least, most + 1), key=lambda candidate: abs(candidate - was))


anywhere = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 4))
days = st.tuples(*[st.sampled_from([0, 86, 87, 93, 94, 100])] * 3)
dwells = st.permutations((0, 7, 14)).map(lambda order: (order[0], order[1], order[2]))


@given(
    current=anywhere,
    changed_days=days,
    plain=anywhere,
    one=anywhere,
    other=anywhere,
    past_new=st.booleans(),
    dwell_days=dwells,
)
def test_rows_are_told_apart_at_once_by_whether_they_move(
    current: tuple[int, int, int],
    changed_days: tuple[int, int, int],
    plain: tuple[int, int, int],
    one: tuple[int, int, int],
    other: tuple[int, int, int],
    past_new: bool,
    dwell_days: tuple[int, int, int],
) -> None:
    """The oracle is `next_standing`, row by row; where `new` is past, the plain rule does not give it."""
    assume(not (past_new and plain[2] == NEW))
    easy, hard = np.minimum(one, other), np.maximum(one, other)
    found = Candidates(np.array([plain]), hard[None], easy[None], np.array([past_new]))
    keeps = keeps_standing(np.array([current]), np.array([changed_days]), np.array([100]), found, dwell_days)
    moved_to = next_standing(
        current, changed_days, 100, list(plain), hard.tolist(), easy.tolist(), past_new, dwell_days
    )
    assert keeps.tolist() == [moved_to == current]


@pytest.mark.parametrize(
    ("threshold", "margin", "limit"),
    [(0.2, 0.1, 0.3), (0.3, -0.1, 0.2), (70.1, 2.2, 72.3), (0.65, 0.05, 0.7)],
)
def test_a_margin_moves_a_threshold_by_what_is_written(threshold: float, margin: float, limit: float) -> None:
    """Who has exactly the limit has reached it: sums of binary fractions alone would lie beside it."""
    assert moved(threshold, margin) == limit


OWN = {"score_margin": 0, "segment": {"score_margin": 5, "dwell_days": 14}}


def test_a_dimension_may_have_a_margin_of_its_own() -> None:
    """Of segments here; tiers keep that of all."""
    rules = model(hysteresis=OWN)
    assert (rules.hysteresis.segment_margin, rules.hysteresis.tier_margin) == (5, 0)
    high = rules.segments.high
    rows = scored_rows([high, high + 5, high - 5], [0.0] * 3, [0.0] * 3)
    features = cast(Features, SimpleNamespace(order_count=np.ones(3)))
    found = candidates(features, rows, rules)
    assert found.plain[:, SEGMENT].tolist() == [HIGH, HIGH, MEDIUM]
    assert found.hard[:, SEGMENT].tolist() == [MEDIUM, HIGH, MEDIUM]
    assert found.easy[:, SEGMENT].tolist() == [HIGH, HIGH, HIGH]
    assert (found.hard[:, TIER] == found.easy[:, TIER]).all()


@pytest.mark.parametrize(("at", "days"), [(SEGMENT, 14), (TIER, 7), (LIFECYCLE, 7)])
def test_a_dimension_may_have_a_dwell_of_its_own(at: int, days: int) -> None:
    """It lasts so many days from its last change on, the others as long as before."""
    dwell_days = model(hysteresis=OWN).hysteresis.dwell_by_dimension
    for age, moves in ((days - 1, False), (days, True)):
        changed_days = (100 - age, 100 - age, 100 - age)
        moved_to = next_standing((1, 1, 0), changed_days, 100, [2] * 3, [2] * 3, [2] * 3, True, dwell_days)
        assert (moved_to[at] != (1, 1, 0)[at]) == moves


def test_entering_follows_the_plain_rule() -> None:
    """Who had no standing gets the plain one, however near the thresholds."""
    assert stand(None, (1, 2, ACTIVE), hard=(3, 3, LAPSED), easy=(0, 0, ACTIVE)) == (1, 2, ACTIVE)


def test_the_first_and_the_last_counted_order_follow_the_plain_rule_at_once() -> None:
    """In every dimension, also on the day of another change."""
    today = (100, 100, 100)
    prospect, customer = (4, 3, LIFECYCLE_PROSPECT), (1, 2, NEW)
    assert stand(prospect, customer, hard=(3, 3, LAPSED), changed_days=today, past_new=False) == customer
    assert stand(customer, prospect, easy=(2, 2, LIFECYCLE_PROSPECT), changed_days=today) == prospect


def test_the_end_of_new_follows_the_plain_rule_at_once_in_lifecycle_only() -> None:
    """Dwell and hysteresis hold the other two."""
    today = (100, 100, 100)
    assert stand((1, 2, NEW), (0, 0, AT_RISK), easy=(0, 0, ACTIVE), changed_days=today) == (1, 2, AT_RISK)
    assert stand((1, 2, NEW), (0, 0, ACTIVE), changed_days=today) == (1, 2, ACTIVE)


def test_no_change_within_the_dwell_time_of_the_last_one_in_that_dimension() -> None:
    """Six days after its last change a dimension stays; seven days after, it may move; the others do not wait."""
    assert stand((0, 0, ACTIVE), (3, 3, LAPSED), changed_days=(94, 93, 0)) == (0, 3, LAPSED)


def scored_rows(
    lifetime_points: list[float],
    churn_risk: list[float],
    potential: list[float],
    silence_risk: list[float] | None = None,
) -> Scored:
    """Rows of which only the parts that segments and lifecycles look at are set."""
    rows = len(lifetime_points)
    points = np.zeros((rows, len(METRICS)))
    points[:, METRICS.index("customer_lifetime_value_365d")] = lifetime_points
    scores = np.zeros((rows, len(SCORES)))
    scores[:, SCORES.index("potential")] = potential
    scores[:, SCORES.index("value")] = lifetime_points
    nothing, days = np.zeros(rows), np.full(rows, 100)
    return Scored(
        metrics=points,
        points=points,
        contributions=points,
        scores=scores,
        recency_days=days,
        tenure_days=days,
        probability_active=nothing,
        expected_orders_365d=nothing,
        customer_lifetime_value_365d=nothing,
        churn_risk=np.array(churn_risk),
        silence_risk=np.array(silence_risk or [np.nan] * rows),
        value_at_stake=nothing,
        expected_margin=nothing,
        tier_points=np.array(lifetime_points),
        rfm=days,
    )


def plain_segments(rules: Model, rows: Scored, order_count: int) -> list[int]:
    """The segment of each row by the plain rule."""
    features = SimpleNamespace(order_count=np.full(len(rows.points), order_count))
    plain = candidates(cast(Features, features), rows, rules).plain
    return [int(segment) for segment in plain[:, 0]]


def lifecycles(rules: Model, churn_risk: list[float], silence_risk: list[float], rule: str) -> list[int]:
    """The lifecycle of each row, long past `new`, by the plain, the harder (`hard`) or the easier (`easy`) rule."""
    rows = scored_rows([50.0] * len(churn_risk), churn_risk, [0.0] * len(churn_risk), silence_risk)
    features = cast(Features, SimpleNamespace(order_count=np.ones(len(churn_risk))))
    found = getattr(candidates(features, rows, rules), rule)
    return [int(lifecycle) for lifecycle in found[:, 2]]


WINDOW = {
    "lifecycle": {"window_days": 90, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5},
    "hysteresis": {"silence_risk_margin": 0.1},
}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("plain", [ACTIVE, AT_RISK, AT_RISK, LAPSED]),
        ("hard", [AT_RISK, AT_RISK, LAPSED, LAPSED]),
        ("easy", [ACTIVE, ACTIVE, AT_RISK, AT_RISK]),
    ],
)
def test_with_a_window_the_lifecycle_goes_by_silence_risk_and_limits_of_its_own(
    rule: str, expected: list[int]
) -> None:
    """Churn risk, which says the contrary here, decides nothing; a limit belongs to the side of the risk."""
    found = lifecycles(model(**WINDOW), [0.99, 0.0, 0.0, 0.0], [0.199999, 0.2, 0.499999, 0.5], rule)
    assert found == expected


def test_without_a_window_the_lifecycle_goes_by_churn_risk() -> None:
    """As it did before there were windows."""
    limits = {"lifecycle": {"at_risk_churn_risk": 0.65, "lapsed_churn_risk": 0.85}}
    nothing = [float("nan")] * 3
    assert lifecycles(model(**limits), [0.64, 0.65, 0.85], nothing, "plain") == [ACTIVE, AT_RISK, LAPSED]


def test_segments_go_by_churn_risk_with_a_window_too() -> None:
    """The window is of warnings alone."""
    rules = model(**WINDOW, segments={"high": 60, "medium": 40, "high_churn_risk_limit": 0.3})
    assert plain_segments(rules, scored_rows([60.0, 60.0], [0.3, 0.31], [0.0, 0.0], [0.9, 0.0]), 1) == [0, 1]


def test_the_segment_of_a_customer_with_orders() -> None:
    """Thresholds belong to the upper side, the limit of churn risk to `high`; oracle: the contract's sentence."""
    rules = model(segments={"high": 60, "medium": 40, "high_churn_risk_limit": 0.3, "emerging_potential": 50})
    rows = scored_rows(
        [60, 60, 59.999999, 40, 39.999999, 39.999999],
        [0.3, 0.300001, 0.0, 1.0, 0.0, 0.0],
        [0, 100, 100, 0, 50, 49.999999],
    )
    assert plain_segments(rules, rows, order_count=1) == [0, 1, 1, 1, 2, 3]


def test_the_segment_of_a_customer_without_an_order() -> None:
    """`emerging` by potential, else `prospect`."""
    rules = model(segments={"emerging_potential": 50})
    rows = scored_rows([100, 100], [0.0, 0.0], [50, 49.999999])
    assert plain_segments(rules, rows, order_count=0) == [2, 4]


def test_the_first_order_moves_a_prospect_within_the_dwell_time() -> None:
    """A visitor who buys on the next day is a prospect no more; and one again when the order is cancelled."""
    partition = LocalStream(model())
    partition.take(engagement("visited", "2025-01-01", channel="web"))
    assert partition.standing() == ("prospect", "inside", "prospect")
    partition.take(order("2025-01-02", "80.00", "a"))
    segment, _, lifecycle = partition.standing()
    assert "prospect" not in (segment, lifecycle)
    partition.take(cancellation("2025-01-03", "a"))
    assert partition.standing()[0] == partition.standing()[2] == "prospect"


def test_a_full_refund_of_the_only_order_makes_a_prospect_at_once() -> None:
    """The last counted order gone, there is none."""
    partition = LocalStream(model())
    partition.take(order("2025-01-02", "80.00", "a"))
    changes = partition.take(refund("2025-01-03", "a", "80.00"))
    assert [change["current"] for change in changes if change["dimension"] == "lifecycle"] == ["prospect"]


def test_new_ends_after_its_days_at_a_midnight() -> None:
    """Within N days of the first order: on the Nth day still, on the next no more."""
    partition = LocalStream(
        model(
            lifecycle={"at_risk_churn_risk": 1, "lapsed_churn_risk": 1, "new_days": 30},
            hysteresis={"dwell_days": 60, "churn_risk_margin": 0},
        )
    )
    partition.take(order("2025-01-01", "80.00"))
    assert partition.standing()[2] == "new"
    partition.pass_midnight("2025-01-31")
    assert partition.standing()[2] == "new"
    changes = partition.pass_midnight("2025-02-01")
    ends = [change for change in changes if change["dimension"] == "lifecycle"]
    assert [(change["previous"], change["current"], change["direction"]) for change in ends] == [
        ("new", "active", "upgrade")
    ]
    assert ends[0]["as_of"] == "2025-02-01T00:00:00Z"


def test_new_is_past_only_after_its_last_day() -> None:
    """On the Nth day after the first order hysteresis and dwell still hold; on the next they do no more."""
    rows = scored_rows([0, 0], [0, 0], [0, 0])
    rows.tenure_days[:] = (30, 31)
    features = cast(Features, SimpleNamespace(order_count=np.ones(2)))
    assert candidates(features, rows, model(lifecycle={"new_days": 30})).past_new.tolist() == [False, True]
