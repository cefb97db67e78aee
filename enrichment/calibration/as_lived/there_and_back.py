"""Changes that were taken back soon after: how restless standings are."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from enrichment.calibration.as_lived.timelines import NO_STANDING, Moves
from enrichment.calibration.bootstrap import interval, quotient, resampled, rounded
from enrichment.days import FOREVER_DAY, YEAR_DAYS
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

BACK_WITHIN_DAYS: Final = 30


def there_and_back(moves: Moves, customers: int, cut: int, end: int) -> Document:
    """How often a customer left a standing after the cut and was back in it within 30 days, per customer and year.

    Entering and leaving (a standing of null) are no such moves. A customer's year begins at the cut, or on the day of
    their first standing. `changes` is how many moves there were in all.
    """
    counted = (moves.previous != NO_STANDING) & (moves.current != NO_STANDING)
    counted &= (moves.day > cut) & (moves.day <= end)
    customer, day = moves.customer[counted], moves.day[counted]
    previous, current = moves.previous[counted], moves.current[counted]
    back = np.zeros(len(customer), dtype=np.bool_)
    for ahead in range(1, len(customer)):
        near = (customer[ahead:] == customer[:-ahead]) & (day[ahead:] - day[:-ahead] <= BACK_WITHIN_DAYS)
        if not near.any():
            break
        back[:-ahead] |= near & (current[ahead:] == previous[:-ahead])
    first_day = np.full(customers, FOREVER_DAY)
    np.minimum.at(first_day, moves.customer, moves.day)
    years = np.maximum(end - np.maximum(first_day, cut), 0) / YEAR_DAYS
    counts = np.bincount(customer[back], minlength=customers)

    def per_year(weights: Floats) -> Floats:
        return np.array([quotient(float((weights * counts).sum()), float((weights * years).sum()))])

    figure = float(per_year(np.ones(customers))[0])
    drawn = resampled(customers, per_year) if customers else np.zeros((0, 1))
    return {
        "changes": len(customer),
        "there_and_back": int(np.count_nonzero(back)),
        "customer_years": round(float(years.sum()), 6),
        "per_customer_year": rounded(figure),
        "per_customer_year_interval": interval(drawn[:, 0]),
    }
