"""How one customer came by their scores and their standing, told from Redis by the functions that decided it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from enrichment.customer.customer import Customer
from enrichment.customer.decision import NO_DWELL_DAY, Decision
from enrichment.days import day_of, format_day, midnight_us
from enrichment.deciding.drivers import baseline_of, drivers_between
from enrichment.deciding.profile import profile_document
from enrichment.insight.recourse import recourse
from enrichment.insight.segment_worth import expected_worth, later_worth, with_differences
from enrichment.model import METRIC_GROUPS, METRICS, Model
from enrichment.scoring.evaluate import Table, evaluate
from enrichment.scoring.scores import SCORES, Scored
from enrichment.scoring.standing import SEGMENT, STANDINGS
from schemas.documents import Document
from schemas.profiles import DIMENSIONS
from streams.console.terminal import visible_document, visible_json
from streams.errors import EbbtideError
from streams.insight.explain_text import explanation_text
from streams.settings import Settings
from streams.state.held_state import HeldPartition, held_partitions

MOST_PEERS: Final = 2_000
"""Customers read to compare segments by: enough for a mean, few enough to wait for."""
IN_SHORT: Final = 3


class _Found(NamedTuple):
    """A customer, where they are held, the last midnight of that partition, and others of it to compare with."""

    customer: Customer
    partition: int
    midnight_us: int
    peers: list[Customer]


def explain(settings: Settings, customer_id: str, as_json: bool) -> str:
    """One customer's profile, scores with their metrics, and standings, as text for people or as JSON.

    Raises:
        EbbtideError: Redis does not answer, holds nothing of the group, or does not know the customer.
    """
    model = settings.load_model()
    found = asyncio.run(_find(settings, customer_id, model))
    document = explanation(found.customer, found.partition, found.midnight_us, model)
    document |= outlook(found.customer, found.midnight_us, model, found.peers)
    if as_json:
        return visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return explanation_text(visible_document(document))


async def _find(settings: Settings, customer_id: str, model: Model) -> _Found:
    """Every partition is asked: by which partitioner a producer chose one is not for us to say."""
    found = []
    async with held_partitions(settings, model) as partitions:
        for held in partitions:
            customer = (await held.store.load([customer_id]))[customer_id]
            if customer.is_known:
                peers = await _peers(held) if later_worth(model) is None else []
                found.append(
                    _Found(customer, held.partition, midnight_us(held.checkpoint.midnight_day), peers)
                )
    if not found:
        raise EbbtideError(f"no customer {customer_id!r} in Redis at {settings.redis_address}")
    if len(found) > 1:
        where = ", ".join(str(one.partition) for one in found)
        raise EbbtideError(
            f"customer {customer_id!r} is in partitions {where}: the producers of the inputs use different partitioners"
        )
    return found[0]


async def _peers(held: HeldPartition) -> list[Customer]:
    """At most so many customers of a partition, evenly spread over their ids: the same ones each time."""
    ids = await held.store.all_ids()
    chosen = ids[:: -(-len(ids) // MOST_PEERS) or 1]
    return [customer for customer in (await held.store.load(chosen)).values() if customer.is_known]


def outlook(customer: Customer, last_midnight_us: int, model: Model, peers: Sequence[Customer]) -> Document:
    """What would move the customer up, and what segments are worth; null each where there is no standing.

    Worth is what the model's calibration found of later margin, else the mean lifetime value expected of `peers`.
    """
    ways = recourse(customer, customer.as_of_us(last_midnight_us), model)
    standing = customer.decision.standing
    if ways is None or standing is None:
        return {"ways_up": None, "worth": None}
    worth = later_worth(model) or expected_worth(peers, last_midnight_us, model)
    return {"ways_up": ways, "worth": with_differences(worth, STANDINGS[SEGMENT][standing[SEGMENT]])}


def explanation(customer: Customer, partition: int, last_midnight_us: int, model: Model) -> Document:
    """Everything that `explain` tells, as one document; where profiling is not allowed, without scores."""
    as_of_us = customer.as_of_us(last_midnight_us)
    day = np.array([day_of(as_of_us)], dtype=np.int64)
    table = evaluate([customer.snapshot()], np.zeros(1, dtype=np.int64), day, model)
    features, scored = table.features, table.scored
    decision, allowed = customer.decision, bool(features.profiling_allowed[0])
    pending, due_day = decision.pending, customer.state.due_day
    return {
        "profile": profile_document(customer.id, as_of_us, decision, features, scored, 0, model),
        "scores": {name: _score(name, scored, model, allowed) for name in SCORES},
        "standing": {
            dimension: _standing(at, table, decision, model, allowed)
            for at, dimension in enumerate(DIMENSIONS)
        },
        "value_in_short": _in_short(scored, model) if allowed else None,
        "hysteresis": model.hysteresis.model_dump(exclude_none=True),
        "since_last_change": _since_last_change(scored, decision) if allowed else None,
        "pending_trigger": (
            None
            if pending is None
            else {"change_id": pending.change_id, "due_on": format_day(pending.due_day)}
        ),
        "due_on": None if due_day is None else format_day(due_day),
        "partition": partition,
        "life": decision.life,
        "decided_by_another_model": decision.model not in (None, model.fingerprint),
    }


def _score(name: str, scored: Scored, model: Model, allowed: bool) -> Document:
    """A score with its metrics: raw value, points, share of the score, and what they add to it."""
    if not allowed:
        return {"score": None, "metrics": []}
    weights = model.value_weights if name == "value" else model.group_weights[name]
    metrics = []
    for at, metric in enumerate(METRICS):
        if name not in ("value", METRIC_GROUPS[metric]):
            continue
        weight, points = float(weights[at]), float(scored.points[0, at])
        added = float(scored.contributions[0, at]) if name == "value" else points * weight
        metrics.append(
            {
                "metric": metric,
                "value": _number(scored.metrics[0, at]),
                "points": points,
                "weight": round(weight, 6),
                "contribution": round(added, 6),
            }
        )
    return {"score": float(scored.scores[0, SCORES.index(name)]), "metrics": metrics}


def _in_short(scored: Scored, model: Model) -> Document:
    """The metrics that add most to value, and those in which most points of it are missing.

    `above_tenths`: than how many in 10 customers of the model's calibration the metric is higher; null where not known.
    """
    weights = 100.0 * model.value_weights
    parts: list[dict[str, Any]] = []
    for at, metric in enumerate(METRICS):
        adds, value = float(scored.contributions[0, at]), _number(scored.metrics[0, at])
        parts.append(
            {
                "metric": metric,
                "value": value,
                "adds": round(adds, 6),
                "lacks": round(float(weights[at]) - adds, 6),
                "above_tenths": _above_tenths(metric, value, model),
            }
        )
    most = sorted(parts, key=lambda part: -part["adds"])[:IN_SHORT]
    least = sorted(parts, key=lambda part: -part["lacks"])[:IN_SHORT]
    return {
        "value": float(scored.value[0]),
        "carried_by": [part for part in most if part["adds"] > 0],
        "held_back_by": [part for part in least if part["lacks"] > 0],
    }


def _above_tenths(metric: str, value: float | int | None, model: Model) -> int | None:
    reference = None if model.calibration is None else model.calibration.metrics.get(metric)
    if value is None or reference is None or len(reference.deciles) != 11:
        return None
    return min(int(np.searchsorted(reference.deciles[1:], value, side="left")), 9)


def _held_by(at: int, table: Table, decision: Decision, model: Model) -> str | None:
    """What keeps a standing that the plain rule would change: the margins, or the days that it lasts at least."""
    assert decision.standing is not None
    rank, found = decision.standing[at], table.candidates
    if found.plain[0, at] == rank:
        return None
    if found.easy[0, at] <= rank <= found.hard[0, at]:
        return "hysteresis"
    is_dwelling = int(table.features.day[0]) - decision.changed_days[at] < _dwell_days(at, model)
    return "dwell" if is_dwelling else None


def _dwell_days(at: int, model: Model) -> int:
    return model.hysteresis.dwell_by_dimension[at]


def _standing(at: int, table: Table, decision: Decision, model: Model, allowed: bool) -> Document:
    """One dimension: where the customer stands since when, what the rules say now, and what they go by."""
    current, found = decision.standing, table.candidates
    names = STANDINGS[at]
    ruled = {
        "plain": names[found.plain[0, at]] if allowed else None,
        "harder": names[found.hard[0, at]] if allowed else None,
        "easier": names[found.easy[0, at]] if allowed else None,
    }
    changed_day = decision.changed_days[at] if current is not None else None
    if changed_day == NO_DWELL_DAY:  # since the first load
        changed_day = None
    return {
        "current": None if current is None else names[current[at]],
        "changed_on": None if changed_day is None else format_day(changed_day),
        "may_change_from": (
            None if changed_day is None else format_day(changed_day + _dwell_days(at, model))
        ),
        **ruled,
        "held_by": _held_by(at, table, decision, model) if current is not None and allowed else None,
        "measured": _measured(at, table, model, allowed),
        "thresholds": _thresholds(at, table, model),
    }


def _measured(at: int, table: Table, model: Model, allowed: bool) -> dict[str, float | int | None]:
    """What the rules of a dimension look at."""
    scored, has_order = table.scored, bool(table.features.order_count[0] > 0)
    measures: dict[str, Any] = {
        "segment": {
            "lifetime_value_score": scored.lifetime_value_score[0] if has_order else math.nan,
            "churn_risk": scored.churn_risk[0],
            "potential": scored.potential[0],
        },
        "tier": _tier_measures(scored, model) if has_order else {"potential": scored.potential[0]},
        "lifecycle": {
            **_lifecycle_risk(scored, model),
            "tenure_days": scored.tenure_days[0] if has_order else math.nan,
        },
    }[DIMENSIONS[at]]
    return {name: _number(value) if allowed else None for name, value in measures.items()}


def _tier_measures(scored: Scored, model: Model) -> dict[str, float]:
    """What tiers of customers with an order go by: value, or the points of the expected margin, which is told too."""
    if model.tiers.by == "value":
        return {"value": scored.value[0]}
    return {"expected_margin": scored.expected_margin[0], "points": scored.tier_points[0]}


def _lifecycle_risk(scored: Scored, model: Model) -> dict[str, float]:
    """Churn risk, and silence risk where the model has a window: `at_risk` and `lapsed` go by it then."""
    risks = {"churn_risk": scored.churn_risk[0]}
    return risks if model.lifecycle.window_days is None else {**risks, "silence_risk": scored.silence_risk[0]}


def _thresholds(at: int, table: Table, model: Model) -> Document:
    """The model's numbers for a dimension, before the margins of hysteresis."""
    has_order = bool(table.features.order_count[0] > 0)
    tiers = model.tiers.thresholds if has_order else model.tiers.by_potential
    risk = model.lifecycle.risk
    limits = {"new_days", "window_days", f"at_risk_{risk}", f"lapsed_{risk}"}
    thresholds: dict[str, Document] = {
        "segment": model.segments.model_dump(),
        "tier": tiers.model_dump(),
        "lifecycle": model.lifecycle.model_dump(include=limits, exclude_none=True),
    }
    return thresholds[DIMENSIONS[at]]


def _since_last_change(scored: Scored, decision: Decision) -> Document | None:
    """How value has moved since the last evaluation that brought a change, and by which metrics."""
    before = decision.baseline
    if before is None:
        return None
    return {
        "previous_scores": dict(zip(SCORES, before.scores, strict=True)),
        "drivers": drivers_between(before, baseline_of(scored, 0)),
    }


def _number(value: Any) -> float | int | None:
    number = float(value)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else number
