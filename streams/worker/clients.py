"""The clients of Kafka and Redis that a worker uses, as small interfaces: the real ones here, or a simulation's.

Only what is named here may be asked of a client on the way from a record to a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from schemas.topics import CHANGELOG
from streams.kafka.clients import (
    CommittedOffsets,
    Consumer,
    Producer,
    new_consumer,
    new_producer,
    read_committed_offsets,
)
from streams.kafka.topics import INPUTS, TopicReport, check_topics, topic_ids
from streams.settings import Settings
from streams.state.redis_client import RedisClient, connect
from streams.timeouts import within

THREAD_TIMEOUT_S = 120.0
"""How long is waited for a thread of kafka-python, which outlives this."""


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


class RealClients:
    """aiokafka's, redis-py's, and kafka-python's where it alone can ask for stable offsets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.redis: RedisClient = connect(settings)

    def consumer(self, **settings: Any) -> Consumer:
        """A consumer of the brokers that are set."""
        return new_consumer(self._settings, **settings)

    def producer(self, **settings: Any) -> Producer:
        """A producer to the brokers that are set."""
        return new_producer(self._settings, **settings)

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
            return await asyncio.to_thread(topic_ids, self._settings, (*INPUTS, CHANGELOG))
