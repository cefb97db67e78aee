"""One evaluation of customers on days: features, scores, and where the rules would have them stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from enrichment.customer.customer import CustomerSnapshot
from enrichment.model import Model
from enrichment.scoring.features import Features, Ints, build_features
from enrichment.scoring.scores import Scored, score
from enrichment.scoring.standing import Candidates, candidates


class Table(NamedTuple):
    """Feature rows with their scores and candidate standings."""

    features: Features
    scored: Scored
    candidates: Candidates


def evaluate(snapshots: Sequence[CustomerSnapshot], snapshot_at: Ints, days: Ints, model: Model) -> Table:
    """Evaluate row by row: `snapshots[snapshot_at[row]]` at the end of `days[row]`, a day since the epoch.

    Args:
        snapshots: customers as they were; each may stand in any number of rows.
        snapshot_at: shape (rows,).
        days: shape (rows,).
        model: the value model whose rules apply.
    """
    return evaluate_features(build_features(snapshots, snapshot_at, days, model), model)


def evaluate_features(features: Features, model: Model) -> Table:
    """Evaluate feature rows that are there already, such as altered ones."""
    scored = score(features, model)
    return Table(features, scored, candidates(features, scored, model))
