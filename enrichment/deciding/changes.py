"""Documents of what is published when a standing moves: segment changes, and re-activation triggers."""

from __future__ import annotations

from dataclasses import dataclass

from enrichment.customer.customer import CustomerSnapshot
from enrichment.customer.decision import Baseline, Decision, Ranks
from enrichment.days import day_of, format_time, midnight_us
from enrichment.deciding.drivers import drivers_between, model_driver
from enrichment.deciding.profile import (
    ScoresAndTraits,
    baseline_scores_document,
    model_document,
    preferred_categories,
)
from enrichment.deciding.reactivation import channels_best_first, group_of, trigger_id
from enrichment.identity import change_id
from enrichment.model import Model
from enrichment.scoring.standing import STANDINGS
from schemas.documents import ChangeDocument, DriverDocument, ReasonDocument, TriggerDocument
from schemas.profiles import DIMENSIONS

_NOWHERE = (None, None, None)
LOAD = "load"
"""The trigger of those who enter at the end of a first load."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What made an evaluation: `trigger` and `event_id` as in a change's `reason`."""

    trigger: str
    event_id: str | None = None


def change_documents(
    namespace: str,
    customer_id: str,
    decision: Decision,
    current: Ranks | None,
    as_of_us: int,
    cause: Cause,
    scores_and_traits: ScoresAndTraits,
    permissions: list[str],
    baseline: Baseline | None,
    model: Model,
) -> list[tuple[int, ChangeDocument]]:
    """The changes from `decision.standing` to `current`, as (dimension, value), with the sequences after it.

    The decision itself is left as it is. What the changes of one evaluation have in common they share.
    """
    previous, before = decision.standing, decision.baseline
    drivers: list[DriverDocument] = []
    if previous is not None and before is not None and baseline is not None:
        compare = model_driver if cause.trigger == "model" else drivers_between
        drivers = compare(before, baseline)
    as_of = format_time(as_of_us)
    reason: ReasonDocument = {"trigger": cause.trigger, "event_id": cause.event_id, "drivers": drivers}
    previous_scores = baseline_scores_document(None if before is None else before.scores)
    decided_by = model_document(model)
    documents: list[tuple[int, ChangeDocument]] = []
    for at, (dimension, old, new) in enumerate(
        zip(DIMENSIONS, previous or _NOWHERE, current or _NOWHERE, strict=True)
    ):
        if old == new:
            continue
        sequence = decision.sequence + len(documents) + 1
        document: ChangeDocument = {
            "change_id": change_id(namespace, customer_id, decision.life, dimension, sequence),
            "customer_id": customer_id,
            "life": decision.life,
            "sequence": sequence,
            "dimension": dimension,
            "previous": None if old is None else STANDINGS[at][old],
            "current": None if new is None else STANDINGS[at][new],
            "direction": _direction(old, new),
            "as_of": as_of,
            "reason": reason,
            "scores": scores_and_traits.scores,
            "previous_scores": previous_scores,
            "traits": scores_and_traits.traits,
            "permissions": permissions,
            "model": decided_by,
        }
        documents.append((at, document))
    return documents


def trigger_document(
    namespace: str,
    customer_id: str,
    decision: Decision,
    as_of_us: int,
    snapshot: CustomerSnapshot,
    value_at_stake: str | None,
    model: Model,
) -> TriggerDocument | None:
    """The re-activation that falls due now; None where no channel is permitted."""
    pending = decision.pending
    assert pending is not None
    day = day_of(as_of_us)
    channels = channels_best_first(snapshot, day, model)
    if not channels or decision.standing is None:
        return None
    segment, tier, lifecycle = (STANDINGS[at][rank] for at, rank in enumerate(decision.standing))
    return {
        "trigger_id": trigger_id(pending.change_id),
        "customer_id": customer_id,
        "change_id": pending.change_id,
        "as_of": format_time(as_of_us),
        "due_at": format_time(midnight_us(pending.due_day)),
        "segment": segment,
        "tier": tier,
        "lifecycle": lifecycle,
        "channels": channels,
        "preferred_categories": preferred_categories(snapshot, day),
        "value_at_stake": value_at_stake,
        "group": group_of(namespace, customer_id, model),
        "model": model_document(model),
    }


def _direction(old: int | None, new: int | None) -> str:
    if old is None:
        return "entered"
    if new is None:
        return "left"
    return "upgrade" if new < old else "downgrade"
