"""The first load by the compiled core: records into states and states into standings, as bytes.

What it declines (an unusual state, a customer near a limit) the Python core takes, a few hundred records or a slice of
customers at a time: both read and write the same states.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from enrichment.deciding.changes import LOAD
from enrichment.kernel import DeclinedError, Exactly, core_of, given_model
from enrichment.model import Model
from schemas.profiles import DIMENSIONS
from schemas.rejection import TOO_LATE, Rejection
from schemas.topics import INPUT_TOPICS
from streams.checkpoint import Checkpoint
from streams.micro_batch import MicroBatch, StoredState
from streams.outbox import OutputRecord
from streams.replay.compiled import plain
from streams.settings import Settings
from streams.state.changelog import decision_record
from streams.state.codec import compressed, packed, unpacked
from streams.worker.batch_processor import BatchProcessor
from streams.worker.reading.arrived import Arrived, read

log = logging.getLogger(__name__)

_RANKS: Final = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}


class PackedState(NamedTuple):
    """A state as `codec.packed` has it, and the day on which its customer is due; None where nobody is known."""

    state: bytes
    due_day: int | None


@dataclass(slots=True)
class LoadCore:
    """The compiled core for first loads, and the states that it has read or made lately: what Redis holds.

    `compiled` is `FirstLoad` of kernel/src/python.rs.
    """

    compiled: Any
    most_kept: int
    kept: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, model: Model, namespace: str) -> LoadCore | None:
        """None where the Python core loads: the compiled one is not built, not wanted, or does not take the model."""
        module = core_of(settings.core).compiled
        if module is None:
            return None
        exactly = Exactly(model)
        asked = exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
        try:
            given = given_model(model, namespace, settings.horizons)
            compiled = module.FirstLoad(given, model.fingerprint, *asked)
        except (DeclinedError, module.DeclinedError, OverflowError) as error:
            log.info("the Python core takes first loads: %s", error)
            return None
        return cls(compiled, settings.cache_customers)

    def keep(self, states: Iterable[tuple[str, bytes]]) -> None:
        """Keep states at hand, and let go of the oldest where they are too many."""
        self.kept.update(states)
        for customer_id in list(self.kept)[: max(0, len(self.kept) - self.most_kept)]:
            del self.kept[customer_id]


class CompiledLoad(BatchProcessor):
    """A micro-batch of a first load."""

    def __init__(self, core: LoadCore, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._core = core
        self._states: dict[str, PackedState] = {}
        self._ends: list[OutputRecord] = []

    async def load(self, records: list[Arrived], midnight_day: int) -> None:
        """Take records, in their order."""
        try:
            await self._fold(records, midnight_day)
        except self._declined as error:
            log.debug("the Python core takes %d records: %s", len(records), error)
            await super().load([read(arrived, self._model) for arrived in records], midnight_day)
            for customer_id in self.results.touched:
                self._core.kept.pop(customer_id, None)

    async def _fold(self, records: list[Arrived], midnight_day: int) -> None:
        fold = self._core.compiled.fold()
        others = fold.take([_given(arrived) for arrived in records])
        refused: list[Arrived] = []
        for at in others:
            arrived = read(records[at], self._model)
            if isinstance(arrived.event, Rejection):
                refused.append(arrived)
            elif arrived.event is not None:
                fold.take_as(at, _RANKS[arrived.topic], plain(arrived.event))
        customers = fold.customers()
        states = await self._packed(customers)
        outcomes, changed = fold.run([states[customer_id] for customer_id in customers], midnight_day)
        self.records += len(records)
        self._refuse_unreadable(refused)
        for at, outcome, why in outcomes:
            topic = records[at].topic
            self.results.outcomes[topic, outcome] += 1
            if why is not None:
                self._refuse(records[at], Rejection(TOO_LATE, why))
        for at, state, due_day, erased in changed:
            self._states[customers[at]] = PackedState(state, due_day)
            self.results.touched.pop(customers[at], None)
            if erased is not None:
                life, erased_up_to_us = erased
                self.results.erased[customers[at]] = Decision(life=life, erased_up_to_us=erased_up_to_us)
        self._core.keep((customers[at], state) for at, state, _, _ in changed)

    async def _enter(self, customer_ids: list[str], midnight_day: int) -> None:
        states = await self._packed(customer_ids)
        held = [(customer_id, state) for customer_id, state in states.items() if state is not None]
        try:
            entered = self._core.compiled.enter(held, midnight_day)
        except self._declined as error:
            log.debug("the Python core decides on %d customers: %s", len(customer_ids), error)
            await super()._enter(customer_ids, midnight_day)
            return
        writer, group_id = self._writer, self._settings.group_id
        for (customer_id, _), one in zip(held, entered, strict=True):
            changes, profile, as_of, sequence, decision, state, due_day = one
            for change_id, value in changes:
                self._add(writer.written_change(change_id, customer_id, as_of, value))
            if changes:
                self.change_counts.update((dimension, "entered", LOAD) for dimension in DIMENSIONS)
            self._ends.append(writer.written_profile(customer_id, as_of, sequence, profile))
            self._ends.append(decision_record(customer_id, decision, group_id))
            self._states[customer_id] = PackedState(state, due_day)
            self._core.kept.pop(customer_id, None)

    def micro_batch(self, before: Checkpoint, after: Checkpoint) -> MicroBatch:
        """With what the compiled core has made."""
        batch = super().micro_batch(before, after)
        batch.states += [
            StoredState(customer_id, b"" if due_day is None else compressed(state), due_day)
            for customer_id, (state, due_day) in self._states.items()
        ]
        self._limits.check(self._ends)
        batch.outbox += self._ends
        return batch

    def _touched(self) -> int:
        return super()._touched() + len(self._states)

    def _seen(self) -> int:
        return super()._seen() + len(self._states)

    async def _customers(self, customer_ids: Iterable[str], keep: bool = True) -> dict[str, Customer]:
        """For the Python core; none is kept in its cache, where the compiled one would not change them."""
        return await super()._customers(customer_ids, keep=False)

    def _held(self, customer_id: str) -> Customer | None:
        """For the Python core: from what the compiled one has made in this micro-batch, too."""
        made = self._states.pop(customer_id, None)
        if made is None:
            return super()._held(customer_id)
        customer = Customer(customer_id, unpacked(made.state), self._model)
        self.results.touched[customer_id] = customer
        return customer

    async def _packed(self, customer_ids: list[str]) -> dict[str, bytes | None]:
        """The states of these customers, from this micro-batch, from what is kept, or from Redis."""
        found: dict[str, bytes | None] = {}
        absent: list[str] = []
        for customer_id in customer_ids:
            if customer_id in self._states:
                found[customer_id] = self._states[customer_id].state
            elif (touched := self.results.touched.get(customer_id)) is not None:
                found[customer_id] = packed(touched.state)
            elif customer_id in self._core.kept:
                found[customer_id] = self._core.kept[customer_id]
            else:
                absent.append(customer_id)
        if absent:
            found |= await self._store.load_packed(absent)
        return {customer_id: found[customer_id] for customer_id in customer_ids}

    @property
    def _declined(self) -> tuple[type[Exception], ...]:
        module = core_of("auto").compiled
        return (DeclinedError,) if module is None else (DeclinedError, module.DeclinedError)


def _given(arrived: Arrived) -> tuple[int, bytes, bytes, int | None]:
    """A record as the compiled core takes it; without a value, so that it leaves it, one that has been refused."""
    record = arrived.record
    value = record.value if arrived.event is None else None
    return _RANKS[arrived.topic], record.key or b"", value or b"", arrived.broker_timestamp_us
