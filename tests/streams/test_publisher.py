"""How a micro-batch's records are put into batches: on a producer that only notes what it is given."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiokafka.producer.message_accumulator import BatchBuilder

from streams.outbox import BATCH_BYTES, OutputRecord
from streams.settings import Settings
from streams.worker.publisher import TransactionalPublisher

SMALL, HALF, LARGE = 10, BATCH_BYTES // 2, BATCH_BYTES + 1


class _Batch(BatchBuilder):  # type: ignore[misc]  # aiokafka carries no types
    def __init__(self) -> None:
        super().__init__(BATCH_BYTES, 0, is_transactional=True, key_serializer=None, value_serializer=None)
        self.values: list[bytes] = []

    def append(self, *, timestamp: Any, key: Any, value: Any, headers: Any) -> Any:
        taken = super().append(timestamp=timestamp, key=key, value=value, headers=headers)
        if taken is not None:
            self.values.append(value)
        return taken


class _Producer:
    """Also of `Clients`: it makes itself."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[bytes]]] = []

    def producer(self, **settings: Any) -> _Producer:
        return self

    def create_batch(self) -> _Batch:
        return _Batch()

    async def send(self, topic: str, *, partition: int, key: Any, value: Any, headers: Any) -> Any:
        self.sent.append((topic, [value]))
        return asyncio.sleep(0)

    async def send_batch(self, batch: _Batch, topic: str, *, partition: int) -> Any:
        self.sent.append((topic, batch.values))
        return asyncio.sleep(0)


def batches_of(*sizes_bytes: int) -> list[list[int]]:
    """The sizes of the values of each batch, in the order in which they were sent."""
    producer = _Producer()
    publisher = TransactionalPublisher(Settings(), cast(Any, producer), 0, 10.0)
    records = [OutputRecord("dead-letters", None, b"x" * size, (("a", b"b"),)) for size in sizes_bytes]
    asyncio.run(publisher._send(records))
    return [[len(value) for value in values] for _, values in producer.sent]


def test_records_share_a_batch_while_they_fit() -> None:
    """The next one begins with the first that does not, and the order is theirs."""
    assert batches_of() == []
    assert batches_of(SMALL, SMALL, SMALL) == [[SMALL, SMALL, SMALL]]
    assert batches_of(HALF, HALF, SMALL, HALF) == [[HALF], [HALF, SMALL], [HALF]]


def test_a_record_larger_than_a_batch_is_sent_alone() -> None:
    """Between those before and after it."""
    assert batches_of(LARGE) == [[LARGE]]
    assert batches_of(SMALL, LARGE, LARGE, SMALL) == [[SMALL], [LARGE], [LARGE], [SMALL]]
