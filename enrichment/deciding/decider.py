"""Deciding: from one row of scores to a new standing, the changes that say so, and re-activation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enrichment.customer.customer import Customer
from enrichment.customer.decision import NO_DWELL_DAY, Decision, PendingTrigger, Ranks
from enrichment.days import day_of
from enrichment.deciding.changes import LOAD, Cause, change_documents, trigger_document
from enrichment.deciding.drivers import baseline_of
from enrichment.deciding.profile import NO_SCORES_OR_TRAITS, scores_and_traits_of, value_at_stake
from enrichment.deciding.reactivation import awaited_until, starts_trigger, trigger_due
from enrichment.deciding.results import Results
from enrichment.model import Model
from enrichment.scoring.evaluate import Table
from enrichment.scoring.standing import SEGMENT, Bools, keeps_standing, next_standing
from schemas.documents import ChangeDocument

_NOWHERE = (-1, -1, -1)
"""Ranks of those who stand nowhere, where there must be numbers."""


class Decider:
    """Decides with one model; `namespace` goes into the id of every change."""

    def __init__(self, model: Model, namespace: str) -> None:
        self.model = model
        self.namespace = namespace
        self._dwell_days = model.hysteresis.dwell_by_dimension

    def unchanged(self, decisions: Sequence[Decision], table: Table) -> Bools:
        """Rows whose evaluation would change nothing of `decisions`, of which there is one per snapshot."""
        standing = np.array([decision.standing or _NOWHERE for decision in decisions], dtype=np.int64)
        changed_days = np.array([decision.changed_days for decision in decisions], dtype=np.int64)
        is_known = np.array([decision.model == self.model.fingerprint for decision in decisions])
        features, of_row = table.features, table.features.snapshot_at
        keeps = keeps_standing(
            standing[of_row],
            changed_days[of_row],
            features.day,
            table.candidates,
            self._dwell_days,
        )
        is_nowhere = standing[of_row, SEGMENT] < 0
        stays = np.where(features.profiling_allowed, keeps & ~is_nowhere, is_nowhere)
        return np.asarray(stays & is_known[of_row], dtype=np.bool_)

    def standing_at(self, decision: Decision, table: Table, row: int) -> Ranks | None:
        """Where the customer would stand after an evaluation of this row."""
        if not table.features.profiling_allowed[row]:
            return None
        found = table.candidates
        return next_standing(
            decision.standing,
            decision.changed_days,
            int(table.features.day[row]),
            found.plain[row].tolist(),
            found.hard[row].tolist(),
            found.easy[row].tolist(),
            bool(found.past_new[row]),
            self._dwell_days,
        )

    def decide(
        self,
        customer: Customer,
        decision: Decision,
        table: Table,
        row: int,
        as_of_us: int,
        cause: Cause,
        results: Results,
    ) -> bool:
        """Move the standing if the rules say so, with changes and a profile; tells whether they did."""
        current = self.standing_at(decision, table, row)
        if decision.model != self.model.fingerprint:
            decision.model, decision.model_day = self.model.fingerprint, day_of(as_of_us)
            results.decided.add(customer.id)
        if current == decision.standing:
            return False
        day = day_of(as_of_us)
        baseline = None if current is None else baseline_of(table.scored, row)
        scores_and_traits = scores_and_traits_of(table.features, table.scored, row, self.model)
        permissions = table.features.snapshot(row).permissions.granted_channels(day)
        changes = change_documents(
            self.namespace,
            customer.id,
            decision,
            current,
            as_of_us,
            cause,
            scores_and_traits,
            permissions,
            baseline,
            self.model,
        )
        self._start_trigger(decision, current, changes, cause, table, row)
        changed_days = list(decision.changed_days)
        for dimension, change in changes:
            changed_days[dimension] = NO_DWELL_DAY if cause.trigger == LOAD else day
            results.changes.append(change)
        decision.standing, decision.baseline = current, baseline
        decision.changed_days = (changed_days[0], changed_days[1], changed_days[2])
        decision.sequence += len(changes)
        results.decided.add(customer.id)
        results.note_profile(customer, decision, table, row, as_of_us, scores_and_traits)
        return True

    def decide_erasure(
        self, customer: Customer, decision: Decision, as_of_us: int, cause: Cause, results: Results
    ) -> None:
        """The last changes of a life, and its tombstone; `decision` is that of the life that ends."""
        changes = change_documents(
            self.namespace,
            customer.id,
            decision,
            None,
            as_of_us,
            cause,
            NO_SCORES_OR_TRAITS,
            [],
            None,
            self.model,
        )
        results.changes += [change for _, change in changes]
        results.note_tombstone(customer.id, as_of_us)
        results.decided.add(customer.id)

    def fire(self, customer: Customer, table: Table, row: int, as_of_us: int, results: Results) -> None:
        """Publish the re-activation that is due, or drop it where no channel is permitted.

        One of a customer who may come back alone is put off.
        """
        decision = customer.decision
        assert decision.pending is not None
        later_day = awaited_until(table.features, row, self.model)
        if later_day is not None:
            decision.pending = PendingTrigger(decision.pending.change_id, later_day)
            results.decided.add(customer.id)
            return
        document = trigger_document(
            self.namespace,
            customer.id,
            decision,
            as_of_us,
            table.features.snapshot(row),
            value_at_stake(table.scored, row, self.model),
            self.model,
        )
        if document is None:
            results.triggers_dropped += 1
        else:
            results.triggers.append(document)
            decision.fired_change_id = decision.pending.change_id
        decision.pending = None
        results.decided.add(customer.id)

    def _start_trigger(
        self,
        decision: Decision,
        current: Ranks | None,
        changes: list[tuple[int, ChangeDocument]],
        cause: Cause,
        table: Table,
        row: int,
    ) -> None:
        """One re-activation may be pending per customer; a customer who leaves has none."""
        previous = decision.standing
        if current is None:
            decision.pending = None
        if current is None or previous is None or decision.pending is not None:
            return
        for dimension, change in changes:
            if starts_trigger(dimension, previous[dimension], current[dimension], cause.trigger, self.model):
                features = table.features
                decision.pending = trigger_due(
                    str(change["change_id"]),
                    current[0],
                    int(table.scored.tenure_days[row]),
                    features.snapshot(row),
                    int(features.day[row]),
                    self.model,
                )
                return
