"""Ebbtide on one screen: events → customer state → features → scores → standing → changes.

`Enricher.process` takes records in arrival order, `Enricher.advance` takes midnights; both put what is to
be stored and published into a `Results`. Nothing here knows of Kafka, Redis or the clock, and what comes
out does not depend on how records fall into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np

from enrichment.customer.customer import Customer, CustomerSnapshot, Effect
from enrichment.customer.decision import Decision
from enrichment.customer.validation import Horizons, topic_of
from enrichment.days import day_of, midnight_us
from enrichment.deciding.changes import LOAD, Cause
from enrichment.deciding.decider import Decider
from enrichment.deciding.profile import profile_document
from enrichment.deciding.results import Results
from enrichment.deciding.timers import MAX_ROWS, is_due, run_timers
from enrichment.model import Model
from enrichment.scoring.evaluate import evaluate
from schemas.documents import ProfileDocument
from schemas.events import Consent, Event
from schemas.rejection import Rejection

UNDECIDED_DAY = -1
"""The due day of everyone whom a first load has made known and who has not been decided on: before any midnight."""


class _Evaluation(NamedTuple):
    """One evaluation: a customer as they were, and why they are looked at. An erasure has no snapshot."""

    customer: Customer
    decision: Decision
    snapshot: CustomerSnapshot | None
    as_of_us: int
    cause: Cause
    wins_back: bool = False
    first_of_day: bool = False


class Enricher:
    """The core with one model.

    `namespace` goes into every change's id; `horizons` bound how late a record may be.
    """

    def __init__(self, model: Model, namespace: str, horizons: Horizons | None = None) -> None:
        self.model = model
        self.horizons = horizons or Horizons()
        self._decider = Decider(model, namespace)

    def process(
        self, events: Sequence[Event], customers: Mapping[str, Customer], midnight_day: int, results: Results
    ) -> None:
        """Take records in arrival order; `customers` holds everyone they name.

        `midnight_day` is the day of the last midnight that has passed; no midnight may fall between the
        records.

        1. Bring the customers up to that midnight.
        2. Apply each record, and keep a snapshot of the customer after it.
        3. Evaluate all snapshots at once, and decide in order.
        """
        touched = {event.customer_id: customers[event.customer_id] for event in events}
        self.advance(touched.values(), midnight_day, results)
        last_midnight_us = midnight_us(midnight_day)
        evaluations = []
        for index, event in enumerate(events):
            evaluation = self._apply(index, event, customers[event.customer_id], last_midnight_us, results)
            if evaluation is not None:
                evaluations.append(evaluation)
        self._decide(evaluations, results)

    def load(
        self, events: Sequence[Event], customers: Mapping[str, Customer], midnight_day: int, results: Results
    ) -> None:
        """Take records of a first load, whose consents come before everything else; nobody is decided on.

        Everyone known by them is due on `UNDECIDED_DAY`, until `enter` decides.
        """
        for index, event in enumerate(events):
            customer = customers[event.customer_id]
            effect = customer.load(event, self.horizons, midnight_us(midnight_day))
            if not self._is_taken(effect, index, event, results):
                continue
            results.touched[customer.id] = customer
            customer.state.due_day = UNDECIDED_DAY
            if effect.is_erasure:
                results.erased[customer.id] = customer.decision

    def enter(self, customers: Iterable[Customer], midnight_day: int, results: Results) -> None:
        """Decide for the first time on everyone whom a first load has made known, by the plain rules.

        As of the later of this midnight and their latest record. Dwell does not start, and no re-activation either.
        """
        evaluations = []
        for customer in customers:
            as_of_us = customer.as_of_us(midnight_us(midnight_day))
            state, day = customer.state, day_of(as_of_us)
            customer.forget_unallowed(day)
            assert state.latest_us is not None
            state.profiled_day, state.due_day = day_of(state.latest_us), day + 1
            results.touched[customer.id] = customer
            cause = Cause(LOAD)
            evaluations.append(
                _Evaluation(
                    customer, customer.decision, customer.snapshot(), as_of_us, cause, first_of_day=True
                )
            )
        self._decide(evaluations, results)

    def advance(self, customers: Iterable[Customer], midnight_day: int, results: Results) -> None:
        """Pass every midnight up to that of `midnight_day` for those customers who are due.

        Afterwards each is due on the first day on which, if nothing else comes, something can happen to them.
        """
        known = [customer for customer in customers if customer.is_known]
        self._reconsider(
            [customer for customer in known if self._has_old_model(customer)], midnight_day, results
        )
        due = [customer for customer in known if is_due(customer, midnight_day)]
        while due:
            run_timers(due, midnight_day, self._decider, results)
            due = [customer for customer in due if is_due(customer, midnight_day)]

    def fold(self, events: Iterable[Event], customers: Mapping[str, Customer]) -> None:
        """Restore aggregates from records that were decided on before: no evaluation, nothing to publish."""
        for event in events:
            customer = customers[event.customer_id]
            customer.apply(event, self.horizons, 0)
            state = customer.state
            if state.latest_us is not None:
                state.profiled_day = max(state.profiled_day, day_of(state.latest_us))
                state.due_day = state.profiled_day + 1

    def profiles(self, customers: Sequence[Customer], as_of_us: Sequence[int]) -> list[ProfileDocument]:
        """Every customer's profile at a time that is not before their latest record."""
        documents = []
        for start in range(0, len(customers), MAX_ROWS):
            part, times_us = customers[start : start + MAX_ROWS], as_of_us[start : start + MAX_ROWS]
            days = np.array([day_of(time_us) for time_us in times_us], dtype=np.int64)
            table = evaluate(
                [customer.snapshot() for customer in part], np.arange(len(part)), days, self.model
            )
            documents += [
                profile_document(
                    customer.id, time_us, customer.decision, table.features, table.scored, row, self.model
                )
                for row, (customer, time_us) in enumerate(zip(part, times_us, strict=True))
            ]
        return documents

    def _apply(
        self, index: int, event: Event, customer: Customer, last_midnight_us: int, results: Results
    ) -> _Evaluation | None:
        decision, latest_us = customer.decision, customer.state.latest_us
        effect = customer.apply(event, self.horizons, last_midnight_us)
        if not self._is_taken(effect, index, event, results):
            return None
        results.touched[customer.id] = customer
        if effect.is_erasure:
            results.erased[customer.id] = customer.decision
            erased_at_us = max(latest_us or 0, last_midnight_us, event.occurred_at_us)
            return _Evaluation(customer, decision, None, erased_at_us, Cause("erasure", event.event_id))
        as_of_us = customer.as_of_us(last_midnight_us)
        day = day_of(as_of_us)
        state = customer.state
        first_of_day = day > state.profiled_day
        state.profiled_day, state.due_day = day, day + 1
        cause = Cause(_trigger_of(event, day), event.event_id)
        return _Evaluation(
            customer, decision, customer.snapshot(), as_of_us, cause, effect.wins_back, first_of_day
        )

    @staticmethod
    def _is_taken(
        effect: Effect | Rejection, index: int, event: Event, results: Results
    ) -> TypeGuard[Effect]:
        """Count what became of a record; tells whether it changed its customer."""
        topic = topic_of(event)
        if isinstance(effect, Rejection):
            results.rejected.append((index, effect))
            results.outcomes[topic, "dead_letter"] += 1
            return False
        results.outcomes[topic, effect.outcome] += 1
        return effect.changed

    def _has_old_model(self, customer: Customer) -> bool:
        return customer.decision.model not in (None, self.model.fingerprint)

    def _reconsider(self, customers: Sequence[Customer], midnight_day: int, results: Results) -> None:
        """Evaluate customers last seen by another model, as of now."""
        evaluations = []
        for customer in customers:
            as_of_us = customer.as_of_us(midnight_us(midnight_day))
            customer.forget_unallowed(day_of(as_of_us))
            customer.state.due_day = day_of(as_of_us) + 1
            results.touched[customer.id] = customer
            evaluations.append(
                _Evaluation(customer, customer.decision, customer.snapshot(), as_of_us, Cause("model"))
            )
        self._decide(evaluations, results)

    def _decide(self, evaluations: Sequence[_Evaluation], results: Results) -> None:
        """Evaluate all at once, and decide in order.

        Most records move nobody: a row that changes nothing of the first standing changes nothing until one does.
        """
        seen = [
            (evaluation.snapshot, evaluation) for evaluation in evaluations if evaluation.snapshot is not None
        ]
        snapshots = [snapshot for snapshot, _ in seen]
        days = np.array([day_of(evaluation.as_of_us) for _, evaluation in seen], dtype=np.int64)
        table = evaluate(snapshots, np.arange(len(snapshots)), days, self.model) if snapshots else None
        decisions = [evaluation.decision for _, evaluation in seen]
        unchanged = [] if table is None else self._decider.unchanged(decisions, table).tolist()
        moved: set[str] = set()
        row = 0
        for customer, decision, snapshot, as_of_us, cause, wins_back, first_of_day in evaluations:
            if snapshot is None:
                self._decider.decide_erasure(customer, decision, as_of_us, cause, results)
                continue
            assert table is not None
            if wins_back and decision.pending is not None:
                decision.pending = None
                results.decided.add(customer.id)
            is_unchanged = unchanged[row] and customer.id not in moved
            if not is_unchanged and self._decider.decide(
                customer, decision, table, row, as_of_us, cause, results
            ):
                moved.add(customer.id)
            elif first_of_day:
                results.note_profile(customer, decision, table, row, as_of_us)
            row += 1


def _trigger_of(event: Event, day: int) -> str:
    """Why a record's evaluation took place; one dated before the day of `as_of` corrects the past."""
    if type(event) is Consent:
        return "consent"
    return "correction" if day_of(event.occurred_at_us) < day else "event"
