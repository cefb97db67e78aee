"""Taking over a partition: fence, claim, compare Redis with Kafka, and mend what a crash has left.

| Redis against Kafka                          | meaning                       | done                                  |
|----------------------------------------------|-------------------------------|---------------------------------------|
| same step, same token                        | clean                         | go on                                 |
| one ahead, its predecessor is Kafka's mark   | died between persist, publish | publish the outbox, go on             |
| the same, but the outbox is emptied          | Kafka has lost the step       | rebuild                               |
| behind, empty, rebuilding, or another token  | Redis lost writes             | rebuild                               |
| further ahead; or Kafka blank, Redis not     | offsets expired, wrong Redis  | stop this partition                   |
| both blank, and no decisions                 | first start                   | commit step 0 at the log's beginning  |
| both blank, but there are decisions          | both were lost                | stop this partition                   |

Without broker transactions Redis is the only authority: an outbox that is not emptied is published again, and its
offsets hold. An outbox is emptied once its publication is known.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from enrichment.days import format_day
from enrichment.model import Model
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import FirstLoad, Mark
from streams.errors import EbbtideError
from streams.kafka.clients import CommittedOffsets, read_committed_offsets
from streams.kafka.size_limits import StoppedError
from streams.kafka.topic_identity import check_inputs, lost_decisions
from streams.micro_batch import Step
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import facts_record
from streams.state.partition_facts import Facts, facts_after
from streams.state.store import StateStore, StoredMark
from streams.worker.clients import Clients
from streams.worker.inputs import Inputs
from streams.worker.metrics import Metrics
from streams.worker.publisher import Publisher
from streams.worker.restore import read_decisions, rebuild

log = logging.getLogger(__name__)

OWNER_MARK = "1:"
"""What owner tokens begin with; those of Ebbtide 0.1 do not."""


class Finding(Enum):
    """What a comparison of Redis with Kafka says; the value is for the log."""

    CLEAN = "Redis and Kafka agree"
    UNPUBLISHED = "a step was persisted but not published"
    LOST_WRITES = "Redis has lost writes"
    FIRST_START = "neither Redis nor Kafka knows this partition"


class _Metadata(msgspec.Struct):
    step: int
    token: str
    midnight_day: int
    load: FirstLoad | None = None


@dataclass(slots=True)
class TakeOver:
    """One partition being taken over; `run` gives the mark to go on from.

    `first_midnight_day` tells where a first start begins; None where no clock can be trusted to say.
    """

    settings: Settings
    clients: Clients
    model: Model
    partition: int
    store: StateStore
    publisher: Publisher
    inputs: Inputs
    first_midnight_day: Callable[[], Awaitable[int | None]]
    metrics: Metrics = field(default_factory=Metrics)
    found: Finding = Finding.CLEAN
    stored: StoredMark | None = None
    kept_facts: Facts | None = None
    """Those that Kafka has."""
    _is_rebuilt: bool = False

    async def run(self) -> Mark:
        """Take over.

        1. Fence: whoever published for this partition before can publish no more, and its last transaction is settled.
        2. Claim: nor can they write to Redis.
        3. Confirm that nobody has fenced us meanwhile. Else a worker that slept between 1 and 2 would take Redis from
           its successor, and rebuild it from a log whose last transaction is not settled.
        4. Compare Redis with Kafka: first whether the topics are those whose offsets are kept.
        5. Mend, so that both say the same.
        6. Where the model or the facts are others than before, a step of its own says so.
        7. Empty the outbox: what it held is published.
        """
        await self._fence()
        await self.store.claim(OWNER_MARK + secrets.token_hex(8))
        await self.publisher.confirm()
        stored = self.stored = await self.store.stored_mark()
        known = {} if stored is None else stored.topic_ids
        present = await self.clients.topic_ids()
        check_inputs(self.settings, self.partition, known, present)
        if (lost := lost_decisions(self.settings, known, present)) is not None:
            log.error("partition %d: %s", self.partition, lost)
        self.kept_facts = None if stored is None else stored.facts
        self.store.facts = facts_after(
            self.kept_facts, self.settings, self.partition, is_begun=stored is not None
        )
        if self.settings.processing_guarantee == "exactly_once":
            found = await self.clients.committed_offsets(self.partition)
            committed = mark_of(found, self.settings.group_id, self.partition)
            mark = await self._reconcile(stored, committed)
        else:
            mark = await self._resume(stored)
        is_other_model = stored is not None and stored.model != self.model.fingerprint
        if is_other_model and mark.is_loading:
            # Its sweep would come before anyone has been decided on.
            log.warning(
                "partition %d: another model than before: the first load is folded again", self.partition
            )
            is_other_model = False
            if not self._is_rebuilt:
                await self._rebuild(mark)
        elif is_other_model:
            log.warning("partition %d: another model than before: everyone is evaluated anew", self.partition)
        if is_other_model or self.store.facts != self.kept_facts:
            mark = await self._step(mark, is_everyone_due=is_other_model)
        await self.store.empty_outbox()
        if present.keys() - known.keys():
            await self.store.keep_topic_ids({**present, **known})
        log.info(
            "partition %d: goes on from step %d and the midnight of %s",
            self.partition,
            mark.step,
            format_day(mark.midnight_day),
        )
        return mark

    async def _reconcile(self, stored: StoredMark | None, committed: Mark | None) -> Mark:
        """Exactly-once: bring Redis to where Kafka is."""
        self.found = compare(stored, committed, self.partition)
        log.info(
            "partition %d: take-over: %s (Redis %s, Kafka %s)",
            self.partition,
            self.found.value,
            _told(None if stored is None else stored.mark),
            _told(committed),
        )
        if self.found is Finding.FIRST_START:
            return await self._first_start()
        assert committed is not None
        if self.found is Finding.CLEAN:
            self.store.expect(committed)
        if self.found is Finding.UNPUBLISHED:
            assert stored is not None
            self.store.expect(stored.mark)
            outbox = await self.store.outbox()
            if outbox is not None:
                await self.publisher.publish(outbox, stored.mark)
                log.warning(
                    "partition %d: outbox of step %d published: %d records",
                    self.partition,
                    stored.mark.step,
                    len(outbox),
                )
                return stored.mark
            # Kafka had this step, and has lost it: what its records were, only the inputs can tell.
            self.found = Finding.LOST_WRITES
        if self.found is Finding.LOST_WRITES:
            await self._rebuild(committed)
        return committed

    async def _rebuild(self, mark: Mark) -> None:
        """Make Redis what it was at a mark, by the present model."""
        # Before the first step nothing was read.
        beginnings = mark.offsets if mark.step == 0 else await self.inputs.beginnings()
        with self.metrics.rebuild(self.partition) as rebuilt:
            rebuilt.records, self.kept_facts = await rebuild(
                self.settings, self.clients, self.model, self.store, self.partition, mark, beginnings
            )
        self._is_rebuilt = True

    async def _step(self, mark: Mark, *, is_everyone_due: bool) -> Mark:
        """A step of its own, so that nothing of it is lost alone: Kafka is told the facts, and Redis who is due.

        Everyone, by another model; the sweep then takes them in slices.
        """
        outbox = self._facts_records() if self.store.facts != self.kept_facts else []
        after = mark.next(mark.midnight_day, mark.offsets)
        step = Step(mark, after, self.model.fingerprint, outbox=outbox, is_everyone_due=is_everyone_due)
        await self.store.persist(step)
        await self.publisher.publish(outbox, after)
        return after

    async def _fence(self) -> None:
        """Fence; by the transactional id of Ebbtide 0.1 too, unless the last owner was of a later version."""
        await self.publisher.open()
        if not (await self.store.owner_token()).startswith(OWNER_MARK):
            await self.publisher.fence_0_1()

    def _facts_records(self) -> list[OutputRecord]:
        assert self.store.facts is not None
        return [facts_record(self.store.facts, self.settings.group_id)]

    async def _first_start(self) -> Mark:
        await check_first_start(self.settings, self.clients, self.partition)
        day = await self.first_midnight_day()
        if day is None:
            raise EbbtideError("the clock cannot be trusted: no partition is started for the first time")
        offsets = await self.inputs.beginnings()
        load = await self._first_load(offsets, day) if self.settings.clock == "wall" else None
        mark = Mark(0, secrets.token_hex(8), day, offsets, load)
        await self.publisher.publish(self._facts_records(), mark)
        self.kept_facts = self.store.facts
        await self.store.begin(mark, self.model.fingerprint)
        log.info("partition %d: begun at step 0, offsets %s", self.partition, mark.offsets)
        return mark

    async def _first_load(self, starts: dict[InputTopic, int], day: int) -> FirstLoad:
        """What lies in the inputs already, up to their last stable offsets."""
        stable = await self.inputs.ends()
        ends = {topic: max(start, stable[topic]) for topic, start in starts.items()}
        return FirstLoad(starts, ends, day, is_over=ends == starts)

    async def _resume(self, stored: StoredMark | None) -> Mark:
        """At-least-once: go on from Redis; its last step is published again unless Kafka is known to have it."""
        if stored is None:
            self.found = Finding.FIRST_START
            return await self._first_start()
        if stored.is_rebuilding and stored.mark.is_loading:
            # By another model: of a first load, the inputs and the decisions tell everything.
            self.found = Finding.LOST_WRITES
            await self._rebuild(stored.mark)
            return stored.mark
        check_resumable(stored, self.partition)
        self.store.expect(stored.mark)
        outbox = await self.store.outbox() or []
        self.found = Finding.UNPUBLISHED if outbox else Finding.CLEAN
        await self.publisher.publish(outbox, stored.mark)
        log.info(
            "partition %d: take-over: resumed from Redis %s, %d records published again",
            self.partition,
            _told(stored.mark),
            len(outbox),
        )
        return stored.mark


async def check_first_start(settings: Settings, clients: Clients, partition: int) -> None:
    """Raise `StoppedError` where decisions tell of a start that neither Redis nor the group's offsets remember."""
    if settings.processing_guarantee == "at_least_once":
        return
    table = await read_decisions(settings, clients, partition)
    if table.decisions or table.erased:
        raise StoppedError(
            f"partition {partition}: stopped: neither Redis nor Kafka's committed offsets know it, but "
            f"{settings.topic(DECISIONS)} holds decisions of {len(table.decisions)} customers: both were lost "
            "or reset, and beginning again would publish their changes a second time"
        )


def check_resumable(stored: StoredMark | None, partition: int) -> None:
    """Raise `StoppedError` where Redis alone, as `at_least_once` has it, cannot say where to go on."""
    if stored is not None and stored.is_rebuilding and not stored.mark.is_loading:
        raise StoppedError(
            f"partition {partition}: stopped: its rebuild was interrupted, and only exactly_once can finish it"
        )


def compare(stored: StoredMark | None, committed: Mark | None, partition: int) -> Finding:
    """What Redis and Kafka say of each other; raises `StoppedError` where going on would lose or double changes."""
    if committed is None:
        if stored is None:
            return Finding.FIRST_START
        raise StoppedError(
            f"partition {partition}: stopped: Kafka has no committed offsets, but Redis is at step "
            f"{stored.mark.step}: the group's offsets expired or were reset, or EBBTIDE_GROUP_ID or "
            "EBBTIDE_REDIS_URL is another's"
        )
    if stored is None or stored.is_rebuilding:
        return Finding.LOST_WRITES
    mark = stored.mark
    if (mark.step, mark.token) == (committed.step, committed.token):
        return Finding.CLEAN
    if mark.step == committed.step + 1 and stored.before == (committed.step, committed.token):
        return Finding.UNPUBLISHED
    if mark.step > committed.step + 1:
        raise StoppedError(
            f"partition {partition}: stopped: Redis is at step {mark.step}, further ahead of Kafka's step "
            f"{committed.step} than a crash can explain: the group's offsets were reset, or this Redis is another's"
        )
    return Finding.LOST_WRITES


def read_committed_mark(settings: Settings, partition: int) -> Mark | None:
    """Kafka's committed offsets of a partition, once no transaction on them is pending; None if there are none.

    Raises `StoppedError` for offsets that are not ours.
    """
    return mark_of(read_committed_offsets(settings, partition), settings.group_id, partition)


def mark_of(found: CommittedOffsets, group_id: str, partition: int) -> Mark | None:
    """The mark that committed offsets carry; None if there are none, `StoppedError` for offsets that are not ours."""
    committed = {topic: offset for topic, offset in found.items() if offset is not None}
    if not committed:
        return None
    try:
        said = {
            topic: msgspec.json.decode(offset.metadata or b"", type=_Metadata)
            for topic, offset in committed.items()
        }
    except msgspec.DecodeError:
        said = {}
    if len(said) != len(INPUT_TOPICS) or len({metadata.token for metadata in said.values()}) != 1:
        raise StoppedError(
            f"partition {partition}: stopped: the committed offsets of group {group_id!r} are not those of "
            "one step: something else commits under this EBBTIDE_GROUP_ID"
        )
    mark = said[INPUT_TOPICS[0]]
    offsets = {topic: int(offset.offset) for topic, offset in committed.items()}
    return Mark(mark.step, mark.token, mark.midnight_day, offsets, mark.load)


def _told(mark: Mark | None) -> str:
    return "blank" if mark is None else f"at step {mark.step}/{mark.token}"
