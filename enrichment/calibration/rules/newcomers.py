"""A newcomer: one customer with a single order, on each day of the silence after it."""

from __future__ import annotations

import numpy as np

from enrichment.customer.customer import Customer, empty_state
from enrichment.customer.orders import DayMoney, Folded, MoneyHistory
from enrichment.model import Model
from enrichment.scoring.features import build_features
from enrichment.scoring.scores import Scored, score


def newcomers(model: Model, days: int) -> Scored:
    """Scores of a customer with one order, on its day and on each of `days` days of silence after it."""
    bought = MoneyHistory.of((DayMoney(day=0, orders=1, counted_micros=1, revenue_micros=1),), Folded())
    view = Customer("newcomer", empty_state(), model).snapshot()._replace(money=bought)
    rows = np.arange(days + 1)
    return score(build_features([view], np.zeros_like(rows), rows, model), model)
