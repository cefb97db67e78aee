"""Recourse: what would move one customer to a better standing, by the functions that decide; nothing is changed.

Dwell is left out of it: a standing that may not move yet moves when it is over, if the rules still say so then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Ranks
from enrichment.customer.validation import Horizons
from enrichment.days import day_of, format_day
from enrichment.insight.actions import Taken, actions_of, take
from enrichment.insight.metric_changes import Tried, metric_at, try_metric_changes
from enrichment.model import Model
from enrichment.money import format_micros
from enrichment.scoring.evaluate import Table, evaluate
from enrichment.scoring.standing import AT_RISK, LIFECYCLE, STANDINGS, next_standing
from schemas.documents import Document
from schemas.profiles import DIMENSIONS


def recourse(
    customer: Customer, as_of_us: int, model: Model, horizons: Horizons | None = None
) -> Document | None:
    """Per dimension the standing of now and what would better it; None for a customer without a standing.

    `moves_up_anyway` tells where nothing is needed but the end of dwell. `changes` are the smallest changes in one
    metric that are enough today, those of the fewest points first. `actions` are the fewest records that are enough,
    each by the day of the last one, beside the standing on that day without them.
    """
    decision, day = customer.decision, day_of(as_of_us)
    if decision.standing is None or not customer.snapshot().permissions.allows_profiling(day):
        return None
    tried = try_metric_changes(customer.snapshot(), day, model)
    taken = [
        one
        for action in actions_of(customer, day)
        for one in take(customer, action, as_of_us, horizons or Horizons())
    ]
    tables = _on_their_days(customer, taken, model) if taken else None
    found: Document = {}
    for at, dimension in enumerate(DIMENSIONS):
        now = decision.standing
        by_itself = _next(now, tried.table, 0)[at]
        can_rise = now[at] >= AT_RISK if at == LIFECYCLE else now[at] > 0
        needed = can_rise and by_itself >= now[at]
        found[dimension] = {
            "current": STANDINGS[at][now[at]],
            "at_the_top": not can_rise,
            "moves_up_anyway": STANDINGS[at][by_itself] if can_rise and not needed else None,
            "changes": _changes(at, now, tried) if needed else [],
            "actions": _actions(at, now, taken, *tables, model) if needed and tables else [],
        }
    return found


def _next(now: Ranks, table: Table, row: int) -> Ranks:
    """The standing after an evaluation of a row, with hysteresis, and with dwell over."""
    found, day = table.candidates, int(table.features.day[row])
    return next_standing(
        now,
        (day, day, day),
        day,
        found.plain[row].tolist(),
        found.hard[row].tolist(),
        found.easy[row].tolist(),
        bool(found.past_new[row]),
        dwell_days=(0, 0, 0),
    )


def _changes(at: int, now: Ranks, tried: Tried) -> list[Document]:
    """The first candidate of each metric change that betters the standing, of the fewest points in its metric first."""
    changes: list[tuple[float, str, Document]] = []
    for metric_change, rows in tried.rows:
        for row in rows:
            rank = _next(now, tried.table, row)[at]
            if rank >= now[at]:
                continue
            before, points_before = metric_at(tried.table, 0, metric_change.metric)
            after, points_after = metric_at(tried.table, row, metric_change.metric)
            change: Document = {
                "metric": metric_change.metric,
                "meaning": metric_change.meaning,
                "from": _plain(before),
                "to": _plain(after),
                "points": round(points_after - points_before, 6),
                "standing": STANDINGS[at][rank],
            }
            changes.append((abs(points_after - points_before), metric_change.metric, change))
            break
    return [change for _, _, change in sorted(changes, key=lambda entry: entry[:2])]


def _on_their_days(customer: Customer, taken: Sequence[Taken], model: Model) -> tuple[Table, Table]:
    """Everyone of `taken` on their day, and the customer as they are on the same days."""
    days = np.array([one.day for one in taken], dtype=np.int64)
    snapshots = [one.snapshot for one in taken]
    after = evaluate(snapshots, np.arange(len(snapshots)), days, model)
    before = evaluate([customer.snapshot()], np.zeros(len(days), dtype=np.int64), days, model)
    return after, before


def _actions(
    at: int, now: Ranks, taken: Sequence[Taken], after: Table, without: Table, model: Model
) -> list[Document]:
    """Of each action the fewest records that better the standing, in the order of the actions."""
    actions: list[Document] = []
    enough: set[int] = set()
    for row, one in enumerate(taken):
        rank = _next(now, after, row)[at]
        if id(one.action) in enough or rank >= now[at]:
            continue
        enough.add(id(one.action))
        allowed = bool(without.features.profiling_allowed[row])
        otherwise = STANDINGS[at][_next(now, without, row)[at]] if allowed else None
        told = dict(one.action.told)
        if "amount_micros" in told:
            told["amount"] = format_micros(told.pop("amount_micros"), model.minor_unit_digits)
        actions.append(
            {
                **told,
                "times": one.times,
                "every_days": one.action.every_days if one.times > 1 else None,
                "until": format_day(one.day),
                "standing": STANDINGS[at][rank],
                "without": otherwise,
                "value": _pair(without.scored.value[row], after.scored.value[row]),
                "customer_lifetime_value_365d": _pair(
                    without.scored.customer_lifetime_value_365d[row],
                    after.scored.customer_lifetime_value_365d[row],
                ),
            }
        )
    return actions


def _pair(without: Any, after: Any) -> dict[str, float | None]:
    """A number without the action and with it; None where it is not defined."""
    return {
        "without": None if np.isnan(without) else float(without),
        "with": None if np.isnan(after) else float(after),
    }


def _plain(value: float | None) -> float | int | None:
    """Whole numbers as integers, so that days read as days."""
    return int(value) if value is not None and value.is_integer() else value
