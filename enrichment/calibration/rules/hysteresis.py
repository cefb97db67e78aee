"""Hysteresis that a history can bear: how far a threshold must be passed, and for how long a standing then lasts.

Larger margins and longer dwell spare customers from going there and back. They also keep some at the top who no longer
belong there, or keep from the top some who do. So every pair on a grid is lived through, week by week, for segments and
for tiers. Of those whose upper standings are nearly as large as without any hysteresis, and bring nearly as much for
their size, the calmest is taken.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.as_lived.there_and_back import BACK_WITHIN_DAYS
from enrichment.calibration.as_lived.timelines import NO_STANDING
from enrichment.calibration.snapshot import Snapshot
from enrichment.days import YEAR_DAYS
from enrichment.model import Model
from enrichment.money import MICROS_PER_UNIT
from enrichment.scoring.evaluate import Table, evaluate
from enrichment.scoring.standing import HIGH, MEDIUM, SEGMENT, TIER, Candidates, candidates
from schemas.documents import Document
from schemas.profiles import DIMENSIONS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MARGINS: Final = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
DWELLS: Final = (7, 14, 21)
MOST_LOST: Final = 0.01
"""Of the revenue of each upper standing, beside what as many customers with the most points bring."""
LEAST_SIZE: Final = 0.9
"""Of the customers whom the plain rule puts into each upper standing: large margins at the top keep it empty."""
WEEKS: Final = 39
LEAST_WEEKS: Final = 20
"""Fewer weeks say too little about going there and back, and about what comes after."""
SETTLING_WEEKS: Final = 4
"""In the first weeks everybody stands where the plain rule puts them."""
HORIZON_DAYS: Final = 90
"""Revenue is that of so many days after a week."""
UPPER: Final = {SEGMENT: (HIGH, MEDIUM), TIER: (0, 1, 2)}
"""Standings down to which revenue is counted, of each dimension that is fitted."""


@dataclass(frozen=True, slots=True)
class HysteresisFit:
    """A document with hysteresis of segments and tiers, and how it came about; as it was where little could be said."""

    document: Document
    report: Document
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Lived:
    """What a margin and a dwell come to: moves that were taken back, per customer-year, and what was brought.

    `captured` has, for each upper standing, the revenue of the customers down to it, by that of as many with the most
    points; NaN where those brought nothing. `size` has the customer-weeks down to it.
    """

    margin: float
    dwell_days: int
    per_customer_year: float
    captured: Floats
    size: Ints

    def lost(self, free: Lived) -> float:
        """The largest share that one of the standings loses of what it captures in `free`, of those that bring any."""
        told = ~np.isnan(free.captured)
        kept = np.nan_to_num(self.captured[told]) / free.captured[told]
        return float(1.0 - kept.min())

    def is_bearable(self, free: Lived) -> bool:
        """Whether each standing is nearly as large as in `free`, and brings nearly as much for its size."""
        return self.lost(free) <= MOST_LOST and bool((self.size >= LEAST_SIZE * free.size).all())


def weeks_before(day: int, first_day: int) -> list[int]:
    """The days at whose ends a history is looked at for a fit to `day`, ascending; none before `first_day`."""
    return [at for at in range(day - 7 * WEEKS, day + 1, 7) if at >= first_day]


def fit_hysteresis(document: Document, weeks: Sequence[Snapshot]) -> HysteresisFit:
    """Fit margin and dwell of segments and of tiers, for a document that has its thresholds.

    `weeks` are snapshots of some customers, a week apart, ascending; the last is of the day that the document is fitted
    to.
    """
    if len(weeks) < LEAST_WEEKS:
        return _kept(document, f"{len(weeks)} weeks of history, and {LEAST_WEEKS} are needed")
    history = history_of(weeks, Model.model_validate(document))
    found = copy.deepcopy(document)
    report: Document = {"action": "fitted", "weeks": len(weeks), "customers": history.customers}
    for dimension in (SEGMENT, TIER):
        tried = _tried(found, history, dimension)
        if tried is None:
            return _kept(document, f"what each {DIMENSIONS[dimension]} brings cannot be told")
        best, free = tried
        name = DIMENSIONS[dimension]
        found["hysteresis"][name] = {"score_margin": best.margin, "dwell_days": best.dwell_days}
        report[name] = {
            "score_margin": best.margin,
            "dwell_days": best.dwell_days,
            "there_and_back_per_customer_year": round(best.per_customer_year, 6),
            "without": round(free.per_customer_year, 6),
            "lost_share": round(best.lost(free), 6),
        }
    return HysteresisFit(found, report, [])


def _tried(document: Document, history: History, dimension: int) -> tuple[Lived, Lived] | None:
    """The calmest pair that loses little, and what is without any hysteresis.

    None where no standing brings anything, or a threshold is so near to the top that it could not be passed.
    """
    own = document["hysteresis"].get(DIMENSIONS[dimension]) or document["hysteresis"]
    highest = _highest_threshold(document, dimension)
    margins = {*MARGINS, float(own["score_margin"])}
    # Nearer to the top than its margin nobody could rise.
    passable = sorted(margin for margin in margins if highest + margin <= 100.0)
    dwells = sorted({*DWELLS, int(own["dwell_days"])})
    (free,) = history.lived(document, dimension, 0.0, [0])
    if np.isnan(free.captured).all():
        return None
    found = [lived for margin in passable for lived in history.lived(document, dimension, margin, dwells)]
    bearable = [lived for lived in found if lived.is_bearable(free)]
    if bearable:
        best = min(bearable, key=lambda lived: (lived.per_customer_year, lived.margin, lived.dwell_days))
        return best, free
    return (found[0], free) if found else None  # of the smallest margin, and the shortest dwell


def _highest_threshold(document: Document, dimension: int) -> float:
    if dimension == SEGMENT:
        return max(float(document["segments"]["high"]), float(document["segments"]["emerging_potential"]))
    tiers = document["tiers"]
    return max(float(tiers[f"by_{by}"]["strategic"]) for by in (tiers.get("by", "value"), "potential"))


@dataclass(frozen=True, slots=True)
class History:
    """Weeks of some customers: `row[week, customer]` is a row of `table`, or NO_STANDING.

    `later[week, customer]` is the revenue (base units) of the HORIZON_DAYS after a week, for the weeks that have as
    many after them.
    """

    table: Table
    row: Ints
    day: Ints
    later: Floats
    customers: int

    def lived(
        self, document: Document, dimension: int, margin: float, dwells: Iterable[int]
    ) -> Iterator[Lived]:
        """What comes of one margin with each dwell."""
        found = self.candidates(document, dimension, margin)
        for dwell_days in dwells:
            standing = self.standings(found, dimension, dwell_days)
            captured, size = self._captured(standing, dimension)
            yield Lived(margin, dwell_days, self.taken_back(standing), captured, size)

    def candidates(self, document: Document, dimension: int, margin: float) -> Candidates:
        """Where the rules would have everyone stand, with a margin for one dimension: rows as in `table`."""
        own = {"score_margin": margin, "dwell_days": 0}
        hysteresis = {**document["hysteresis"], DIMENSIONS[dimension]: own}
        model = Model.model_validate({**document, "hysteresis": hysteresis})
        return candidates(self.table.features, self.table.scored, model)

    def standings(self, found: Candidates, dimension: int, dwell_days: int) -> Ints:
        """Everyone's rank in a dimension at the end of each week, NO_STANDING without one: (weeks, customers).

        It is what `next_standing` gives, if customers are looked at once a week.
        """
        has_order = self.table.features.order_count > 0
        rank = np.full(self.customers, NO_STANDING)
        changed = np.full(self.customers, self.day[0])
        had_order = np.zeros(self.customers, dtype=np.bool_)
        standing = np.empty_like(self.row)
        for week, (row, day) in enumerate(zip(self.row, self.day, strict=True)):
            there = row != NO_STANDING
            at = row[there]
            now = np.full(self.customers, NO_STANDING)
            plain, hard, easy = (ranks[at, dimension] for ranks in (found.plain, found.hard, found.easy))
            at_once = (rank[there] == NO_STANDING) | (had_order[there] != has_order[at])
            lasts = day - changed[there] < dwell_days
            moved = np.minimum(np.maximum(rank[there], easy), hard)
            now[there] = np.where(at_once, plain, np.where(lasts, rank[there], moved))
            changed[now != rank] = day
            had_order[there] = has_order[at]
            rank = standing[week] = now
        return standing

    def taken_back(self, standing: Ints) -> float:
        """Moves after which a customer was back within BACK_WITHIN_DAYS, per customer-year."""
        settled = standing[SETTLING_WEEKS:]
        before, after = settled[:-1], settled[1:]
        moved = (before != after) & (before != NO_STANDING) & (after != NO_STANDING)
        back = np.zeros_like(moved)
        for ahead in range(1, BACK_WITHIN_DAYS // 7 + 1):
            back[: len(moved) - ahead] |= settled[1 + ahead :] == before[: len(moved) - ahead]
        years = np.count_nonzero(before != NO_STANDING) * 7 / YEAR_DAYS
        return float(np.count_nonzero(moved & back) / years) if years else 0.0

    def _captured(self, standing: Ints, dimension: int) -> tuple[Floats, Ints]:
        """`captured` and `size` of `Lived`, over the weeks whose later revenue is known."""
        scored, upper = self.table.scored, UPPER[dimension]
        points = scored.lifetime_value_score if dimension == SEGMENT else scored.tier_points
        brought, usual = np.zeros(len(upper)), np.zeros(len(upper))
        size = np.zeros(len(upper), dtype=np.int64)
        for week in range(SETTLING_WEEKS, len(self.later)):
            row, revenue = self.row[week], self.later[week]
            of_points = np.where(row == NO_STANDING, -np.inf, points[row])
            by_points = np.append(0.0, np.cumsum(revenue[np.argsort(-of_points, kind="stable")]))
            for at, lowest in enumerate(upper):
                members = (standing[week] != NO_STANDING) & (standing[week] <= lowest)
                many = np.count_nonzero(members)
                brought[at] += revenue[members].sum()
                usual[at] += by_points[many]
                size[at] += many
        return np.divide(brought, usual, out=np.full(len(upper), np.nan), where=usual > 0), size


def history_of(weeks: Sequence[Snapshot], model: Model) -> History:
    """The history that snapshots tell, with everyone scored by a model."""
    customer_ids = sorted({customer_id for week in weeks for customer_id in week.customer_ids})
    place = {customer_id: at for at, customer_id in enumerate(customer_ids)}
    row = np.full((len(weeks), len(customer_ids)), NO_STANDING)
    first = 0
    for at, week in enumerate(weeks):
        row[at, [place[customer_id] for customer_id in week.customer_ids]] = np.arange(
            first, first + len(week)
        )
        first += len(week)
    views = [view for week in weeks for view in week.views]
    day = np.array([week.day for week in weeks], dtype=np.int64)
    table = evaluate(views, np.arange(first), np.repeat(day, [len(week) for week in weeks]), model)
    return History(table, row, day, _later(weeks, customer_ids), len(customer_ids))


def _later(weeks: Sequence[Snapshot], customer_ids: Sequence[str]) -> Floats:
    """Revenue (base units) of the days after each week, as far as the last one knows them: (weeks, customers)."""
    end = weeks[-1]
    seen = [week.day for week in weeks if week.day + HORIZON_DAYS <= end.day]
    from_days = np.array(seen, dtype=np.int64)
    later = np.zeros((len(seen), len(customer_ids)))
    for at, place in enumerate(end.positions(customer_ids)):
        if place >= 0:
            columns = end.views[place].money.columns  # day, orders, counted, revenue, ...
            reached = np.append(0, np.cumsum(columns[:, 3]))
            first, last = (
                np.searchsorted(columns[:, 0], days, side="right")
                for days in (from_days, from_days + HORIZON_DAYS)
            )
            later[:, at] = (reached[last] - reached[first]) / MICROS_PER_UNIT
    return later


def _kept(document: Document, reason: str) -> HysteresisFit:
    return HysteresisFit(
        document,
        {"action": "kept", "reason": reason},
        [f"hysteresis: {reason}: margins and dwell stay as they were"],
    )
