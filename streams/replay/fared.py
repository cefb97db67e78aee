"""How the customers of re-activations fared: who bought in the days after one fell due, and for how much.

In a log of the past, nobody was written to because of it: what these customers did, they did alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from enrichment.customer.customer import Customer
from enrichment.days import day_of
from schemas.documents import TriggerDocument
from schemas.timestamps import parse_timestamp

WITHIN_DAYS: Final = 14
"""The day on which a re-activation fell due is the first of them."""


class Fared(NamedTuple):
    """A re-activation, and what its customer did in the WITHIN_DAYS days that begin with its midnight.

    Money is in base units: `value_at_stake` as the trigger has it, `revenue` of those days. `is_seen_whole` tells
    whether the log reaches to the end of these days.
    """

    day: int
    group: str
    segment: str
    value_at_stake: float
    is_seen_whole: bool
    bought: bool
    revenue: float


def how_they_fared(
    triggers: Iterable[TriggerDocument], customers: Mapping[str, Customer], end_us: int
) -> list[Fared]:
    """One for each trigger whose customer is still known, in the order of the triggers; `end_us` ends the log."""
    fared = []
    for trigger in triggers:
        customer = customers.get(trigger["customer_id"])
        if customer is None or not customer.is_known:
            continue
        day = day_of(parse_timestamp(trigger["as_of"]))
        columns = customer.snapshot().money.columns  # day, orders, counted, revenue, ...
        days = columns[:, 0]
        later = columns[(days >= day) & (days < day + WITHIN_DAYS)]
        fared.append(
            Fared(
                day,
                trigger["group"],
                trigger["segment"],
                float(trigger["value_at_stake"] or 0),
                day + WITHIN_DAYS - 1 <= day_of(end_us),
                bool(np.count_nonzero(later[:, 1])),
                float(later[:, 3].sum() / 1e6),
            )
        )
    return fared
