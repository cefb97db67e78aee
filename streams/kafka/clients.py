"""The one place that makes clients of Kafka: those of a worker as small interfaces, and simpler ones of commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from schemas.topics import INPUT_TOPICS, InputTopic
from streams.errors import EbbtideError, one_line
from streams.kafka.access import require_access, why_refused
from streams.kafka.connection import aiokafka_settings, kafka_python_settings
from streams.kafka.fetched_batch import ReadBatch
from streams.kafka.fetching import ExaminingConsumer
from streams.kafka.transactions import hasten_beginnings, refuse_repeats
from streams.kafka.written_batch import WrittenBatch
from streams.settings import Settings

OFFSETS_TIMEOUT_MS = 20_000
OFFSETS_LOOKS = 5
"""How often offsets are asked for until those of all inputs are of one commit."""

CommittedOffsets = Mapping[InputTopic, OffsetAndMetadata | None]
"""What a group has committed for one partition of each input; None where it has committed nothing."""


class Consumer(Protocol):
    """What is used of `aiokafka.AIOKafkaConsumer`, which says what each method does and raises.

    `getmany` gives records; after `give_batches` also `FetchedBatch`es, each of which stands for its records. It raises
    `streams.kafka.fetching.UnreadableError` too, where the next batch cannot be read.
    """

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def subscribe(self, topics: Sequence[str], *, listener: Any) -> None: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def position(self, partition: TopicPartition) -> int: ...
    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]: ...
    def give_batches(self, read: ReadBatch | None) -> None: ...
    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def high_watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    # Asked after each fetch: whether it came to the end.
    def highwater(self, partition: TopicPartition) -> int | None: ...
    def last_stable_offset(self, partition: TopicPartition) -> int | None: ...


class Producer(Protocol):
    """What is used of `aiokafka.AIOKafkaProducer`, which says what each method does and raises; and `written_batch`."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create_batch(self) -> Any: ...
    def written_batch(self, records: bytes, count: int) -> Any: ...
    async def send(self, topic: str, *, partition: int, **record: Any) -> Awaitable[Any]: ...
    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[Any]: ...
    async def begin_transaction(self) -> None: ...
    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None: ...
    async def commit_transaction(self) -> None: ...
    async def abort_transaction(self) -> None: ...


@asynccontextmanager
async def _telling_why(settings: Settings) -> AsyncIterator[None]:
    """Where a client only says that it reaches no broker, and they do answer: raise `EbbtideError` that says why."""
    try:
        yield
    except KafkaConnectionError as error:
        problem = await why_refused(settings)
        if problem is None:
            raise
        raise EbbtideError(problem) from error


class _Consumer(ExaminingConsumer):
    """Says why it is not let in."""

    settings: Settings

    async def start(self) -> None:
        async with _telling_why(self.settings):
            await super().start()


class _Producer(AIOKafkaProducer):  # type: ignore[misc]
    """The same, and also where `stop` is cancelled, since what it flushes first is not taken."""

    settings: Settings

    async def start(self) -> None:
        async with _telling_why(self.settings):
            await super().start()

    def written_batch(self, records: bytes, count: int) -> WrittenBatch:
        """A batch of records that are written already, for `send_batch`."""
        return WrittenBatch(records, count, is_transactional=self._txn_manager is not None)

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            sender = self._sender.sender_task
            if sender is not None:
                sender.cancel()
            await self.client.close()


def new_consumer(connection: Settings, **settings: Any) -> Consumer:
    """A consumer of the brokers that `connection` names, not started; `settings` are aiokafka's."""
    made = _Consumer(
        limit_bytes=connection.decompressed_max_bytes, **aiokafka_settings(connection), **settings
    )
    made.settings = connection
    consumer: Consumer = made
    return consumer


def new_producer(connection: Settings, **settings: Any) -> Producer:
    """A producer to the brokers that `connection` names, not started; `settings` are aiokafka's."""
    made = _Producer(**aiokafka_settings(connection), **settings)
    made.settings = connection
    refuse_repeats(made)
    hasten_beginnings(made)
    producer: Producer = made
    return producer


def new_reader(connection: Settings, *topics: str, **settings: Any) -> ExaminingConsumer:
    """A consumer for a command that reads topics by itself, not started; `settings` are aiokafka's."""
    return ExaminingConsumer(
        *topics,
        limit_bytes=connection.decompressed_max_bytes,
        **aiokafka_settings(connection),
        client_id=f"ebbtide-{connection.group_id}-reader",
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def new_writer(connection: Settings, **settings: Any) -> AIOKafkaProducer:
    """A producer for a command that writes by itself, not started; `settings` are aiokafka's."""
    return AIOKafkaProducer(**aiokafka_settings(connection), **settings)


def read_committed_offsets(settings: Settings, partition: int) -> CommittedOffsets:
    """A group's committed offsets of a partition, once no transaction on them is pending.

    By kafka-python, which asks for stable offsets, one partition at a time: while a worker commits, the answers may be
    of two batches, and are asked for again. Raises `EbbtideError` where Kafka does not say, or does not let us in.
    """
    from kafka import KafkaConsumer
    from kafka import TopicPartition as KafkaTopicPartition
    from kafka.errors import KafkaError

    require_access(settings)
    try:
        consumer = KafkaConsumer(
            **kafka_python_settings(settings),
            group_id=settings.group_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        with closing(consumer):
            for _ in range(OFFSETS_LOOKS):
                found: dict[InputTopic, OffsetAndMetadata | None] = {
                    topic: consumer.committed(
                        KafkaTopicPartition(settings.topic(topic), partition),
                        metadata=True,
                        timeout_ms=OFFSETS_TIMEOUT_MS,
                    )
                    for topic in INPUT_TOPICS
                }
                if len({None if offset is None else offset.metadata for offset in found.values()}) == 1:
                    break
            return found
    except KafkaError as error:
        raise EbbtideError(f"the committed offsets cannot be read: {one_line(error)}") from error
