"""Silence: what happens to customers by the passing of time alone, and when next it will.

Features of a customer without new records depend on the day only. So their next days are evaluated at once,
on arrays: midnights that have come are decided on, and the first one to come on which anything happens is
when they are due.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from enrichment.days import day_of, midnight_us
from enrichment.deciding.changes import Cause
from enrichment.deciding.decider import Decider
from enrichment.deciding.long_silence import LEAST_DAYS, unchanged_until
from enrichment.deciding.results import Results
from enrichment.scoring.evaluate import Table, evaluate

Ints = npt.NDArray[np.int64]

MAX_ROWS = 32_768
"""Feature rows scored at once: bounds the memory of a sweep."""
MAX_BEHIND_DAYS = 512
"""Of midnights that have come already, so many are looked at at once."""
MIN_DAYS, MAX_DAYS = 8, 16
"""Days looked at ahead. A day costs a few microseconds, and a look some tens, so that looking farther saves little; but
when very many are due at once, the days ahead of some are what the others wait for."""


def is_due(customer: Customer, midnight_day: int) -> bool:
    """Whether something may happen to a customer on a midnight up to this one."""
    due_day = customer.state.due_day
    return due_day is not None and due_day <= midnight_day


def run_timers(
    due: Sequence[Customer],
    midnight_day: int,
    decider: Decider,
    results: Results,
) -> None:
    """Evaluate due customers on their next days; decide on midnights past, file the first one to come.

    Who has been silent for long, and is far behind, first passes the midnights on which nothing can happen.
    """
    walking = [customer for customer in due if not _passes_silence(customer, midnight_day, decider, results)]
    for part, lengths in _parts(walking, midnight_day):
        starts = np.array([customer.state.due_day for customer in part], dtype=np.int64)
        first_row = np.cumsum(lengths) - lengths
        snapshot_at = np.repeat(np.arange(len(part)), lengths)
        days = starts[snapshot_at] + np.arange(len(snapshot_at)) - first_row[snapshot_at]
        table = evaluate([customer.snapshot() for customer in part], snapshot_at, days, decider.model)
        changed = ~_unchanged_rows(part, table, decider)
        results.rescheduled.update({customer.id: customer for customer in part})
        for customer, next_day in zip(part, (starts + lengths).tolist(), strict=True):
            customer.state.due_day = next_day
        for at in np.flatnonzero(np.logical_or.reduceat(changed, first_row)).tolist():
            first, end = int(first_row[at]), int(first_row[at] + lengths[at])
            rows = range(first + int(changed[first:end].argmax()), end)
            _walk(part[at], table, rows, midnight_day, decider, results)


def _passes_silence(customer: Customer, midnight_day: int, decider: Decider, results: Results) -> bool:
    """Put a customer off to the day after a long span in which nothing can happen, if there is one."""
    first_day = customer.state.due_day
    assert first_day is not None
    if midnight_day - first_day < LEAST_DAYS:
        return False
    last_day = unchanged_until(customer, first_day, midnight_day, decider)
    if last_day is None:
        return False
    customer.state.due_day = last_day + 1
    results.rescheduled[customer.id] = customer
    return True


def _walk(
    customer: Customer,
    table: Table,
    rows: range,
    midnight_day: int,
    decider: Decider,
    results: Results,
) -> None:
    """Take a customer's days in order, up to the first to come on which anything happens."""
    decision, features = customer.decision, table.features
    for row in rows:
        day = int(features.day[row])
        if day > midnight_day:
            if decider.standing_at(decision, table, row) != decision.standing or _falls_due(decision, day):
                customer.state.due_day = day
                return
            continue
        results.touched[customer.id] = customer
        if decision.standing is not None and not features.profiling_allowed[row]:
            # Engagement kept by the consent that ended is deleted; this row and the next would still show it.
            customer.forget_unallowed(day)
            customer.state.due_day = day + 1
            bare = evaluate(
                [customer.snapshot()],
                np.zeros(1, dtype=np.int64),
                np.array([day], dtype=np.int64),
                decider.model,
            )
            decider.decide(customer, decision, bare, 0, midnight_us(day), Cause("consent"), results)
            return
        decider.decide(customer, decision, table, row, midnight_us(day), Cause("time"), results)
        if _falls_due(decision, day):
            decider.fire(customer, table, row, midnight_us(day), results)


def _falls_due(decision: Decision, day: int) -> bool:
    return decision.pending is not None and decision.pending.due_day <= day


def _unchanged_rows(customers: Sequence[Customer], table: Table, decider: Decider) -> npt.NDArray[np.bool_]:
    """Rows on which, from the standing of now, nothing can happen."""
    features = table.features
    unchanged = decider.unchanged([customer.decision for customer in customers], table)
    pending = [customer.decision.pending for customer in customers]
    due = np.array([-1 if trigger is None else trigger.due_day for trigger in pending], dtype=np.int64)
    due_at = due[features.snapshot_at]
    return np.asarray(unchanged & ((due_at < 0) | (features.day < due_at)), dtype=np.bool_)


def _parts(due: Sequence[Customer], midnight_day: int) -> Iterator[tuple[list[Customer], Ints]]:
    """Customers with how many days to look at, in parts of at most MAX_ROWS rows.

    The longer a customer has been quiet the farther it pays to look: who came lately will likely come again.
    """
    part: list[Customer] = []
    lengths: list[int] = []
    rows = 0
    for customer in due:
        due_day, latest_us = customer.state.due_day, customer.state.latest_us
        assert due_day is not None
        assert latest_us is not None
        behind_days = midnight_day - due_day + 1
        ahead_days = min(max(due_day - day_of(latest_us), MIN_DAYS), MAX_DAYS)
        days = max(ahead_days, min(behind_days, MAX_BEHIND_DAYS))
        if part and rows + days > MAX_ROWS:
            yield part, np.array(lengths, dtype=np.int64)
            part, lengths, rows = [], [], 0
        part.append(customer)
        lengths.append(days)
        rows += days
    if part:
        yield part, np.array(lengths, dtype=np.int64)
