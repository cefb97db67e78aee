"""The states of a restore by the compiled core: as bytes, some thousand records at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from aiokafka import ConsumerRecord

from enrichment.customer.customer import Customer, empty_state
from enrichment.kernel import DeclinedError
from enrichment.model import Model
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint, FirstLoad
from streams.kafka.fetched_batch import FetchedBatch, ReadBatch
from streams.micro_batch import StoredState
from streams.state.codec import compressed, packed, unpacked
from streams.state.store import stored_state
from streams.worker.compiled_core import CompiledCore
from streams.worker.reading.arrived import Taken, UnreadRecords
from streams.worker.reading.waiting import Waiting
from streams.worker.restoring.restored_states import Beginnings, finish

RECORDS_AT_ONCE = 5_000
"""The more records of a customer come together, the less often a state is read and written."""


class CompiledFold:
    """By the compiled core. Raises `DeclinedError` for what it declines; everything is then for the Python core."""

    def __init__(
        self,
        core: CompiledCore,
        begun: Beginnings,
        model: Model,
        clock: Literal["wall", "event"],
        load: FirstLoad | None,
    ) -> None:
        self.records = 0
        self._core = core
        self._begun = begun
        self._model = model
        self._load = load
        self._restorer = core.module.Restorer(core.compiled, clock == "wall")
        self._states: dict[str, bytes | None] = {}
        self._known: set[str] = set()
        self._as_of_us: dict[str, int] = {}

    @property
    def read_batch(self) -> ReadBatch:
        """It takes batches whole."""
        return self._core.read_batch

    async def take(
        self, fetched: Sequence[ConsumerRecord | FetchedBatch], topic: InputTopic, end: int
    ) -> None:
        """Take the records of a topic before an offset: all of them are of the first load, or none is."""
        waiting = Waiting()
        for one in fetched:
            if not isinstance(one, FetchedBatch):
                raise DeclinedError("an unusual batch")
            waiting.put([UnreadRecords.of(topic, one)])
        while pieces := waiting.take_before(end, RECORDS_AT_ONCE):
            records = Taken(pieces)
            self.records += len(records)
            load = self._load
            is_load = load is not None and pieces[-1].next_offset <= load.ends[topic]
            try:
                self._take(records, load.midnight_day if load is not None and is_load else None)
            except self._core.declined as error:
                raise DeclinedError(str(error)) from error
            await asyncio.sleep(0)

    def _take(self, records: Taken, load_midnight_day: int | None) -> None:
        part, _ = self._core.part(records, self._model)
        customers = part.customers()
        states = [self._state(customer_id) for customer_id in customers]
        as_of_us = [
            (at, self._as_of_us[customer_id])
            for at, customer_id in enumerate(customers)
            if customer_id in self._as_of_us
        ]
        for at, state, is_known in self._restorer.take(part, states, load_midnight_day, as_of_us):
            customer_id = customers[at]
            self._states[customer_id] = state
            (self._known.add if is_known else self._known.discard)(customer_id)

    def _state(self, customer_id: str) -> bytes | None:
        """The state so far, packed; None where nothing is known."""
        if customer_id not in self._states:
            kept, begun = self._begun.remembered(customer_id), self._begun.state(customer_id)
            if kept is not None and kept.as_of_us is not None:
                self._as_of_us[customer_id] = kept.as_of_us
            self._states[customer_id] = None if begun is None else packed(begun)
        return self._states[customer_id]

    def known_ids(self) -> set[str]:
        """Of whom anything but an erasure is known by their records."""
        return self._known

    def restored(self, ids: Sequence[str], committed: Checkpoint) -> list[StoredState]:
        """The states of customers as they are stored."""
        states = [self._state(customer_id) or packed(empty_state()) for customer_id in ids]
        decided = [self._begun.is_decided(customer_id) for customer_id in ids]
        given = list(zip(states, decided, strict=True))
        try:
            finished = self._restorer.finish(given, committed.midnight_day, committed.is_loading)
        except self._core.declined:
            return [
                self._finished(customer_id, state, committed, is_decided=is_decided)
                for customer_id, (state, is_decided) in zip(ids, given, strict=True)
            ]
        return [
            StoredState(customer_id, compressed(state), due_day)
            for customer_id, (state, due_day) in zip(ids, finished, strict=True)
        ]

    def _finished(
        self, customer_id: str, state: bytes, committed: Checkpoint, *, is_decided: bool
    ) -> StoredState:
        customer = Customer(customer_id, unpacked(state), self._model)
        finish(customer, committed, is_decided=is_decided)
        return stored_state(customer)
