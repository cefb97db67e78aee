"""The level of a season: Christmas seen once before tells how much more comes in the next."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from enrichment.calibration.calibrate import Days
from enrichment.calibration.choice import choose
from enrichment.calibration.lifetime import LifetimeValueFit, fit_lifetime_value
from enrichment.calibration.season import YEAR_OF_WEEKS_DAYS, seasonal_level
from enrichment.calibration.snapshot import Snapshot
from tests.enrichment.calibration.histories import FIRST_DATE, orders, snapshots

CUT, END = 630, 720
"""In the second year, before Christmas and after it."""


def shop(christmas: float, customers: int = 900) -> dict[str, list[tuple[int, float]]]:
    """Customers of paces of their own, who buy so many times as often in November and December."""
    random, purchases = np.random.default_rng(5), {}
    for number in range(customers):
        rate = random.gamma(1.2, 1 / 40)
        first = int(random.integers(0, 420))
        days = [first]
        for day in range(first + 1, END + 1):
            month = (FIRST_DATE + dt.timedelta(days=day)).month
            if random.random() < rate * (christmas if month >= 11 else 1.0):
                days.append(day)
            if random.random() < 1 / 900:
                break
        purchases[f"c{number}"] = [(day, 10.0) for day in days]
    return purchases


def looked_at(christmas: float) -> list[Snapshot]:
    return snapshots(
        orders(shop(christmas)), CUT - YEAR_OF_WEEKS_DAYS, END - YEAR_OF_WEEKS_DAYS, CUT - 90, CUT, END
    )


def fitted(christmas: float) -> LifetimeValueFit:
    before, after, choice, cut, end = looked_at(christmas)
    return fit_lifetime_value([choice], cut, end, "week", (before, after))


def test_a_season_seen_once_before_takes_the_bias_out() -> None:
    """Three times as many purchases in two months of the year; the levels of both years are the same in truth."""
    report = fitted(3.0).report
    without = report["holdout"][report["chosen"]]["total_bias"]
    assert without < -0.15
    assert abs(report["season"]["total_bias"]) <= 0.08
    assert report["season"]["level"] > 1.2


def test_a_warning_of_the_bias_tells_of_last_year() -> None:
    (warning,) = (told for told in fitted(3.0).warnings if "off the total of purchases" in told)
    assert "the same days of last year brought" in warning


def test_without_a_season_the_level_is_one() -> None:
    """But for chance."""
    season = fitted(1.0).report["season"]
    assert season["level"] == pytest.approx(1.0, abs=0.1)
    assert season["from"] == str(FIRST_DATE + dt.timedelta(days=CUT - YEAR_OF_WEEKS_DAYS + 1))


def test_a_last_year_with_next_to_nothing_gives_no_level() -> None:
    """The reason says so, and no number is made up."""
    before, after, choice, cut, _ = looked_at(1.0)
    few = set(before.customer_ids[:15])
    chosen = choose([choice], cut, 7.0)
    found = seasonal_level(before.only(few), after.only(few), chosen, 7.0)
    assert found["level"] is None
    assert found["reason"]


def test_last_year_is_looked_at_only_where_there_is_history_before_it() -> None:
    """A holdout of 90 days needs 90 days more than a year before the cut."""
    assert Days.of(0, 364 + 90 + 90, 90).last_year == (90, 180)
    assert Days.of(0, 364 + 90 + 89, 90).last_year is None
    assert {90, 180} <= set(Days.of(0, 364 + 90 + 90, 90).all)
