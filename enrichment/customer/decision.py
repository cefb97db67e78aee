"""What has been decided about a customer: the part of the state that cannot be computed again."""

from __future__ import annotations

import msgspec

Ranks = tuple[int, int, int]
NO_DWELL_DAY = 0
"""Stands for "no change yet" after a first load, so that dwell does not apply: nothing tells since when a customer has
stood there."""


class Baseline(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The last evaluation that brought a change: metrics, their contributions to value, and scores."""

    metrics: tuple[float | None, ...]
    contributions: tuple[float, ...]
    scores: tuple[float, ...]


class PendingTrigger(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A re-activation that falls due on the midnight of a day, unless the customer comes back before."""

    change_id: str
    due_day: int


class Decision(msgspec.Struct, array_like=True, gc=False):
    """What has been decided and published about one customer; with it a stream goes on where another stopped.

    `standing` holds ranks in the order of `standing.DIMENSIONS`; `changed_days` the UTC day of each one's
    last change; `model` the fingerprint of the model of the last evaluation, `model_day` the first day that
    it evaluated.
    """

    life: int = 0
    sequence: int = 0
    standing: Ranks | None = None
    changed_days: Ranks = (NO_DWELL_DAY, NO_DWELL_DAY, NO_DWELL_DAY)
    baseline: Baseline | None = None
    pending: PendingTrigger | None = None
    fired_change_id: str | None = None
    model: str | None = None
    model_day: int = 0
    erased_up_to_us: int | None = None
