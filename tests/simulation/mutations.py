"""The protocol broken on purpose, one rule at a time: what the simulation must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from ebbtide.testing.simulation.clients import SimulatedClients, SimulatedProducer
from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from streams.checkpoint import Checkpoint
from streams.kafka.committed_checkpoint import offsets_with_checkpoint
from streams.micro_batch import MicroBatch
from streams.outbox import Outbox, OutputRecord
from streams.state import store as state_store
from streams.state.changelog import Remembered
from streams.state.store import StateStore
from streams.worker import recovery as recovery
from streams.worker.batch_loop import BatchLoop
from streams.worker.batch_processor import BatchProcessor
from streams.worker.clock import WallClock
from streams.worker.publisher import Publisher, TransactionalPublisher
from streams.worker.reading.inputs import Inputs
from streams.worker.recovery import Recovery, RecoveryCase
from streams.worker.restoring import restored_states
from streams.worker.restoring.compiled_restore import CompiledFold
from streams.worker.restoring.restored_states import Beginnings, PythonFold


class Mutation(NamedTuple):
    """One rule broken for the length of the block that `broken` opens; `seed` is the first that notices."""

    broken: Callable[[], AbstractContextManager[None]]
    seed: int


MUTATIONS: dict[str, Mutation] = {}

Function = Callable[[], Iterator[None]]


def _mutation(*, seed: int) -> Callable[[Function], Function]:
    """Put a mutation on record, by the words of its name."""

    def record(function: Function) -> Function:
        MUTATIONS[function.__name__.replace("_", " ")] = Mutation(contextmanager(function), seed)
        return function

    return record


@_mutation(seed=0)
def publish_before_persist() -> Iterator[None]:
    """A crash in between leaves in Kafka what Redis has never heard of."""

    async def finish(self: BatchLoop, batch: MicroBatch, publisher: Publisher) -> None:
        await publisher.publish(batch.outbox, batch.after)
        await self._store.persist(batch)

    async def reconcile(self: Recovery, stored: Any, committed: Checkpoint | None) -> Checkpoint:
        if (
            stored
            and committed
            and not stored.is_restoring
            and stored.checkpoint.batch_id == committed.batch_id - 1
        ):
            self.store.expect(stored.checkpoint)
            checkpoint: Checkpoint = stored.checkpoint
            return checkpoint
        return await as_it_is(self, stored, committed)

    as_it_is = Recovery._reconcile
    with (
        mock.patch.object(BatchLoop, "_finish", finish),
        mock.patch.object(Recovery, "_reconcile", reconcile),
    ):
        yield


@_mutation(seed=181)
def no_token_check() -> Iterator[None]:
    """Scripts ask for neither owner nor micro-batch token, and a recovery compares micro-batch numbers alone."""
    read_text = Path.read_text

    def without_checks(self: Path, *arguments: Any, **named: Any) -> str:
        text = read_text(self, *arguments, **named)
        if self.suffix != ".lua":
            return text
        for check in ("meta[1] ~= ARGV[1]", "redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1]"):
            text = text.replace(f"if {check} then", "if false then")
        return text.replace(" or meta[3] ~= ARGV[3] then", " then")

    def compare(stored: Any, committed: Checkpoint | None, partition: int) -> RecoveryCase:
        if stored is not None and committed is not None and not stored.is_restoring:
            if stored.checkpoint.batch_id == committed.batch_id:
                return RecoveryCase.CLEAN
            if stored.checkpoint.batch_id == committed.batch_id + 1:
                return RecoveryCase.UNPUBLISHED
        return take_over_compare(stored, committed, partition)

    take_over_compare = recovery.compare
    with (
        mock.patch.object(Path, "read_text", without_checks),
        mock.patch.object(recovery, "compare", compare),
    ):
        yield


@_mutation(seed=55)
def a_counter_instead_of_a_random_token() -> Iterator[None]:
    """Two owners who make the same micro-batch number cannot be told apart, nor can a Redis that was set back."""

    def following(
        self: Checkpoint, midnight_day: int, offsets: Any, *, ends_load: bool = False
    ) -> Checkpoint:
        after = next_checkpoint(self, midnight_day, offsets, ends_load=ends_load)
        return msgspec.structs.replace(after, token=str(after.batch_id))

    next_checkpoint = Checkpoint.next

    claim = StateStore.claim

    async def counted(self: StateStore, owner_token: str) -> None:
        held = await self.redis.hgetall(self.keys.meta)
        await claim(self, str(int(held.get(b"owner_token", b"0")) + 1))

    with mock.patch.object(Checkpoint, "next", following), mock.patch.object(StateStore, "claim", counted):
        yield


@_mutation(seed=0)
def no_outbox() -> Iterator[None]:
    """A micro-batch that was persisted and not published goes on without its records."""

    async def nothing(self: StateStore) -> list[OutputRecord]:
        return []

    with mock.patch.object(StateStore, "outbox", nothing):
        yield


@_mutation(seed=0)
def an_outbox_emptied_before_it_is_published() -> Iterator[None]:
    """A crash in between loses the batch's records; nor is an outbox that is gone taken for a reason to restore."""

    async def finish(self: BatchLoop, batch: MicroBatch, publisher: Publisher) -> None:
        await self._store.persist(batch)
        await self._store.empty_outbox()
        await publisher.publish(batch.outbox, batch.after)

    async def outbox(self: StateStore) -> list[OutputRecord]:
        return await held_outbox(self) or []

    held_outbox = StateStore.outbox
    with (
        mock.patch.object(BatchLoop, "_finish", finish),
        mock.patch.object(StateStore, "outbox", outbox),
    ):
        yield


@_mutation(seed=0)
def offsets_committed_outside_the_transaction() -> Iterator[None]:
    """A crash in between leaves records whose micro-batch Kafka does not know."""

    async def publish(self: TransactionalPublisher, records: Outbox, checkpoint: Checkpoint) -> None:
        await self._producer.begin_transaction()
        await self._send(records)
        await self._producer.commit_transaction()
        await self._producer.begin_transaction()
        offsets = offsets_with_checkpoint(self.settings, self.partition, checkpoint)
        await self._producer.send_offsets_to_transaction(offsets, self.settings.group_id)
        await self._producer.commit_transaction()

    with mock.patch.object(TransactionalPublisher, "publish", publish):
        yield


@_mutation(seed=0)
def send_results_not_awaited() -> Iterator[None]:
    """A batch that Kafka did not take is missing from the transaction that is committed."""

    async def send(self: Publisher, topic: str, records: list[OutputRecord]) -> None:
        for record in records:
            named = {"key": record.key, "value": record.value, "headers": list(record.headers)}
            await self._producer.send(self.settings.topic(topic), partition=self.partition, **named)

    with mock.patch.object(Publisher, "_send_topic", send):
        yield


@_mutation(seed=0)
def sweeps_that_take_no_micro_batch() -> Iterator[None]:
    """What passing time changes is written and published without a micro-batch of its own."""
    finish = BatchLoop._finish

    async def without_micro_batch(self: BatchLoop, batch: MicroBatch, publisher: Publisher) -> None:
        if (
            batch.before.offsets != batch.after.offsets
            or batch.before.midnight_day != batch.after.midnight_day
        ):
            await finish(self, batch, publisher)
            return
        keys = self._store.keys
        for customer_id, state, due_day in batch.states:
            await self._runtime.clients.redis.execute_command("SET", keys.customer(customer_id), state)
            await self._runtime.clients.redis.execute_command("ZADD", keys.due, due_day, customer_id)
        for customer_id, due_day in batch.rescheduled:
            await self._runtime.clients.redis.execute_command("ZADD", keys.due, due_day, customer_id)
        await publisher.publish(batch.outbox, batch.before)
        object.__setattr__(batch, "after", batch.before)

    with mock.patch.object(BatchLoop, "_finish", without_micro_batch):
        yield


@_mutation(seed=0)
def standings_recomputed_in_a_restore() -> Iterator[None]:
    """Not those that were published: hysteresis and midnights had made them differ from what anyone computes later."""
    finish = restored_states.finish

    def recomputed(customer: Customer, committed: Checkpoint, *, is_decided: bool) -> None:
        finish(customer, committed, is_decided=is_decided)
        decided = customer.decision
        customer.state.decision = Decision(
            life=decided.life,
            erased_up_to_us=decided.erased_up_to_us,
            model=None,
            model_day=decided.model_day,
        )

    with mock.patch.object(restored_states, "finish", recomputed):
        yield


@_mutation(seed=5)
def a_midnight_passed_before_the_backlog_is_read() -> Iterator[None]:
    """Customers are demoted although their purchases are in the log."""

    def at_once(self: WallClock, inputs: Inputs, topic: Any, at_us: int) -> bool:
        return True

    with mock.patch.object(WallClock, "_is_through", at_once):
        yield


@_mutation(seed=0)
def a_midnight_passed_before_an_open_transaction() -> Iterator[None]:
    """The last stable offset is taken for the end: what lies behind is not read, and customers are demoted."""
    with mock.patch.object(Inputs, "has_taken_all", Inputs.is_caught_up):
        yield


@_mutation(seed=147)
def a_commit_repeated_by_the_same_epoch() -> Iterator[None]:
    """The late copy commits half of the next transaction."""
    make = SimulatedClients.producer

    def producer(self: SimulatedClients, **settings: Any) -> SimulatedProducer:
        made = make(self, **settings)
        made.repeats_commits = True
        return made

    with mock.patch.object(SimulatedClients, "producer", producer):
        yield


@_mutation(seed=15)
def reads_that_are_not_checked() -> Iterator[None]:
    """A Redis that was empty for a moment gives customers a second beginning."""

    async def read(self: StateStore, command: str, keys: Sequence[str], *arguments: Any) -> Any:
        return await state_store._answer(self.redis.execute_command(command, *keys, *arguments))

    with mock.patch.object(StateStore, "_read", read):
        yield


@_mutation(seed=24)
def a_restore_whose_writes_are_not_counted() -> Iterator[None]:
    """Redis loses some of them before it ends, and nobody notices."""
    read_text = Path.read_text

    def without_counting(self: Path, *arguments: Any, **named: Any) -> str:
        text = read_text(self, *arguments, **named)
        text = text.replace("if meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then", "if false then")
        return text.replace("if at[1] ~= ARGV[8] or at[2] ~= ARGV[9] then", "if false then")

    def only_restore(self: Path, *arguments: Any, **named: Any) -> str:
        is_of_rebuild = self.name in ("begin.lua", "rebuild.lua")
        return (
            without_counting(self, *arguments, **named)
            if is_of_rebuild
            else read_text(self, *arguments, **named)
        )

    with mock.patch.object(Path, "read_text", only_restore):
        yield


@_mutation(seed=1443)
def no_confirmation_after_the_claim() -> Iterator[None]:
    """Whoever slept between fencing and claiming restores Redis from a log that is not settled."""

    async def nothing(self: TransactionalPublisher) -> None: ...

    with mock.patch.object(TransactionalPublisher, "confirm", nothing):
        yield


@_mutation(seed=1)
def a_first_load_that_ends_before_everyone_is_decided_on() -> Iterator[None]:
    """Those whom later slices would have reached stay without a standing."""

    async def enter(self: BatchProcessor, midnight_day: int) -> bool:
        await decide(self, midnight_day)
        return True

    decide = BatchProcessor.enter
    with mock.patch.object(BatchProcessor, "enter", enter):
        yield


@_mutation(seed=2)
def a_restore_that_forgets_who_has_not_been_decided_on() -> Iterator[None]:
    """Redis is emptied in the middle of a first load, and of those folded by then nothing comes back."""

    def nobody(self: object) -> set[str]:
        return set()

    with (
        mock.patch.object(PythonFold, "known_ids", nobody),
        mock.patch.object(CompiledFold, "known_ids", nobody),
    ):
        yield


@_mutation(seed=0)
def an_input_taken_to_be_at_its_end_by_an_old_answer() -> Iterator[None]:
    """By the event clock, later records of the other inputs overtake its own; nor does a fetch tell the end."""
    with (
        mock.patch.object(Inputs, "is_behind_nothing", Inputs.is_caught_up),
        mock.patch.object(Inputs, "_fetched_end", return_value=0),
    ):
        yield


@_mutation(seed=56)
def an_erasure_that_takes_along_whatever_kafka_had_before() -> Iterator[None]:
    """By the event clock some of that was taken after it; the first restore deletes it."""

    def without_its_time(self: Any, customer_id: str) -> Remembered | None:
        kept = remembered(self, customer_id)
        return kept and msgspec.structs.replace(kept, as_of_us=None)

    remembered = Beginnings.remembered
    with mock.patch.object(Beginnings, "remembered", without_its_time):
        yield
