"""What is peculiar about a history, said in a sentence each: an import, regular gaps, growth, a season."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.snapshot import Snapshot
from enrichment.days import YEAR_DAYS, format_day
from schemas.documents import Document

Ints = npt.NDArray[np.int64]

LEAST_CUSTOMERS: Final = 20
ONE_DAY_SHARE: Final = 0.2
"""A day with so many of all first orders is an import's, or leaves fifths that cannot be told apart."""
LEAST_OWN_GAPS: Final = 3
REGULAR_SPREAD: Final = 0.25
"""Gaps whose standard deviation is at most so much of their mean are regular; those of chance have 1."""
REGULAR_SHARE: Final = 0.5
LATE_PART, LATE_SHARE = 0.25, 0.5
"""Growth: so many of the customers came in the last such part of the history, where a quarter would be even."""
MONTHS: Final = 12
MONTH_FACTOR: Final = 2.0
"""A season: a month of the year with so many times as many purchase days as months have on average."""
MONTH_NAMES: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)


def peculiarities(snapshot: Snapshot) -> tuple[Document, list[str]]:
    """What was looked for and found, and a warning for each peculiarity; nothing of fewer than LEAST_CUSTOMERS.

    - `busiest_first_day` (`day`, `share`): the day with most of the first orders;
    - `regular_share`: of the customers with LEAST_OWN_GAPS gaps between purchase days, those who buy at regular gaps;
    - `late_share`: of all customers, those who came in the last LATE_PART of the history;
    - `busiest_month` (`month`, `times`): the month of the year with most purchase days within the last whole years, and
      how many times as many it has as months have on average; None of less than a year.
    """
    bought = [_purchase_days(view.money.columns) for view in snapshot.views]
    first = [view.money.totals.first_day for view in snapshot.views]
    firsts = np.array([day for day in first if day is not None], dtype=np.int64)
    if len(firsts) < LEAST_CUSTOMERS:
        return {}, []
    found: Document = {
        "busiest_first_day": _busiest(firsts),
        "regular_share": _regular_share(bought),
        "late_share": _late_share(firsts, snapshot.day),
        "busiest_month": _busiest_month(bought, int(firsts.min()), snapshot.day),
    }
    return found, _sentences(found)


def _purchase_days(columns: Ints) -> Ints:
    days: Ints = columns[columns[:, 1] > 0, 0]
    return days


def _busiest(firsts: Ints) -> Document:
    days, counts = np.unique(firsts, return_counts=True)
    most = int(counts.argmax())
    return {"day": format_day(int(days[most])), "share": round(float(counts[most] / len(firsts)), 6)}


def _regular_share(bought: list[Ints]) -> float | None:
    spreads = [
        float(gaps.std() / gaps.mean())
        for gaps in (np.diff(days) for days in bought)
        if len(gaps) >= LEAST_OWN_GAPS
    ]
    if len(spreads) < LEAST_CUSTOMERS:
        return None
    return round(float(np.mean(np.array(spreads) <= REGULAR_SPREAD)), 6)


def _late_share(firsts: Ints, day: int) -> float:
    history_days = day - int(firsts.min()) + 1
    return round(float(np.mean(firsts > day - LATE_PART * history_days)), 6)


def _busiest_month(bought: list[Ints], first_day: int, day: int) -> Document | None:
    """Of whole years only, so that each month counts as often as every other."""
    years = min(day - first_day + 1, 2 * YEAR_DAYS) // YEAR_DAYS
    if years == 0:
        return None
    days = np.concatenate(bought)
    days = days[days > day - years * YEAR_DAYS]
    if len(days) == 0:
        return None
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % MONTHS
    counts = np.bincount(months, minlength=MONTHS)
    most = int(counts.argmax())
    return {"month": MONTH_NAMES[most], "times": round(float(counts[most] / counts.mean()), 6)}


def _sentences(found: Document) -> list[str]:
    first_day, month = found["busiest_first_day"], found["busiest_month"]
    regular, late = found["regular_share"], found["late_share"]
    told = []
    if first_day["share"] >= ONE_DAY_SHARE:
        told.append(
            f"{first_day['share']:.0%} of the customers have their first order on {first_day['day']}, as after an "
            "import: they tie in tenure, and customers who tie cannot be cut into fifths"
        )
    if regular is not None and regular >= REGULAR_SHARE:
        told.append(
            f"{regular:.0%} of the customers with {LEAST_OWN_GAPS + 1} purchase days or more buy at regular gaps, as "
            "subscribers do: of the families, only MBG/CNBD-k knows regular buyers"
        )
    if late >= LATE_SHARE:
        told.append(
            f"{late:.0%} of the customers came in the last quarter of the history: what is expected of them rests on "
            "what the fewer before them did"
        )
    if month is not None and month["times"] >= MONTH_FACTOR:
        told.append(
            f"{month['month']} has {month['times']:.1f} times as many purchase days as a month has on average: no "
            "family knows seasons, so less is expected than comes in it, and more than comes right after it"
        )
    return told
