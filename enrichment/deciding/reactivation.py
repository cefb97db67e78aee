"""Re-activation: when a customer who slipped is due to be approached, how, and who is left alone."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import CustomerSnapshot
from enrichment.customer.decision import PendingTrigger
from enrichment.customer.engagement import COUNT_WINDOW_DAYS
from enrichment.identity import identifier
from enrichment.model import Model
from enrichment.scoring.features import Features, Ints, repeat_days_within
from enrichment.scoring.scores import round6
from enrichment.scoring.standing import AT_RISK, LAPSED, LIFECYCLE, SEGMENT, STANDINGS

LOOK_DAYS: Final = 400
"""So far ahead is looked for a day on which a customer need not be waited for any more."""


def starts_trigger(
    dimension: int, previous: int | None, current: int | None, trigger: str, model: Model
) -> bool:
    """Whether a change is a slip: a downgrade of segment, or of lifecycle to `at_risk` or `lapsed`."""
    if (
        previous is None
        or current is None
        or current <= previous
        or trigger not in model.reactivation.triggers
    ):
        return False
    return dimension == SEGMENT or (dimension == LIFECYCLE and current in (AT_RISK, LAPSED))


def trigger_due(
    change_id: str, segment: int, tenure_days: int, snapshot: CustomerSnapshot, day: int, model: Model
) -> PendingTrigger:
    """A delay by segment, longer for long tenure, shorter for who engaged lately."""
    rules = model.reactivation
    delay_days = rules.delay_days[STANDINGS[SEGMENT][segment]]  # type: ignore[index]
    if tenure_days >= rules.long_tenure_days:
        delay_days += rules.long_tenure_extra_days
    if snapshot.last_engaged_day is not None and day - snapshot.last_engaged_day <= rules.engaged_within_days:
        delay_days += rules.engaged_extra_days
    return PendingTrigger(change_id, day + max(1, delay_days))


def awaited_until(features: Features, row: int, model: Model) -> int | None:
    """The day up to which a customer who may come back alone is waited for; None where there is nothing to wait for.

    That is the first day after the row's on which the chance of a purchase within the model's days is as low as it
    asks; where none of the next `LOOK_DAYS` is, the last of them.
    """
    rules = model.reactivation.own_return
    if rules is None or features.order_count[row] <= 0:
        return None
    day = int(features.day[row])
    if _chance_of_return(features, row, np.array([day]), model)[0] <= rules.above:
        return None
    days = day + 1 + np.arange(LOOK_DAYS)
    low = _chance_of_return(features, row, days, model) <= rules.above
    return int(days[low.argmax()] if low.any() else days[-1])


def _chance_of_return(features: Features, row: int, days: Ints, model: Model) -> npt.NDArray[np.float64]:
    """The probability of a purchase in the `within_days` days after each day, if none comes before it."""
    first_day, last_day = int(features.first_order_day[row]), int(features.last_order_day[row])
    looks_back = model.lifetime_value.purchase_model.looks_back
    recent = repeat_days_within(features.snapshot(row), days) if looks_back else None
    repeats = int(features.purchase_days[row]) - 1
    return chance_of_return(repeats, last_day - first_day, days - first_day, recent, model)


def chance_of_return(
    repeats: int, to_last_days: int, tenure_days: Ints, recent: Ints | None, model: Model
) -> npt.NDArray[np.float64]:
    """The probability of a purchase in the days of the model's `own_return` after each tenure, if none comes before it.

    Args:
        repeats: purchase days after the first.
        to_last_days: days from the first purchase day to the last.
        tenure_days: days from the first purchase day on, ascending or not.
        recent: shape (tenures, 3), as `purchasing_of` takes it, for a family that looks back.
        model: one with `reactivation.own_return`.
    """
    rules, lifetime = model.reactivation.own_return, model.lifetime_value
    assert rules is not None
    silent = lifetime.purchase_model.probability_of_no_purchase(
        rules.within_days / lifetime.days_per_unit,
        float(repeats),
        to_last_days / lifetime.days_per_unit,
        tenure_days / lifetime.days_per_unit,
        recent,
    )
    return round6(1.0 - silent)


def trigger_id(change_id: str) -> str:
    """The trigger's id, derived from that of the change that started it."""
    return identifier("reactivation", change_id)


def group_of(namespace: str, customer_id: str, model: Model) -> str:
    """`control` for a fixed share of customers, by hash: the same customer is always in the same group."""
    digest = hashlib.blake2b(identifier("group", namespace, customer_id).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "control" if share < model.reactivation.control_share else "treatment"


def preferred_channels(snapshot: CustomerSnapshot, day: int, model: Model) -> list[str]:
    """Channels by decayed engagement over 90 days, most first, then by name; automated ones never count."""
    scored_kinds, half_life_days = model.scored_kinds, model.engagement.half_life_days
    strength: dict[str, float] = {}
    for bucket in snapshot.engagement_days:
        age_days = day - bucket.day
        if not 0 <= age_days < COUNT_WINDOW_DAYS:
            continue
        decay = 2.0 ** (-age_days / half_life_days)
        for key in sorted(bucket.counts):
            channel, _, kind = key.rpartition(".")
            weight = scored_kinds.get(kind)
            if weight and channel not in ("automated", "none"):
                strength[channel] = strength.get(channel, 0.0) + weight * bucket.counts[key] * decay
    if len(strength) < 2:
        return list(strength)
    return sorted(strength, key=lambda channel: (-round(strength[channel], 6), channel))


def channels_best_first(snapshot: CustomerSnapshot, day: int, model: Model) -> list[str]:
    """The permitted channels: those that the customer engages on first, then by name."""
    preferred = preferred_channels(snapshot, day, model)
    permitted = snapshot.permissions.granted_channels(day)
    return sorted(permitted, key=lambda c: (preferred.index(c) if c in preferred else len(preferred), c))
