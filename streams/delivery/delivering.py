"""`ebbtide deliver`: tells each output who enters and leaves which audience, as changes come.

An output has a consumer group of its own, `<group>-out-<name>`, so a dead endpoint holds up nobody else. It reads
the segment changes, and the consents themselves, so that a withdrawal is acted on before the worker has read it. What
it has told is kept in Redis once it has been delivered, and then its offsets: after a crash some messages come again,
under the same ids. Of a customer everything is told in order: a partition's records go portion after portion.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import aiohttp
import orjson
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from redis.exceptions import RedisError

from enrichment.customer.customer import Customer
from enrichment.customer.validation import check_time
from enrichment.days import day_of, format_time
from enrichment.model import Model
from schemas.dead_letters import headers
from schemas.decode import decode
from schemas.documents import ChangeDocument, TriggerDocument
from schemas.events import Consent
from schemas.rejection import UNDELIVERED, rejection
from streams.delivery.braze import BrazeFormat
from streams.delivery.customerio import CustomerIOFormat
from streams.delivery.memory import Memory
from streams.delivery.messages import Format, Message
from streams.delivery.outputs_file import Output
from streams.delivery.segment import SegmentFormat
from streams.delivery.sender import Sender, Undelivered
from streams.delivery.steps import Step, Told, reactivation_of, step_of_change, steps_of_consent
from streams.delivery.webhook import WebhookFormat
from streams.errors import EbbtideError
from streams.kafka.clients import new_consumer
from streams.kafka.log_writer import InputRecord, LogWriter, log_writer
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.redis_client import connect
from streams.state.store import StateStore
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clock_check import wall_clock_us
from streams.worker.reading.arrived import LOG_APPEND_TIME

log = logging.getLogger(__name__)

RECORDS_AT_ONCE: Final = 500
POLL_MS: Final = 200
READY_PAUSE_S: Final = 1.0
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 30.0
LONGEST_DELIVERY_MS: Final = 24 * 3_600_000
"""An endpoint may be away for so long before Kafka gives the partitions to another process."""
_FORMATS: Final[Mapping[str, Callable[[Output], Format]]] = {
    "segment": SegmentFormat,
    "webhook": WebhookFormat,
    "customerio": CustomerIOFormat,
    "braze": BrazeFormat,
}
_BEGINNINGS: Final = ("begun", "begun-triggers")
GRACE_S: Final = 5.0
"""For what is under way when a process is told to stop."""
_RETRIED: Final = (EbbtideError, KafkaError, RedisError, TimeoutError, OSError)


class Delivery:
    """One output. `stopping` ends it; with `ends`, so do the ends that its topics have at the start."""

    def __init__(self, settings: Settings, output: Output, model: Model, *, ends: bool = False) -> None:
        self.output = output
        self.stopping = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """`steps`, `messages`, `retries`, `dead letters`."""
        self._settings = settings
        self._model = model
        self._ends = ends
        self._group = f"{settings.joined}-out-{output.name}"
        self._format: Format = _FORMATS[output.kind](output)
        self._changes, self._consents = settings.topic("segment-changes"), settings.topic("consents")
        self._triggers = settings.topic("reactivation-triggers")
        self._redis = connect(settings)
        self._under_way: asyncio.Task[None] | None = None
        self._is_revoked = False
        self._has_begun = asyncio.Event()
        self._not_begun: Exception | None = None
        self._partitions: dict[int, tuple[StateStore, Memory, Mapping[str, int]]] = {}

    async def run(self) -> None:
        """Deliver until told to stop; after an error of Kafka's or Redis' all is begun anew, later and later.

        Raises:
            UsageError: The secret cannot be read.
        """
        self.output.secret()
        back_off_s = FIRST_BACK_OFF_S
        try:
            while not self.stopping.is_set():
                before = self.counts["steps"]
                try:
                    await self._until_stopped()
                    return
                except _RETRIED as error:
                    log.warning("output %s: %s; again in %.1f s", self.output.name, error, back_off_s)
                if self.counts["steps"] > before:
                    back_off_s = FIRST_BACK_OFF_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), back_off_s)
                back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)
        finally:
            await self._redis.aclose()

    async def _until_stopped(self) -> None:
        """Deliver; what is under way when it is told to stop has some seconds to end, and comes again next time."""
        running, stopped = asyncio.create_task(self._run()), asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await asyncio.wait({running}, timeout=GRACE_S)
            if running.done():
                running.result()
        finally:
            for task in (running, stopped):
                task.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)

    async def _run(self) -> None:
        self._partitions.clear()
        self._has_begun.clear()
        self._not_begun = None
        consumer: Any = new_consumer(
            self._settings,
            client_id=f"ebbtide-{self._group}",
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_interval_ms=LONGEST_DELIVERY_MS,
            # Of each topic the same partitions: a customer's consents and changes come to one process.
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        topics = [self._consents, self._changes]
        if self.output.reactivations:
            topics.append(self._triggers)
        consumer.subscribe(topics, listener=_Listener(self, consumer))
        try:
            await consumer.start()
            async with log_writer(self._settings) as letters, aiohttp.ClientSession() as session:
                sender = Sender(self.output, self._format, session)
                await self._deliver_all(consumer, sender, letters)
        finally:
            await stop_within(STOP_TIMEOUT_S, consumer)

    async def _deliver_all(self, consumer: Any, sender: Sender, letters: LogWriter) -> None:
        end: dict[TopicPartition, int] | None = None
        while not self.stopping.is_set():
            if self._not_begun is not None:
                raise self._not_begun
            if not self._has_begun.is_set():
                # aiokafka hands out records while the listener is still at work.
                await asyncio.sleep(POLL_MS / 1_000)
                continue
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_AT_ONCE)
            if not fetched:
                if self._ends and consumer.assignment():
                    end = end or await consumer.end_offsets(list(consumer.assignment()))
                    positions = [await consumer.position(tp) for tp in end]
                    if all(at >= last for at, last in zip(positions, end.values(), strict=True)):
                        return
                continue
            by_partition: dict[int, list[ConsumerRecord]] = {}
            # Consents first: who withdraws at the same time is told nothing more.
            for tp in sorted(fetched, key=lambda tp: (tp.topic != self._consents, tp.partition)):
                by_partition.setdefault(tp.partition, []).extend(fetched[tp])
            self._under_way = asyncio.create_task(self._deliver_each(sender, letters, by_partition))
            try:
                await self._under_way
            except asyncio.CancelledError:
                if not self._is_revoked:
                    raise
                self._is_revoked = False
                continue  # whoever has the partitions now begins where offsets were committed last
            finally:
                self._under_way.cancel()
                self._under_way = None
                self.counts["messages"] += sender.delivered
                self.counts["retries"] += sender.retries
                sender.delivered = sender.retries = 0
            await consumer.commit(
                {tp: OffsetAndMetadata(records[-1].offset + 1, "") for tp, records in fetched.items()}
            )

    async def _deliver_each(
        self, sender: Sender, letters: LogWriter, by_partition: Mapping[int, Sequence[ConsumerRecord]]
    ) -> None:
        """All partitions side by side; the error of one ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                for partition, records in by_partition.items():
                    group.create_task(self._deliver(sender, letters, partition, records))
        except* _RETRIED as errors:
            raise errors.exceptions[0] from None

    async def give_up(self) -> None:
        """End the deliveries under way, whose partitions may be another's from now on."""
        self._has_begun.clear()
        if self._under_way is not None and not self._under_way.done():
            self._is_revoked = True
            self._under_way.cancel()
            await asyncio.wait({self._under_way})

    async def begin(self, consumer: Any, assigned: Collection[TopicPartition]) -> None:
        """Note, before anything is read, from where on what comes is new to the output.

        aiokafka only logs what a listener raises: the error is kept, and the loop meets it.
        """
        try:
            for partition in sorted({tp.partition for tp in assigned}):
                await self._begin(consumer, partition)
        except Exception as error:
            self._not_begun = error
            return
        self._has_begun.set()

    async def _deliver(
        self,
        sender: Sender,
        letters: LogWriter,
        partition: int,
        records: Sequence[ConsumerRecord],
    ) -> None:
        """Deliver what some records of one partition mean, and keep what has been told then."""
        store, memory, begun = self._partitions[partition]
        await self._until_usable(store, partition, records)
        read = [(record, said) for record in records if (said := self._read(record)) is not None]
        ids = list(dict.fromkeys(_customer_of(what) for _, what in read))
        told, customers = await memory.told(ids), await store.load(ids) if ids else {}
        before = dict(told)
        day = day_of(wall_clock_us())
        steps: list[Step] = []
        messages: list[Message] = []
        records_of: dict[str, ConsumerRecord] = {}
        for record, what in read:
            customer_id = _customer_of(what)
            known: Customer | None = customers[customer_id]
            if known is not None and not known.is_known:
                known = None
            is_old = record.offset < begun.get(record.topic, 0)
            own, found = told[customer_id], list[Step]()
            if isinstance(what, Consent):
                at = format_time(what.occurred_at_us)
                found, told[customer_id] = steps_of_consent(self.output, what, at, known, own, day)
            elif record.topic == self._changes:
                change = cast("ChangeDocument", what)
                step, told[customer_id] = step_of_change(self.output, change, known, own, day, is_old=is_old)
                found = [] if step is None else [step]
            elif not is_old:
                due = reactivation_of(self.output, cast("TriggerDocument", what), known, own, day)
                if due is not None:
                    messages.append(self._format.reactivation(due))
                    records_of[due.trigger_id] = record
            for step in found:
                messages += self._format.messages(step)
                records_of[step.step_id] = record
            steps += found
        given_up = await sender.send(messages) if messages else []
        if given_up:
            take_back(told, before, steps, messages, given_up)
        await self._write_letters(letters, given_up, records_of)
        await memory.keep({one: own for one, own in told.items() if own != before[one]})
        self.counts["steps"] += len(records_of)
        self.counts["dead letters"] += len(given_up)

    async def _begin(self, consumer: Any, partition: int) -> None:
        keys = PartitionKeys.of(self._settings, partition)
        store = StateStore(self._redis, keys, self._model, self._settings.erasure_keys)
        memory = Memory(self._redis, store, self.output.name)
        tps = [TopicPartition(topic, partition) for topic in (self._changes, self._triggers)]
        ends = await consumer.end_offsets(tps)
        begun = {
            tp.topic: await memory.begun(name, ends[tp]) for name, tp in zip(_BEGINNINGS, tps, strict=True)
        }
        self._partitions[partition] = (store, memory, begun)

    async def _until_usable(
        self, store: StateStore, partition: int, records: Sequence[ConsumerRecord]
    ) -> None:
        """Wait while Redis is being restored; of changes, also where it holds nothing of the partition."""
        has_changes = any(record.topic != self._consents for record in records)
        while True:
            stored = await store.stored_checkpoint()
            if stored is None and not has_changes:
                return
            if stored is not None and not stored.is_restoring:
                return
            log.info("output %s: Redis lacks partition %d; waiting", self.output.name, partition)
            await asyncio.sleep(READY_PAUSE_S)

    def _read(self, record: ConsumerRecord) -> Consent | ChangeDocument | TriggerDocument | None:
        """What a record says, if it is of interest."""
        if record.value is None:
            return None
        if record.topic != self._consents:
            document: ChangeDocument | TriggerDocument = orjson.loads(record.value)
            return document
        event = decode("consents", record.value, record.key)
        if not isinstance(event, Consent):
            return None
        is_stamped = record.timestamp_type == LOG_APPEND_TIME
        if is_stamped and check_time(event, record.timestamp * 1_000) is not None:
            return None  # the worker refuses it
        is_ours = event.kind == "erasure" or event.purpose == self.output.purpose
        return event if is_ours else None

    async def _write_letters(
        self, letters: LogWriter, given_up: Sequence[Undelivered], records: Mapping[str, ConsumerRecord]
    ) -> None:
        made = [self._letter(message, why, records[message.step_id]) for message, why in given_up]
        if not made:
            return
        for message, why in given_up:
            log.error("output %s: %s is a dead letter now: %s", self.output.name, message.message_id, why)
        answers = await letters.send(made)
        if failed := next((answer for answer in answers if isinstance(answer, KafkaError)), None):
            raise failed

    def _letter(self, message: Message, why: str, record: ConsumerRecord) -> InputRecord:
        refused = rejection(UNDELIVERED, (), f"output {self.output.name}: {why}")
        said = headers(refused, record.topic, record.partition, record.offset)
        letter = OutputRecord("dead-letters", message.customer_id.encode(), message.body, tuple(said))
        name = self._settings.topic(letter.topic)
        return InputRecord(name, record.partition, letter.key, letter.value, letter.headers)


def _customer_of(what: Consent | ChangeDocument | TriggerDocument) -> str:
    return what.customer_id if isinstance(what, Consent) else what["customer_id"]


def take_back(
    told: dict[str, Told],
    before: Mapping[str, Told],
    steps: Sequence[Step],
    messages: Sequence[Message],
    given_up: Sequence[Undelivered],
) -> None:
    """Of what was given up, nothing has been told: where its customers are by what did arrive.

    A step has a message with its own id, or, where it only leads out, one whose id ends in `-exit`; those of events do
    not count.
    """
    sent = {message.message_id for message in messages}
    lost = {undelivered.message.message_id for undelivered in given_up}
    at: dict[tuple[str, str], str | None] = {}
    for step in steps:
        place, exit_id = (step.customer_id, step.dimension), f"{step.step_id}-exit"
        known = at.get(place, before[step.customer_id].standing.get(step.dimension))
        has_left = exit_id in sent and exit_id not in lost
        is_there = step.step_id in sent and step.step_id not in lost
        at[place] = step.current if is_there else None if has_left else known
    for (customer_id, dimension), standing in at.items():
        own = told[customer_id]
        standings = {**own.standing, dimension: standing}
        told[customer_id] = own.with_(
            standing={name: value for name, value in standings.items() if value is not None}
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka carries no types
    """Ends deliveries before their partitions are another's, and notes where a topic begins to be new."""

    def __init__(self, delivery: Delivery, consumer: Any) -> None:
        self._delivery = delivery
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._delivery.give_up()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._delivery.begin(self._consumer, assigned)


async def deliver(
    settings: Settings, outputs: Sequence[Output], stopping: asyncio.Event, *, ends: bool = False
) -> list[Delivery]:
    """Run all outputs side by side until `stopping`; gives what each of them did.

    Raises:
        EbbtideError: A secret cannot be read, or the model cannot.
    """
    model = settings.load_model()
    deliveries = [Delivery(settings, output, model, ends=ends) for output in outputs]

    async def stop() -> None:
        await stopping.wait()
        for delivery in deliveries:
            delivery.stopping.set()

    waiting = asyncio.create_task(stop())
    try:
        async with asyncio.TaskGroup() as group:
            for delivery in deliveries:
                group.create_task(delivery.run())
    except* EbbtideError as errors:
        raise errors.exceptions[0] from None
    finally:
        waiting.cancel()
    return deliveries
