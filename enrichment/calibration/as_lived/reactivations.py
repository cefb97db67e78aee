"""Re-activations that fell due: how many customers would have come back alone, since nobody was written to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.as_lived.timelines import PurchaseDays
from enrichment.calibration.bootstrap import interval, quotient, ratio, resampled, rounded
from enrichment.calibration.snapshot import Snapshot
from enrichment.days import day_of
from schemas.documents import Document, TriggerDocument
from schemas.timestamps import parse_timestamp

WITHIN_DAYS: Final = 14


def reactivations(
    triggers: Iterable[TriggerDocument], purchases: PurchaseDays, cut: int, end: Snapshot
) -> Document:
    """Of the re-activations due after the cut, and early enough to see the WITHIN_DAYS days from their midnight on.

    `returned` are those after which the customer bought within these days, though nothing was sent: the history knows
    of no message. `value_at_stake` is the sum (base units). The interval of the share is of resampled customers.
    """
    places = {customer_id: place for place, customer_id in enumerate(end.customer_ids)}
    last_day = end.day - WITHIN_DAYS + 1
    rows = [
        (places[trigger["customer_id"]], due_day, float(trigger["value_at_stake"] or 0))
        for trigger in triggers
        if trigger["customer_id"] in places
        and cut < (due_day := day_of(parse_timestamp(trigger["as_of"]))) <= last_day
    ]
    customer = np.array([row[0] for row in rows], dtype=np.int64)
    day = np.array([row[1] for row in rows], dtype=np.int64)
    returned = purchases.next_after(customer, day - 1) < day + WITHIN_DAYS
    customers, of = np.unique(customer, return_inverse=True)
    due_of_each = np.bincount(of, minlength=len(customers))
    returned_of_each = np.bincount(of, weights=returned.astype(np.float64), minlength=len(customers))

    def share(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.array([quotient(float(weights @ returned_of_each), float(weights @ due_of_each))])

    drawn = resampled(len(customers), share) if len(customers) else np.zeros((0, 1))
    return {
        "within_days": WITHIN_DAYS,
        "due": len(rows),
        "customers": len(customers),
        "returned": int(np.count_nonzero(returned)),
        "returned_share": ratio(np.count_nonzero(returned), len(rows)),
        "returned_share_interval": interval(drawn[:, 0]),
        "value_at_stake": rounded(sum(row[2] for row in rows)),
    }
