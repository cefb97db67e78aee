"""What crashes and operators do to a worker: Redis that lost writes, offsets that are gone, a log cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from kafka import KafkaAdminClient, TopicPartition
from redis import Redis

from schemas.topics import OutputTopic
from streams.checkpoint import Checkpoint
from streams.kafka.size_limits import StoppedError
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.publisher import TransactionalPublisher

Snapshot = dict[bytes, bytes]


class PowerCutError(StoppedError):
    """An end after which nothing of the partition is done, closing apart: the only error that is not tried again."""


@contextmanager
def power_cut(
    batch: int | None = None, *, publishing: OutputTopic | None = None, sent: bool = False
) -> Iterator[None]:
    """Inside the block, workers end after micro-batch `batch` is persisted and before it is published.

    Or after the first batch that publishes to a topic. With `sent`, its records have reached Kafka, in a transaction
    that stays open.
    """
    publish = TransactionalPublisher.publish

    async def until_then(
        self: TransactionalPublisher, records: list[OutputRecord], checkpoint: Checkpoint
    ) -> None:
        if checkpoint.batch_id == batch or any(record.topic == publishing for record in records):
            if sent:
                await self._producer.begin_transaction()
                await self._send(records)
            raise PowerCutError
        await publish(self, records, checkpoint)

    async def close(self: TransactionalPublisher) -> None:
        """Nothing is ended in good order."""
        client: Any = self._producer
        client._sender._sender_task.cancel()
        await client.client.close()

    with (
        mock.patch.object(TransactionalPublisher, "publish", until_then),
        mock.patch.object(TransactionalPublisher, "confirm"),
    ):
        if not sent:
            yield
            return
        with mock.patch.object(TransactionalPublisher, "close", close):
            yield


def keys_of(redis: Redis, settings: Settings, partition: int = 0) -> list[bytes]:
    """All keys of a partition."""
    base = PartitionKeys.of(settings, partition).base
    return sorted(key for key in redis.scan_iter(f"{base}:*"))


def snapshot(redis: Redis, settings: Settings, partition: int = 0) -> Snapshot:
    """Everything that Redis holds of a partition."""
    return {key: _bytes(redis.dump(key)) for key in keys_of(redis, settings, partition)}


def restore(redis: Redis, settings: Settings, taken: Snapshot, partition: int = 0) -> None:
    """Make Redis hold that again and nothing else of the partition, as after a failover to a late replica."""
    empty(redis, settings, partition)
    for key, value in taken.items():
        redis.restore(key, 0, value)


def empty(redis: Redis, settings: Settings, partition: int = 0) -> None:
    """Make Redis lose a partition."""
    for key in keys_of(redis, settings, partition):
        redis.delete(key)


def _bytes(value: Any) -> bytes:
    assert isinstance(value, bytes)
    return value


@contextmanager
def admin(settings: Settings) -> Iterator[Any]:
    """A Kafka administrator."""
    client = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        yield client
    finally:
        client.close()


async def forget_offsets(settings: Settings) -> None:
    """What Kafka does with a group that nobody has been in for a week."""

    def forget() -> None:
        with admin(settings) as client:
            client.delete_groups([settings.group_id])

    await asyncio.to_thread(forget)


async def delete_records(settings: Settings, before: dict[str, int], partition: int = 0) -> None:
    """What retention does: records below an offset are gone, by topic without prefix."""

    def delete() -> None:
        with admin(settings) as client:
            client.delete_records(
                {TopicPartition(settings.topic(topic), partition): offset for topic, offset in before.items()}
            )

    await asyncio.to_thread(delete)
