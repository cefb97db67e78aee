"""The clients of Kafka and Redis that a worker uses, as small interfaces: the real ones here, or a simulation's.

Only what is named here may be asked of a client on the way from a record to a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata
from redis.asyncio import Redis

from enrichment.acceptance import TOPICS, Topic
from streams.deadlines import within
from streams.errors import EbbtideError, one_line
from streams.fetching import ExaminingConsumer
from streams.kafka_access import require_access, why_refused
from streams.kafka_connection import aiokafka_settings, kafka_python_settings
from streams.settings import Settings
from streams.topics import DECISIONS, INPUTS, TopicReport, check_topics, topic_ids
from streams.transactions import hasten_beginnings, refuse_repeats

OFFSETS_TIMEOUT_MS = 20_000
OFFSETS_LOOKS = 5
"""How often offsets are asked for until those of all inputs are of one commit."""
THREAD_TIMEOUT_S = 120.0
"""How long is waited for a thread of kafka-python, which outlives this."""

CommittedOffsets = Mapping[Topic, OffsetAndMetadata | None]
"""What a group has committed for one partition of each input; None where it has committed nothing."""


class Consumer(Protocol):
    """What is used of `aiokafka.AIOKafkaConsumer`, which says what each method does and raises.

    `getmany` raises `streams.fetching.UnreadableError` too, where the next batch cannot be read.
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
    ) -> dict[TopicPartition, list[ConsumerRecord]]: ...
    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def high_watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    # Asked after each fetch: whether it came to the end.
    def highwater(self, partition: TopicPartition) -> int | None: ...
    def last_stable_offset(self, partition: TopicPartition) -> int | None: ...


class Producer(Protocol):
    """What is used of `aiokafka.AIOKafkaProducer`, which says what each method does and raises."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create_batch(self) -> Any: ...
    async def send(self, topic: str, *, partition: int, **record: Any) -> Awaitable[Any]: ...
    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Awaitable[Any]: ...
    async def begin_transaction(self) -> None: ...
    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None: ...
    async def commit_transaction(self) -> None: ...
    async def abort_transaction(self) -> None: ...


class RedisClient(Protocol):
    """What is used of `redis.asyncio.Redis`, without `decode_responses`."""

    def register_script(self, script: str) -> Any: ...
    def time(self) -> Awaitable[Any]: ...
    def execute_command(self, *command: Any) -> Awaitable[Any]: ...
    def hgetall(self, name: str) -> Awaitable[Any]: ...
    def zrange(self, name: str, start: int, end: int) -> Awaitable[Any]: ...
    def scan_iter(self, match: str, count: int) -> AsyncIterator[Any]: ...
    def aclose(self) -> Awaitable[Any]: ...

    # Asked at a scrape of the metrics only.
    def zcount(self, name: str, min: float | str, max: float | str) -> Awaitable[Any]: ...


class Clients(Protocol):
    """How one worker reaches Kafka and Redis."""

    @property
    def redis(self) -> RedisClient:
        """The one Redis client of the worker."""

    def consumer(self, **settings: Any) -> Consumer:
        """A new consumer, not started; `settings` are aiokafka's."""

    def producer(self, **settings: Any) -> Producer:
        """A new producer, not started; `settings` are aiokafka's."""

    async def committed_offsets(self, partition: int) -> CommittedOffsets:
        """The group's committed offsets of a partition, once no transaction on them is pending."""

    async def check_topics(self) -> TopicReport:
        """Whether the topics are as they must be, and how large their records may be."""

    async def topic_ids(self) -> Mapping[str, str]:
        """The ids of inputs and decisions, by their names without prefix, as far as they are known."""


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

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            sender = self._sender.sender_task
            if sender is not None:
                sender.cancel()
            await self.client.close()


class RealClients:
    """aiokafka's, redis-py's, and kafka-python's where it alone can ask for stable offsets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.redis: RedisClient = Redis.from_url(settings.redis_url)

    def consumer(self, **settings: Any) -> Consumer:
        """A consumer of the brokers that are set."""
        made = _Consumer(
            limit_bytes=self._settings.decompressed_max_bytes, **aiokafka_settings(self._settings), **settings
        )
        made.settings = self._settings
        consumer: Consumer = made
        return consumer

    def producer(self, **settings: Any) -> Producer:
        """A producer to the brokers that are set."""
        made = _Producer(**aiokafka_settings(self._settings), **settings)
        made.settings = self._settings
        refuse_repeats(made)
        hasten_beginnings(made)
        producer: Producer = made
        return producer

    async def committed_offsets(self, partition: int) -> CommittedOffsets:
        """The stable offsets, asked for in a thread."""
        async with within(THREAD_TIMEOUT_S, "the committed offsets"):
            return await asyncio.to_thread(read_committed_offsets, self._settings, partition)

    async def check_topics(self) -> TopicReport:
        """The topics of the brokers that are set, asked for in a thread."""
        async with within(THREAD_TIMEOUT_S, "the topics"):
            return await asyncio.to_thread(check_topics, self._settings)

    async def topic_ids(self) -> Mapping[str, str]:
        """Those of the brokers that are set, asked for in a thread."""
        async with within(THREAD_TIMEOUT_S, "the topics' ids"):
            return await asyncio.to_thread(topic_ids, self._settings, (*INPUTS, DECISIONS))


def read_committed_offsets(settings: Settings, partition: int) -> CommittedOffsets:
    """A group's committed offsets of a partition, once no transaction on them is pending.

    By kafka-python, which asks for stable offsets, one partition at a time: while a worker commits, the answers may be
    of two steps, and are asked for again. Raises `EbbtideError` where Kafka does not say, or does not let us in.
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
                found: dict[Topic, OffsetAndMetadata | None] = {
                    topic: consumer.committed(
                        KafkaTopicPartition(settings.topic(topic), partition),
                        metadata=True,
                        timeout_ms=OFFSETS_TIMEOUT_MS,
                    )
                    for topic in TOPICS
                }
                if len({None if offset is None else offset.metadata for offset in found.values()}) == 1:
                    break
            return found
    except KafkaError as error:
        raise EbbtideError(f"the committed offsets cannot be read: {one_line(error)}") from error
