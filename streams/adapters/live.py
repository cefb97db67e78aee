"""`ebbtide convert --topic`: another system's topic to our inputs, as its events come.

Each partition of the source has a producer of its own. One Kafka transaction holds the records made of some events, the
dead letters of others, and the offset that they lead to. The next owner of a partition begins a transaction under the
same transactional id, which fences the last one and settles what it left open; only then does it ask for the offset. So
every event is converted once, whoever dies when. Without transactions an event may be converted again after a crash:
its records have the same event ids, and the worker drops them as repeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from schemas.dead_letters import headers
from schemas.rejection import MALFORMED, Rejection, rejection
from streams.adapters.conversion import Conversion
from streams.adapters.converter import Converter, Outcome
from streams.adapters.documents import parsed
from streams.console.progress import Report
from streams.errors import EbbtideError
from streams.kafka.admin import admin_client
from streams.kafka.clients import Producer, new_consumer, new_producer
from streams.kafka.log_writer import InputRecord
from streams.kafka.size_limits import SizeLimits
from streams.kafka.topics import INPUT_MAX_MESSAGE_BYTES, check_topics
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.timeouts import STOP_TIMEOUT_S, stop_within

log = logging.getLogger(__name__)

SOURCE_HEADER: Final = "ebbtide_source"
"""On each record: topic, partition and offset of the event that it was made of."""
EVENTS_AT_ONCE: Final = 500
MAX_REQUEST_BYTES: Final = 2 * INPUT_MAX_MESSAGE_BYTES
POLL_MS: Final = 200
STEP_TIMEOUT_S: Final = 30.0
FIRST_BACK_OFF_S, LONGEST_BACK_OFF_S = 0.2, 10.0
_BINARY_PREFIX: Final = "ce_"


class LiveConversion:
    """Converts the partitions of a source topic that its consumer group assigns to this process.

    The group is `<group>-<mapping>`, with a topic prefix `<prefix>:<group>-<mapping>`: several processes share the
    partitions of a topic. `ends` stops at the ends that the partitions have at the start.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        converter: Converter,
        *,
        ends: bool = False,
        report: Report | None = None,
    ) -> None:
        self.conversion = Conversion()
        self.stopping = asyncio.Event()
        self._settings = settings
        self._topic = topic
        self._converter = converter
        self._ends = ends
        self._report = report
        self._group = f"{settings.joined}-{converter.mapping.name}"
        self._is_exact = settings.processing_guarantee == "exactly_once"
        self._producers: dict[TopicPartition, Producer] = {}
        self._next: dict[TopicPartition, int] = {}
        self._taken_over = asyncio.Event()
        self._not_taken_over: Exception | None = None
        self._in_hand = asyncio.Lock()
        self._limits = SizeLimits({})
        self._end: dict[TopicPartition, int] | None = None

    async def run(self) -> None:
        """Convert until `stopping` is set; after an error of Kafka's all is begun anew, later and later.

        Raises:
            EbbtideError: There is no such topic, or a batch of it cannot be read.
        """
        # Before the group is joined, which takes a client of Kafka 40 s to give up for a topic that is not there.
        if self._topic not in await asyncio.to_thread(_topics, self._settings):
            raise EbbtideError(f"there is no topic {self._topic}, or our account may not see it")
        back_off_s = FIRST_BACK_OFF_S
        while not self.stopping.is_set():
            before = self.conversion.events
            try:
                await self._convert()
                return
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("%s: %s; again in %.1f s", self._topic, error, back_off_s)
            if self.conversion.events > before:
                back_off_s = FIRST_BACK_OFF_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), back_off_s)
            back_off_s = min(2 * back_off_s, LONGEST_BACK_OFF_S)

    async def _convert(self) -> None:
        self._not_taken_over = None
        consumer: Any = new_consumer(
            self._settings,
            client_id=f"ebbtide-{self._group}",
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        consumer.subscribe([self._topic], listener=_Listener(self, consumer))
        try:
            await consumer.start()
            topics = await asyncio.to_thread(check_topics, self._settings)
            self._limits = SizeLimits({one.definition.name: one.max_message_bytes for one in topics.topics})
            if self._ends and self._end is None:
                partitions = sorted(consumer.partitions_for_topic(self._topic) or ())
                places = [TopicPartition(self._topic, partition) for partition in partitions]
                self._end = await consumer.end_offsets(places)
            while not self.stopping.is_set():
                if self._not_taken_over is not None:
                    raise self._not_taken_over
                if not self._taken_over.is_set():
                    await asyncio.sleep(POLL_MS / 1_000)
                    continue
                if await self._is_through(consumer):
                    return
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=EVENTS_AT_ONCE)
                if not fetched:
                    await self._note_positions(consumer)
                for tp, records in fetched.items():
                    async with self._in_hand:
                        await self._step(consumer, tp, records)
        finally:
            await self.let_go()
            await stop_within(STOP_TIMEOUT_S, consumer)

    async def take_over(self, consumer: Any, assigned: Collection[TopicPartition]) -> None:
        """Fence whoever had these partitions, and begin where they have come to.

        aiokafka only logs what a listener raises: the error is kept, and `run` meets it.
        """
        await self.let_go()
        try:
            for tp in assigned:
                await self._take_over(consumer, tp)
        except Exception as error:
            self._not_taken_over = error
            return
        self._taken_over.set()

    async def _take_over(self, consumer: Any, tp: TopicPartition) -> None:
        more: dict[str, Any] = {}
        if self._is_exact:
            more["transactional_id"] = f"ebbtide-{self._group}-{tp.topic}-{tp.partition}"
        producer = new_producer(
            self._settings,
            client_id=f"ebbtide-{self._group}-{tp.partition}",
            acks="all",
            max_request_size=MAX_REQUEST_BYTES,
            **more,
        )
        self._producers[tp] = producer
        async with asyncio.timeout(STEP_TIMEOUT_S):
            await producer.start()
            if self._is_exact:
                await producer.begin_transaction()
                await producer.abort_transaction()
        committed = await consumer.committed(tp)
        if committed is None:
            committed = (await consumer.beginning_offsets([tp]))[tp]
        consumer.seek(tp, committed)
        self._next[tp] = committed

    async def let_go(self) -> None:
        """Publish nothing more for any partition, once the step in hand has ended."""
        self._taken_over.clear()
        async with self._in_hand:
            for producer in self._producers.values():
                await stop_within(STOP_TIMEOUT_S, producer)
            self._producers.clear()

    async def _is_through(self, consumer: Any) -> bool:
        """Whether everything up to the ends that were asked for has been converted, by us or by others of the group.

        A process that died holds its partitions until the group notices: they are ours then.
        """
        if self._end is None:
            return False
        for tp, end in self._end.items():
            if tp in self._producers:
                reached = await consumer.position(tp)
            else:
                reached = await consumer.committed(tp) or 0
            if reached < end:
                return False
        return True

    async def _step(self, consumer: Any, tp: TopicPartition, fetched: Sequence[ConsumerRecord]) -> None:
        """Convert some events of one partition, and publish what they make together with the offset after them.

        What was fetched before the partition was revoked may come once more after it was assigned again.
        """
        producer = self._producers.get(tp)
        records = [record for record in fetched if record.offset >= self._next.get(tp, 0)]
        if producer is None or not records:
            return
        made: list[InputRecord] = []
        told = Conversion()
        for record in records:
            made += self._records_of(record, told)
        after = {tp: OffsetAndMetadata(records[-1].offset + 1, "")}
        await self._publish(consumer, producer, made, after)
        self._next[tp] = records[-1].offset + 1
        self.conversion.add(told)
        if self._report is not None:
            self._report(self.conversion.events, 0)

    async def _publish(
        self,
        consumer: Any,
        producer: Producer,
        made: Sequence[InputRecord],
        after: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """Records and the offset after the events that they were made of, together."""
        async with asyncio.timeout(STEP_TIMEOUT_S):
            if self._is_exact:
                await producer.begin_transaction()
            arguments = [{**one._asdict(), "headers": list(one.headers)} for one in made]
            await asyncio.gather(*[await producer.send(**each) for each in arguments])
            if self._is_exact:
                await producer.send_offsets_to_transaction(after, self._group)
                await producer.commit_transaction()
            else:
                await consumer.commit(after)

    async def _note_positions(self, consumer: Any) -> None:
        """Commit how far each partition has come, where markers of transactions lie behind its last event."""
        for tp, producer in list(self._producers.items()):
            position = await consumer.position(tp)
            if position <= self._next[tp] or not self._taken_over.is_set():
                continue
            async with self._in_hand:
                if self._producers.get(tp) is producer:
                    await self._publish(consumer, producer, [], {tp: OffsetAndMetadata(position, "")})
                    self._next[tp] = position

    def _records_of(self, record: ConsumerRecord, told: Conversion) -> list[InputRecord]:
        """What is to be sent for one record of the source; counted in `told`."""
        made: list[InputRecord] = []
        source = (SOURCE_HEADER, f"{record.topic}-{record.partition}-{record.offset}".encode())
        for outcome in self._outcomes(record):
            told.events += 1
            for one in outcome.made:
                told.records[one.topic] += 1
                key = str(one.record["customer_id"]).encode()
                made.append(InputRecord(self._settings.topic(one.topic), None, key, one.value, (source,)))
            if outcome.ignored is not None:
                told.ignored[outcome.ignored] += 1
            for why in outcome.unmapped:
                told.dead_letters += 1
                made.append(self._dead_letter(record, Rejection(why.reason, why.message)))
        return made

    def _dead_letter(self, record: ConsumerRecord, refused: Rejection) -> InputRecord:
        """As the worker writes them: the event's bytes, as far as they fit, and the reason in headers."""
        told = headers(refused, record.topic, record.partition, record.offset)
        letter = self._limits.fitted(OutputRecord("dead-letters", record.key, record.value, tuple(told)))
        return InputRecord(self._settings.topic(letter.topic), None, letter.key, letter.value, letter.headers)

    def _outcomes(self, record: ConsumerRecord) -> list[Outcome]:
        """What becomes of each event of a record; a tombstone is none."""
        if record.value is None:
            return [Outcome("", ignored="(no value)")]
        try:
            document = parsed(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [self._converter.unreadable(rejection(MALFORMED, (), f"not JSON: {error}"))]
        return list(self._converter.convert(self._in_binary_mode(record.headers, document)))

    def _in_binary_mode(self, headers_: Sequence[tuple[str, bytes]], document: Any) -> Any:
        """A CloudEvent whose attributes are in the record's headers, as the mapping reads it."""
        attributes: Mapping[str, str] = {
            name: value.decode("utf-8", "replace")
            for name, value in headers_
            if name.startswith(_BINARY_PREFIX)
        }
        if not attributes or self._converter.mapping.name != "cloudevents":
            return document
        return {"headers": attributes, "data": document}


def _topics(settings: Settings) -> Collection[str]:
    with admin_client(settings) as admin:
        names: list[str] = admin.list_topics()
        return names


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka carries no types
    """Takes over what is assigned before anything of it is fetched."""

    def __init__(self, conversion: LiveConversion, consumer: Any) -> None:
        self._conversion = conversion
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._conversion.let_go()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._conversion.take_over(self._consumer, assigned)
