"""Engagement as day buckets: what a customer did and cost, by UTC day; and what they declared."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from enrichment.days import DAY_US, day_of
from enrichment.model import Model
from enrichment.money import convert_micros
from schemas.events import Engagement

COUNT_WINDOW_DAYS = 90
COST_WINDOW_DAYS = 365

Answer = str | bool | int | float


class DayEngagement(NamedTuple):
    """One UTC day: interactions by `channel.kind`, and cost to serve (base micro-units). Never changed."""

    day: int
    counts: dict[str, int]
    cost_micros: int


class Latest(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The latest value of one key, by (`occurred_at`, `event_id`)."""

    occurred_at_us: int
    event_id: str
    value: Answer


class EngagementState(msgspec.Struct, array_like=True, gc=False):
    """One customer's engagement. `last_day_by_kind` leaves automated interactions out."""

    days: tuple[DayEngagement, ...] = ()
    last_day_by_kind: dict[str, int] = {}
    cost_to_acquire_micros: int = 0
    gross_cost_micros: int = 0
    declared: dict[str, Latest] = {}


def count_key(engagement: Engagement) -> str:
    """`channel.kind`; `none.kind` without a channel; `automated.kind` for machine opens and prefetches."""
    if engagement.automated:
        return f"automated.{engagement.kind}"
    return f"{engagement.channel or 'none'}.{engagement.kind}"


def scored_weight(key: str, model: Model) -> float:
    """What one interaction under this key adds to engagement; 0 for automated ones and unscored kinds."""
    channel, _, kind = key.rpartition(".")
    return 0.0 if channel == "automated" else model.scored_kinds.get(kind, 0.0)


def cost_micros(engagement: Engagement, model: Model) -> int:
    """What this touch cost, in base micro-units: its own cost, else the model's unit cost for its kind.

    Acquisition has no unit cost: it costs what its records say.
    """
    if engagement.cost_micros is not None:
        assert engagement.currency is not None
        return convert_micros(engagement.cost_micros, model.rate_by_currency[engagement.currency])
    return 0 if engagement.kind == "acquired" else model.engagement.kinds[engagement.kind].unit_cost_micros


def apply_engagement(state: EngagementState, engagement: Engagement, model: Model) -> bool:
    """Enter one accepted record; tells whether it was a scored engagement."""
    day = day_of(engagement.occurred_at_us)
    cost = cost_micros(engagement, model)
    state.gross_cost_micros += cost
    cost_to_serve = cost
    if engagement.kind == "acquired":
        state.cost_to_acquire_micros += cost
        cost_to_serve = 0
    key = count_key(engagement)
    state.days = _with_interaction(state.days, day, key, cost_to_serve)
    if not engagement.automated and day > state.last_day_by_kind.get(engagement.kind, -1):
        state.last_day_by_kind[engagement.kind] = day
    if engagement.declared:
        state.declared = with_latest(
            state.declared, engagement.declared, engagement.occurred_at_us, engagement.event_id
        )
    return scored_weight(key, model) > 0


def last_engaged_day(state: EngagementState, model: Model) -> int | None:
    """The day of the newest interaction of a kind with positive weight."""
    return max(
        (day for kind, day in state.last_day_by_kind.items() if kind in model.scored_kinds), default=None
    )


def without_before(state: EngagementState, keep_from_us: int) -> EngagementState:
    """What is left when engagement and declared data dated before `keep_from_us` are deleted.

    Interactions are held by day, so a day that is cut in two goes whole: privacy comes before completeness.
    Costs to acquire carry no day and go too.
    """
    first_day = -(-keep_from_us // DAY_US)
    return EngagementState(
        days=tuple(bucket for bucket in state.days if bucket.day >= first_day),
        last_day_by_kind={kind: day for kind, day in state.last_day_by_kind.items() if day >= first_day},
        declared=latest_from(state.declared, keep_from_us),
    )


def latest_from(held: Mapping[str, Latest], keep_from_us: int) -> dict[str, Latest]:
    """Without the values dated before a time."""
    return {key: latest for key, latest in held.items() if latest.occurred_at_us >= keep_from_us}


def with_latest(
    known: dict[str, Latest], values: Mapping[str, Answer], occurred_at_us: int, event_id: str
) -> dict[str, Latest]:
    """A new mapping in which each key has its latest value; the given one is left as it was."""
    result = dict(known)
    for key, value in values.items():
        current = result.get(key)
        if current is None or (occurred_at_us, event_id) > (current.occurred_at_us, current.event_id):
            result[key] = Latest(occurred_at_us, event_id, value)
    return result


def _with_interaction(
    days: tuple[DayEngagement, ...], day: int, key: str, cost: int
) -> tuple[DayEngagement, ...]:
    if not days or days[-1].day < day:
        kept = days
        if days and days[0].day <= day - COST_WINDOW_DAYS:
            kept = days[bisect_left(days, day - COST_WINDOW_DAYS + 1, key=lambda bucket: bucket.day) :]
        return (*kept, DayEngagement(day, {key: 1}, cost))
    at = bisect_left(days, day, key=lambda bucket: bucket.day)
    if days[at].day != day:
        return (*days[:at], DayEngagement(day, {key: 1}, cost), *days[at:])
    bucket = days[at]
    counts = {**bucket.counts, key: bucket.counts.get(key, 0) + 1}
    return (*days[:at], DayEngagement(day, counts, bucket.cost_micros + cost), *days[at + 1 :])
