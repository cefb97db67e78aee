"""Recovery of a partition that a worker takes: fence, claim, compare Redis with Kafka, and mend what a crash has left.

| Redis against Kafka                          | meaning                       | done                                  |
|----------------------------------------------|-------------------------------|---------------------------------------|
| same micro-batch, same token                 | clean                         | go on                                 |
| one ahead, its predecessor is Kafka's        | died between persist, publish | publish the outbox, go on             |
| the same, but the outbox is emptied          | Kafka has lost it             | restore                               |
| behind, empty, restoring, or another token   | Redis lost writes             | restore                               |
| further ahead; or Kafka blank, Redis not     | offsets expired, wrong Redis  | stop this partition                   |
| both blank, and the changelog too            | first start                   | commit micro-batch 0                  |
| both blank, but the changelog is not         | both were lost                | stop this partition                   |

Without broker transactions Redis is the only authority: an outbox that is not emptied is published again, and its
offsets hold. An outbox is emptied once its publication is known.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from enrichment.days import format_day
from schemas.topics import InputTopic
from streams.checkpoint import Checkpoint, FirstLoad
from streams.errors import EbbtideError
from streams.kafka.committed_checkpoint import checkpoint_of
from streams.kafka.size_limits import StoppedError
from streams.kafka.topic_identity import check_inputs, lost_changelog
from streams.micro_batch import MicroBatch
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import facts_record
from streams.state.partition_facts import Facts, facts_after
from streams.state.store import StateStore, StoredCheckpoint
from streams.worker.clients import Clients
from streams.worker.publisher import Publisher
from streams.worker.reading.inputs import Inputs
from streams.worker.restoring.restore import read_changelog, restore
from streams.worker.runtime import Runtime

log = logging.getLogger(__name__)

OWNER_PREFIX = "1:"
"""What owner tokens begin with; those of Ebbtide 0.1 do not."""


class RecoveryCase(Enum):
    """What a comparison of Redis with Kafka says; the value is for the log."""

    CLEAN = "Redis and Kafka agree"
    UNPUBLISHED = "a micro-batch was persisted but not published"
    LOST_WRITES = "Redis has lost writes"
    FIRST_START = "neither Redis nor Kafka knows this partition"


@dataclass(slots=True)
class Recovery:
    """One partition being taken over; `run` gives the checkpoint to go on from.

    `first_midnight_day` tells where a first start begins; None where no clock can be trusted to say.
    """

    runtime: Runtime
    partition: int
    store: StateStore
    publisher: Publisher
    inputs: Inputs
    first_midnight_day: Callable[[], Awaitable[int | None]]
    found: RecoveryCase = RecoveryCase.CLEAN
    stored: StoredCheckpoint | None = None
    kept_facts: Facts | None = None
    """Those that Kafka has."""
    _is_restored: bool = False

    @property
    def settings(self) -> Settings:
        """Those of the worker."""
        return self.runtime.settings

    async def run(self) -> Checkpoint:
        """Take over.

        1. Fence: whoever published for this partition before can publish no more, and its last transaction is settled.
        2. Claim: nor can they write to Redis.
        3. Confirm that nobody has fenced us meanwhile. Else a worker that slept between 1 and 2 would take Redis from
           its successor, and restore it from a log whose last transaction is not settled.
        4. Compare Redis with Kafka: first whether the topics are those whose offsets are kept.
        5. Mend, so that both say the same.
        6. Where the model or the facts are others than before, a micro-batch of its own says so.
        7. Empty the outbox: what it held is published.
        """
        await self._fence()
        await self.store.claim(OWNER_PREFIX + secrets.token_hex(8))
        await self.publisher.confirm()
        stored = self.stored = await self.store.stored_checkpoint()
        known = {} if stored is None else stored.topic_ids
        present = await self.runtime.clients.topic_ids()
        check_inputs(self.settings, self.partition, known, present)
        if (lost := lost_changelog(self.settings, known, present)) is not None:
            log.error("partition %d: %s", self.partition, lost)
        self.kept_facts = None if stored is None else stored.facts
        self.store.facts = facts_after(
            self.kept_facts, self.settings, self.partition, is_begun=stored is not None
        )
        if self.settings.processing_guarantee == "exactly_once":
            found = await self.runtime.clients.committed_offsets(self.partition)
            committed = checkpoint_of(found, self.settings.group_id, self.partition)
            checkpoint = await self._reconcile(stored, committed)
        else:
            checkpoint = await self._resume(stored)
        is_other_model = stored is not None and stored.model != self.runtime.model.fingerprint
        if is_other_model and checkpoint.is_loading:
            # Its sweep would come before anyone has been decided on.
            log.warning(
                "partition %d: another model than before: the first load is folded again", self.partition
            )
            is_other_model = False
            if not self._is_restored:
                await self._restore(checkpoint)
        elif is_other_model:
            log.warning("partition %d: another model than before: everyone is evaluated anew", self.partition)
        if is_other_model or self.store.facts != self.kept_facts:
            checkpoint = await self._run_batch(checkpoint, is_everyone_due=is_other_model)
        await self.store.empty_outbox()
        if present.keys() - known.keys():
            await self.store.keep_topic_ids({**present, **known})
        log.info(
            "partition %d: goes on from micro-batch %d and the midnight of %s",
            self.partition,
            checkpoint.batch_id,
            format_day(checkpoint.midnight_day),
        )
        return checkpoint

    async def _reconcile(self, stored: StoredCheckpoint | None, committed: Checkpoint | None) -> Checkpoint:
        """Exactly-once: bring Redis to where Kafka is."""
        self.found = compare(stored, committed, self.partition)
        log.info(
            "partition %d: recovery: %s (Redis %s, Kafka %s)",
            self.partition,
            self.found.value,
            _told(None if stored is None else stored.checkpoint),
            _told(committed),
        )
        if self.found is RecoveryCase.FIRST_START:
            return await self._first_start()
        assert committed is not None
        if self.found is RecoveryCase.CLEAN:
            self.store.expect(committed)
        if self.found is RecoveryCase.UNPUBLISHED:
            assert stored is not None
            self.store.expect(stored.checkpoint)
            outbox = await self.store.outbox()
            if outbox is not None:
                await self.publisher.publish(outbox, stored.checkpoint)
                log.warning(
                    "partition %d: outbox of micro-batch %d published: %d records",
                    self.partition,
                    stored.checkpoint.batch_id,
                    len(outbox),
                )
                return stored.checkpoint
            # Kafka had this micro-batch, and has lost it: what its records were, only the inputs can tell.
            self.found = RecoveryCase.LOST_WRITES
        if self.found is RecoveryCase.LOST_WRITES:
            await self._restore(committed)
        return committed

    async def _restore(self, checkpoint: Checkpoint) -> None:
        """Make Redis what it was at a checkpoint, by the present model."""
        # Before the first micro-batch nothing was read.
        beginnings = checkpoint.offsets if checkpoint.batch_id == 0 else await self.inputs.beginnings()
        with self.runtime.metrics.restore(self.partition) as restored:
            restored.records, self.kept_facts = await restore(
                self.runtime, self.store, self.partition, checkpoint, beginnings
            )
        self._is_restored = True

    async def _run_batch(self, checkpoint: Checkpoint, *, is_everyone_due: bool) -> Checkpoint:
        """A micro-batch of its own, so that nothing of it is lost alone: Kafka is told the facts, and Redis who is due.

        Everyone, by another model; the sweep then takes them in slices.
        """
        outbox = self._facts_records() if self.store.facts != self.kept_facts else []
        after = checkpoint.next(checkpoint.midnight_day, checkpoint.offsets)
        batch = MicroBatch(
            checkpoint, after, self.runtime.model.fingerprint, outbox=outbox, is_everyone_due=is_everyone_due
        )
        await self.store.persist(batch)
        await self.publisher.publish(outbox, after)
        return after

    async def _fence(self) -> None:
        """Fence; by the transactional id of Ebbtide 0.1 too, unless the last owner was of a later version."""
        await self.publisher.open()
        if not (await self.store.owner_token()).startswith(OWNER_PREFIX):
            await self.publisher.fence_0_1()

    def _facts_records(self) -> list[OutputRecord]:
        assert self.store.facts is not None
        return [facts_record(self.store.facts, self.settings.group_id)]

    async def _first_start(self) -> Checkpoint:
        await check_first_start(self.settings, self.runtime.clients, self.partition)
        day = await self.first_midnight_day()
        if day is None:
            raise EbbtideError("the clock cannot be trusted: no partition is started for the first time")
        offsets = await self.inputs.beginnings()
        load = await self._first_load(offsets, day) if self.settings.clock == "wall" else None
        checkpoint = Checkpoint(0, secrets.token_hex(8), day, offsets, load)
        await self.publisher.publish(self._facts_records(), checkpoint)
        self.kept_facts = self.store.facts
        await self.store.begin(checkpoint, self.runtime.model.fingerprint)
        log.info("partition %d: begun at micro-batch 0, offsets %s", self.partition, checkpoint.offsets)
        return checkpoint

    async def _first_load(self, starts: dict[InputTopic, int], day: int) -> FirstLoad:
        """What lies in the inputs already, up to their last stable offsets."""
        stable = await self.inputs.ends()
        ends = {topic: max(start, stable[topic]) for topic, start in starts.items()}
        return FirstLoad(starts, ends, day, is_over=ends == starts)

    async def _resume(self, stored: StoredCheckpoint | None) -> Checkpoint:
        """At-least-once: go on from Redis; its last micro-batch is published again unless Kafka is known to have it."""
        if stored is None:
            self.found = RecoveryCase.FIRST_START
            return await self._first_start()
        if stored.is_restoring and stored.checkpoint.is_loading:
            # By another model: of a first load, the inputs and the decisions tell everything.
            self.found = RecoveryCase.LOST_WRITES
            await self._restore(stored.checkpoint)
            return stored.checkpoint
        check_resumable(stored, self.partition)
        self.store.expect(stored.checkpoint)
        outbox = await self.store.outbox() or []
        self.found = RecoveryCase.UNPUBLISHED if outbox else RecoveryCase.CLEAN
        await self.publisher.publish(outbox, stored.checkpoint)
        log.info(
            "partition %d: recovery: resumed from Redis %s, %d records published again",
            self.partition,
            _told(stored.checkpoint),
            len(outbox),
        )
        return stored.checkpoint


async def check_first_start(settings: Settings, clients: Clients, partition: int) -> None:
    """Raise `StoppedError` where decisions tell of a start that neither Redis nor the group's offsets remember."""
    if settings.processing_guarantee == "at_least_once":
        return
    table = await read_changelog(settings, clients, partition)
    if table.decisions or table.erased:
        raise StoppedError(
            f"partition {partition}: stopped: neither Redis nor Kafka's committed offsets know it, but "
            f"{settings.topic(DECISIONS)} holds decisions of {len(table.decisions)} customers: both were lost "
            "or reset, and beginning again would publish their changes a second time"
        )


def check_resumable(stored: StoredCheckpoint | None, partition: int) -> None:
    """Raise `StoppedError` where Redis alone, as `at_least_once` has it, cannot say where to go on."""
    if stored is not None and stored.is_restoring and not stored.checkpoint.is_loading:
        raise StoppedError(
            f"partition {partition}: stopped: its restore was interrupted, and only exactly_once can finish it"
        )


def compare(stored: StoredCheckpoint | None, committed: Checkpoint | None, partition: int) -> RecoveryCase:
    """What Redis and Kafka say of each other; raises `StoppedError` where going on would lose or double changes."""
    if committed is None:
        if stored is None:
            return RecoveryCase.FIRST_START
        raise StoppedError(
            f"partition {partition}: stopped: Kafka has no committed offsets, but Redis is at micro-batch "
            f"{stored.checkpoint.batch_id}: the group's offsets expired or were reset, or EBBTIDE_GROUP_ID or "
            "EBBTIDE_REDIS_URL is another's"
        )
    if stored is None or stored.is_restoring:
        return RecoveryCase.LOST_WRITES
    checkpoint = stored.checkpoint
    if (checkpoint.batch_id, checkpoint.token) == (committed.batch_id, committed.token):
        return RecoveryCase.CLEAN
    if checkpoint.batch_id == committed.batch_id + 1 and stored.before == (
        committed.batch_id,
        committed.token,
    ):
        return RecoveryCase.UNPUBLISHED
    if checkpoint.batch_id > committed.batch_id + 1:
        raise StoppedError(
            f"partition {partition}: stopped: Redis is at micro-batch {checkpoint.batch_id}, further ahead of "
            f"Kafka's micro-batch {committed.batch_id} than a crash can explain: the group's offsets were reset, or "
            "this Redis is another's"
        )
    return RecoveryCase.LOST_WRITES


def _told(checkpoint: Checkpoint | None) -> str:
    return "blank" if checkpoint is None else f"at micro-batch {checkpoint.batch_id}/{checkpoint.token}"
