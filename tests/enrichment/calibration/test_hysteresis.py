"""Hysteresis fitted to a history: week by week, as the stream would stand, and as calm as it can be without losing."""

from __future__ import annotations

import datetime as dt
import random

import numpy as np
import pytest

from ebbtide.testing.records import DEFAULT_MODEL, day, order
from enrichment.calibration.as_lived.timelines import NO_STANDING
from enrichment.calibration.rules.hysteresis import (
    DWELLS,
    HORIZON_DAYS,
    LEAST_WEEKS,
    MARGINS,
    fit_hysteresis,
    history_of,
    weeks_before,
)
from enrichment.calibration.snapshot import Snapshot, between
from enrichment.days import format_day
from enrichment.model import Model, load_model
from enrichment.scoring.evaluate import evaluate
from enrichment.scoring.standing import SEGMENT, TIER, next_standing
from schemas.documents import Document
from schemas.events import Event
from tests.enrichment.calibration.snapshots import snapshots

END = "2025-12-28"


def weekly(seed: int = 1, customers: int = 60) -> list[Snapshot]:
    """Customers who buy at their own pace and stop at some time, looked at for 40 weeks."""
    rng = random.Random(seed)
    events: list[Event] = []
    for number in range(customers):
        on, gap = dt.date(2025, 1, 1) + dt.timedelta(days=rng.randrange(200)), rng.uniform(3, 40)
        stops = on + dt.timedelta(days=rng.randrange(60, 400))
        while on < min(stops, dt.date(2025, 12, 28)):
            events.append(
                order(f"{on}", f"{rng.randrange(5, 200)}.00", f"o{len(events)}", customer_id=f"c{number}")
            )
            on += dt.timedelta(days=1 + int(rng.expovariate(1 / gap)))
    dates = [format_day(on) for on in weeks_before(day(END), day("2025-01-01"))]
    return snapshots(events, *dates)


def with_own(dimension: str, margin: float, dwell_days: int) -> Document:
    own = {"score_margin": margin, "dwell_days": dwell_days}
    return {**DEFAULT_MODEL, "hysteresis": {**DEFAULT_MODEL["hysteresis"], dimension: own}}


@pytest.mark.parametrize(("dimension", "name"), [(SEGMENT, "segment"), (TIER, "tier")])
@pytest.mark.parametrize(("margin", "dwell_days"), [(0.0, 0), (2.0, 7), (4.0, 21)])
def test_weeks_are_lived_as_the_stream_decides(
    dimension: int, name: str, margin: float, dwell_days: int
) -> None:
    """Oracle: `next_standing`, customer by customer, week by week."""
    weeks = weekly()
    model = Model.model_validate(with_own(name, margin, dwell_days))
    standing: dict[str, tuple[int, int, int]] = {}
    changed: dict[str, list[int]] = {}
    expected = []
    for week in weeks:
        rules = evaluate(week.views, np.arange(len(week)), np.full(len(week), week.day), model).candidates
        for row, customer in enumerate(week.customer_ids):
            before = standing.get(customer)
            days = changed.setdefault(customer, [week.day] * 3)
            standing[customer] = next_standing(
                before,
                (days[0], days[1], days[2]),
                week.day,
                rules.plain[row].tolist(),
                rules.hard[row].tolist(),
                rules.easy[row].tolist(),
                bool(rules.past_new[row]),
                model.hysteresis.dwell_by_dimension,
            )
            for at, (was, now) in enumerate(
                zip(before or (NO_STANDING,) * 3, standing[customer], strict=True)
            ):
                if was != now:
                    days[at] = week.day
        expected.append({customer: ranks[dimension] for customer, ranks in standing.items()})
    history = history_of(weeks, load_model())
    found = history.standings(history.candidates(DEFAULT_MODEL, dimension, margin), dimension, dwell_days)
    everyone = sorted({customer for week in weeks for customer in week.customer_ids})
    for ranks, of_week in zip(found, expected, strict=True):
        assert ranks.tolist() == [of_week.get(customer, NO_STANDING) for customer in everyone]
    assert len(np.unique(found)) > 2


def test_the_calmest_is_taken_of_those_that_lose_little() -> None:
    """Oracle: the whole grid, asked for one by one."""
    weeks = weekly()
    fitted = fit_hysteresis(DEFAULT_MODEL, weeks)
    history = history_of(weeks, load_model())
    assert fitted.warnings == []
    for dimension, name in ((SEGMENT, "segment"), (TIER, "tier")):
        (free,) = history.lived(DEFAULT_MODEL, dimension, 0.0, [0])
        grid = [
            lived
            for margin in MARGINS
            for lived in history.lived(DEFAULT_MODEL, dimension, margin, DWELLS)
            if np.nanmin(lived.captured / free.captured) >= 0.99 and (lived.size >= 0.9 * free.size).all()
        ]
        told = fitted.report[name]
        assert told["there_and_back_per_customer_year"] == pytest.approx(
            min(lived.per_customer_year for lived in grid), abs=1e-6
        )
        assert told["lost_share"] <= 0.01
        assert told["there_and_back_per_customer_year"] < told["without"]
        own = {"score_margin": told["score_margin"], "dwell_days": told["dwell_days"]}
        assert fitted.document["hysteresis"][name] == own
    assert Model.model_validate(fitted.document).fingerprint != load_model().fingerprint


def test_what_comes_later_is_what_snapshots_tell() -> None:
    """Oracle: the revenue after a week less that after its horizon, by the last snapshot."""
    weeks = weekly()
    history, end = history_of(weeks, load_model()), weeks[-1]
    everyone = sorted({customer for week in weeks for customer in week.customer_ids})
    assert len(history.later) == sum(week.day + HORIZON_DAYS <= end.day for week in weeks) > 20
    for week, later in zip(weeks, history.later, strict=False):
        after, beyond = (between(end, everyone, day) for day in (week.day, week.day + HORIZON_DAYS))
        assert later == pytest.approx(after.revenue - beyond.revenue)


def test_going_there_and_back_is_counted_per_year() -> None:
    """One customer of two leaves and is back three weeks later; the third week's move is one that stays."""
    ranks = np.array([[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1], [0, 1], [0, 2], [0, 2]])
    history = history_of(weekly(customers=2), load_model())
    years = 2 * (len(ranks) - 4 - 1) * 7 / 365
    assert history.taken_back(ranks) == pytest.approx(1 / years)


def test_too_short_a_history_leaves_hysteresis_as_it_is() -> None:
    """And says so."""
    weeks = weekly()[: LEAST_WEEKS - 1]
    fitted = fit_hysteresis(DEFAULT_MODEL, weeks)
    assert fitted.document == DEFAULT_MODEL
    assert fitted.report == {"action": "kept", "reason": "19 weeks of history, and 20 are needed"}
    assert fitted.warnings == [
        "hysteresis: 19 weeks of history, and 20 are needed: margins and dwell stay as they were"
    ]


def test_nothing_that_could_not_be_passed_is_taken() -> None:
    """A threshold near the top has no room for a large margin."""
    high = {**DEFAULT_MODEL, "segments": {**DEFAULT_MODEL["segments"], "high": 98.5, "medium": 40}}
    fitted = fit_hysteresis(high, weekly())
    assert fitted.report["action"] == "kept" or fitted.report["segment"]["score_margin"] <= 1.5
