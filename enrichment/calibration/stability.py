"""How many customers keep their standing from one snapshot to the next, and where the others go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from enrichment.calibration.snapshot import Snapshot
from enrichment.days import format_day
from enrichment.model import Model
from enrichment.scoring.scores import score
from enrichment.scoring.standing import STANDINGS, Candidates, candidates, next_standing
from schemas.documents import Document
from schemas.profiles import DIMENSIONS

Ranks = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_KEPT = 0.8
"""Where a smaller share keeps a standing from month to month, it is warned of: campaigns outlast such segments."""


def stability(snapshots: Iterable[Snapshot], model: Model) -> Document:
    """Standings over ascending snapshots, monthly ones as a rule, which may come one at a time from a generator.

    `kept_share` is of those who are in both of two snapshots. It is told twice: by the plain rules, and with hysteresis
    and dwell, asked at the snapshots only (the stream asks each day, so it moves a little more). `transitions` holds,
    with hysteresis, how many went from each standing (rows) to each (columns), in the order of `standings`, over all
    pairs of snapshots. One model scores all snapshots, as if it had been there all along.
    """
    periods: list[Document] = []
    counts = [np.zeros((len(names), len(names)), dtype=np.int64) for names in STANDINGS]
    before: _Standings | None = None
    for snapshot in snapshots:
        now = _standings(snapshot, model, before)
        if before is not None:
            periods.append(_period(before, now, counts))
        before = now
    in_all = sum(period["customers"] for period in periods)
    dimensions: dict[str, Document] = {
        name: _dimension(at, counts[at], [period["kept_share"][name] for period in periods], in_all, periods)
        for at, name in enumerate(DIMENSIONS)
    }
    return {"periods": periods, "dimensions": dimensions, "warnings": _warnings(periods, dimensions)}


class _Standings:
    """Everyone's standing at one snapshot: plain, and with hysteresis, with the days since which they have it."""

    def __init__(
        self, day: int, customer_ids: tuple[str, ...], plain: Ranks, held: Ranks, since: Ranks
    ) -> None:
        self.day = day
        self.plain = plain
        self.held = held
        self.since = since
        self.row = {customer_id: row for row, customer_id in enumerate(customer_ids)}


def _standings(snapshot: Snapshot, model: Model, before: _Standings | None) -> _Standings:
    if not len(snapshot):
        nobody = np.zeros((0, len(DIMENSIONS)), dtype=np.int64)
        return _Standings(snapshot.day, (), nobody, nobody, nobody)
    features = snapshot.features(model)
    found = candidates(features, score(features, model), model)
    held, since = found.plain.copy(), np.full(found.plain.shape, snapshot.day, dtype=np.int64)
    if before is not None:
        known = np.array(
            [before.row.get(customer_id, -1) for customer_id in snapshot.customer_ids], dtype=np.int64
        )
        stayed = known >= 0
        held[stayed], since[stayed] = before.held[known[stayed]], before.since[known[stayed]]
        asked = (found.plain != held) | (found.hard != held) | (found.easy != held)
        for row in np.flatnonzero(stayed & asked.any(axis=1)).tolist():
            held[row], since[row] = _moved(held[row], since[row], found, row, snapshot.day, model)
    return _Standings(snapshot.day, snapshot.customer_ids, found.plain, held, since)


def _moved(
    held: Ranks, since: Ranks, found: Candidates, row: int, day: int, model: Model
) -> tuple[list[int], list[int]]:
    """A customer's next standing, by the function that decides it in the stream, and since when they have it."""
    segment, tier, lifecycle = held.tolist()
    segment_day, tier_day, lifecycle_day = since.tolist()
    ranks = next_standing(
        (segment, tier, lifecycle),
        (segment_day, tier_day, lifecycle_day),
        day,
        found.plain[row].tolist(),
        found.hard[row].tolist(),
        found.easy[row].tolist(),
        bool(found.past_new[row]),
        model.hysteresis.dwell_by_dimension,
    )
    days = [day if rank != was else old for rank, was, old in zip(ranks, held, since.tolist(), strict=True)]
    return list(ranks), days


def _period(before: _Standings, now: _Standings, counts: list[Ranks]) -> Document:
    """One pair of snapshots; adds its moves to `counts`."""
    both = [
        (before.row[customer_id], row) for customer_id, row in now.row.items() if customer_id in before.row
    ]
    pairs = np.array(both, dtype=np.int64).reshape(len(both), 2)
    was, is_now = before.held[pairs[:, 0]], now.held[pairs[:, 1]]
    for at, matrix in enumerate(counts):
        np.add.at(matrix, (was[:, at], is_now[:, at]), 1)
    plain_kept = before.plain[pairs[:, 0]] == now.plain[pairs[:, 1]]
    return {
        "from": format_day(before.day),
        "until": format_day(now.day),
        "customers": len(both),
        "entered": len(now.row) - len(both),
        "left": len(before.row) - len(both),
        "kept_share": _shares(was == is_now),
        "kept_share_plain": _shares(plain_kept),
        "upgraded_share": _shares(is_now < was),
        "downgraded_share": _shares(is_now > was),
    }


def _shares(chosen: Bools) -> dict[str, float | None]:
    """Per dimension, the share of rows that hold; null without rows."""
    return {
        name: round(float(chosen[:, at].mean()), 6) if len(chosen) else None
        for at, name in enumerate(DIMENSIONS)
    }


def _dimension(
    at: int, counts: Ranks, shares: list[float | None], in_all: int, periods: list[Document]
) -> Document:
    """All pairs of snapshots together."""
    name, rows = DIMENSIONS[at], counts.sum(axis=1)
    told = [share for share in shares if share is not None]
    plain = sum(period["customers"] * (period["kept_share_plain"][name] or 0.0) for period in periods)
    return {
        "standings": list(STANDINGS[at]),
        "transitions": counts.tolist(),
        "transition_shares": [
            [round(count / total, 6) for count in row] if total else None
            for row, total in zip(counts.tolist(), rows.tolist(), strict=True)
        ],
        "kept_share": round(float(np.trace(counts)) / in_all, 6) if in_all else None,
        "kept_share_plain": round(plain / in_all, 6) if in_all else None,
        "least_kept_share": min(told, default=None),
    }


def _warnings(periods: list[Document], dimensions: dict[str, Document]) -> list[str]:
    if not periods:
        return ["stability needs at least two snapshots: nothing can be said of it"]
    warnings = []
    for name, dimension in dimensions.items():
        kept = dimension["kept_share"]
        if kept is None:
            return ["no customer is in two snapshots: nothing can be said of stability"]
        if kept < LEAST_KEPT:
            warnings.append(f"only {kept:.0%} keep their {name} from one snapshot to the next")
    return warnings
