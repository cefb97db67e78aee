"""Publishing a micro-batch, by either processing guarantee.

Exactly-once: one Kafka transaction of the partition's own transactional id holds a batch's output records and the input
offsets that they come from. At-least-once: the records alone; Redis knows the offsets, and a batch is published again
after a crash.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Any

from aiokafka.errors import TransactionalIdAuthorizationFailed

from streams.checkpoint import Checkpoint
from streams.kafka.clients import Producer
from streams.kafka.committed_checkpoint import offsets_with_checkpoint
from streams.kafka.transactional_ids import transactional_id, transactional_id_0_1
from streams.outbox import BATCH_BYTES, Outbox, OutputRecord, WrittenOutbox, WrittenRecords
from streams.settings import Settings
from streams.state.changelog import TOPIC as DECISIONS
from streams.timeouts import stop_within, within
from streams.worker.clients import Clients
from streams.worker.reading.arrived import LOG_APPEND_TIME

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_TRANSACTION_S = 900.0
"""Brokers refuse longer ones by default."""
OPEN_TIMEOUT_S = 60.0
"""How long the brokers may take to settle what the last owner left open; aiokafka itself would ask for ever."""


class Publisher(ABC):
    """Publishes the micro-batches of one partition, one after the other."""

    def __init__(self, settings: Settings, clients: Clients, partition: int, timeout_s: float) -> None:
        self.settings = settings
        self.partition = partition
        self.timeout_s = timeout_s
        self._clients = clients
        self._producer: Producer = clients.producer(**self._producer_settings())

    @abstractmethod
    async def open(self) -> None:
        """Connect; for transactions, also fence whoever published for this partition before."""

    @abstractmethod
    async def fence_0_1(self) -> None:
        """Fence a worker of Ebbtide 0.1 too, where its transactional id was another."""

    @abstractmethod
    async def publish(self, records: Outbox, checkpoint: Checkpoint) -> None:
        """Publish a micro-batch and where it ends; on any error the publisher is of no more use."""

    @abstractmethod
    async def confirm(self) -> None:
        """Raise whatever a publication would raise if another owner has fenced this one."""

    async def broker_time_us(self) -> int | None:
        """The broker's time between call and answer; None where it does not tell."""
        return None

    async def close(self) -> None:
        """Let go of the connection; what was not committed is aborted by the next owner's `open`.

        aiokafka flushes first, which without Kafka would take for ever.
        """
        await stop_within(self.timeout_s, self._producer)

    def _producer_settings(self) -> dict[str, Any]:
        return {
            "client_id": f"ebbtide-{self.settings.group_id}-{self.partition}",
            "acks": "all",
            "max_batch_size": BATCH_BYTES,
            "max_request_size": MAX_REQUEST_BYTES,
            "request_timeout_ms": int(self.timeout_s * 1_000),
        }

    async def _send(self, records: Outbox) -> None:
        """Send all records to this partition of their topics, and wait until Kafka has each of them.

        Order holds within a topic. A batch whose outcome nobody awaited would be lost without a word.
        """
        if isinstance(records, WrittenOutbox):
            written: dict[str, list[WrittenRecords]] = {}
            for batch in records.batches:
                written.setdefault(batch.topic, []).append(batch)
            await asyncio.gather(*(self._send_written(topic, own) for topic, own in written.items()))
            return
        by_topic: dict[str, list[OutputRecord]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        await asyncio.gather(*(self._send_topic(topic, batch) for topic, batch in by_topic.items()))

    async def _send_written(self, topic: str, batches: list[WrittenRecords]) -> None:
        name, producer = self.settings.topic(topic), self._producer
        sent = []
        for _, count, records in batches:
            batch = producer.written_batch(records, count)
            sent.append(await producer.send_batch(batch, name, partition=self.partition))
        await asyncio.gather(*sent)

    async def _send_topic(self, topic: str, records: list[OutputRecord]) -> None:
        name = self.settings.topic(topic)
        sent: list[Any] = []
        batch: Any = None
        for record in records:
            if batch is not None:
                if _append(batch, record) is not None:
                    continue
                sent.append(await self._producer.send_batch(batch, name, partition=self.partition))
            batch = None
            if record.size_bytes <= BATCH_BYTES:
                batch = self._producer.create_batch()
                _append(batch, record)
            else:
                arguments = {"key": record.key, "value": record.value, "headers": list(record.headers)}
                sent.append(await self._producer.send(name, partition=self.partition, **arguments))
        if batch is not None:
            sent.append(await self._producer.send_batch(batch, name, partition=self.partition))
        await asyncio.gather(*sent)


def _append(batch: Any, record: OutputRecord) -> Any:
    """What the batch says of the record; None if it does not fit in."""
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))


class TransactionalPublisher(Publisher):
    """Exactly-once: a micro-batch's records and offsets become visible together or not at all."""

    def _producer_settings(self) -> dict[str, Any]:
        return {
            **super()._producer_settings(),
            "transactional_id": transactional_id(self.settings, self.partition),
            "transaction_timeout_ms": int(min(max(60.0, 2 * self.timeout_s), MAX_TRANSACTION_S) * 1_000),
        }

    async def open(self) -> None:
        """Connect, and fence: aiokafka asks for its producer id at the start of its first transaction."""
        await self._settle(self._producer)

    async def fence_0_1(self) -> None:
        """By a producer of its own, which asks for the id and is of no more use.

        An account without a right on that id has no worker of 0.1, which would need it.
        """
        if self.settings.joined_by_0_1 == self.settings.joined:
            return
        id_0_1 = transactional_id_0_1(self.settings, self.partition)
        producer = self._clients.producer(**{**self._producer_settings(), "transactional_id": id_0_1})
        try:
            await self._settle(producer)
        except TransactionalIdAuthorizationFailed:
            log.info("partition %d: no right on %s, so nothing to fence there", self.partition, id_0_1)
        finally:
            await stop_within(self.timeout_s, producer)

    async def _settle(self, producer: Producer) -> None:
        async with within(max(OPEN_TIMEOUT_S, self.timeout_s), "a producer id from Kafka"):
            await producer.start()
            await producer.begin_transaction()
            await producer.abort_transaction()

    async def publish(self, records: Outbox, checkpoint: Checkpoint) -> None:
        """One transaction.

        1. Begin.
        2. Send the records, and wait for each.
        3. Add the offsets, with the checkpoint as their metadata.
        4. Commit.
        """
        async with asyncio.timeout(self.timeout_s):
            await self._producer.begin_transaction()
            await self._send(records)
            await self._producer.send_offsets_to_transaction(
                offsets_with_checkpoint(self.settings, self.partition, checkpoint), self.settings.group_id
            )
            await self._producer.commit_transaction()

    async def broker_time_us(self) -> int | None:
        """The stamp of a record in a transaction that is then aborted; None where the topic has the producer's time."""
        stamped = await self._send_in_vain()
        if stamped is None or stamped.timestamp_type != LOG_APPEND_TIME:
            return None
        return int(stamped.timestamp) * 1_000

    async def confirm(self) -> None:
        """By a record in a transaction that is then aborted."""
        await self._send_in_vain()

    async def _send_in_vain(self) -> Any:
        """What the broker says of a record that nobody will see."""
        async with asyncio.timeout(self.timeout_s):
            await self._producer.begin_transaction()
            name = self.settings.topic(DECISIONS)
            sent = await self._producer.send(name, partition=self.partition, key=b"in vain", value=None)
            said = await sent
            await self._producer.abort_transaction()
            return said


class AtLeastOncePublisher(Publisher):
    """At-least-once: after a crash the last batch may be published again; consumers drop repeats by `change_id`."""

    async def open(self) -> None:
        """Connect; there is nobody to fence but through Redis."""
        async with within(max(OPEN_TIMEOUT_S, self.timeout_s), "a connection to Kafka"):
            await self._producer.start()

    async def fence_0_1(self) -> None:
        """Do nothing: without transactions Kafka fences nobody."""

    async def confirm(self) -> None:
        """Do nothing: without transactions Kafka fences nobody."""

    async def publish(self, records: Outbox, checkpoint: Checkpoint) -> None:
        """Send, and wait for each record."""
        async with asyncio.timeout(self.timeout_s):
            await self._send(records)


def make_publisher(settings: Settings, clients: Clients, partition: int, timeout_s: float) -> Publisher:
    """The publisher of the processing guarantee that is set; `timeout_s` bounds each publication."""
    if settings.processing_guarantee == "exactly_once":
        return TransactionalPublisher(settings, clients, partition, timeout_s)
    return AtLeastOncePublisher(settings, clients, partition, timeout_s)
