"""Batches that are handed on whole: their records become Python's only where somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

_MAGIC_AT = 16


Record = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Offset, timestamp in milliseconds, key, value and headers."""


class RecordBatch(Protocol):
    """The records of a batch, by their places in it.

    The compiled core reads it: `RecordBatch` of kernel/src/python/record_batch.rs.
    """

    @property
    def append_time_us(self) -> int | None:
        """When the broker took the batch; None where the times are the producer's."""

    def __len__(self) -> int: ...

    def offset(self, at: int, /) -> int:
        """The offset of a record."""

    def record(self, at: int, /) -> Record:
        """A record; all of these methods raise `IndexError` where there is none."""

    def place_of(self, offset: int, /) -> int:
        """The place of the first record of this offset or a later one."""

    def sizes(self, first: int, end: int, /) -> tuple[int, int]:
        """How many bytes the values of some records take, and their keys and values."""

    def end_of_run(self, first: int, most_records: int, most_bytes: int, /) -> int:
        """From a record on, the place behind the first with which there are so many records, or bytes of values."""


ReadBatch = Callable[[bytes], RecordBatch | None]
"""Reads a whole batch that is not compressed; None if anything in it is unusual, or wrong."""


class FetchedBatch(NamedTuple):
    """A batch that a consumer gives in place of its records, which are to be read from a place in it on."""

    tp: TopicPartition
    batch: RecordBatch
    first: int


class BatchedRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka carries no types
    """What was fetched of a partition, batch by batch where `read` takes them.

    Control batches and transactions that were aborted are left out as aiokafka does. `data` are whole batches that are
    not compressed.
    """

    def __init__(self, found: PartitionRecords, data: Iterator[bytes], read: ReadBatch) -> None:
        super().__init__(
            found._tp,
            _Batches(data, read),
            found._aborted_transactions,
            found.next_fetch_offset,
            None,
            None,
            False,
            found._isolation_level,
        )
        # It and its iterator hold each other, and all that was fetched: while records come, nobody looks for garbage.
        found._records_iterator = None

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        if isinstance(record, _WholeBatch):
            return FetchedBatch(tp, record.records, record.records.place_of(self.next_fetch_offset))
        return super()._consumer_record(tp, record)


class _Batches:
    """Stands for aiokafka's `MemoryRecords`."""

    def __init__(self, data: Iterator[bytes], read: ReadBatch) -> None:
        self._data = data
        self._read = read
        self._next = next(data, None)

    def has_next(self) -> bool:
        return self._next is not None

    def next_batch(self) -> Any:
        raw, self._next = self._next, next(self._data, None)
        assert raw is not None
        magic = raw[_MAGIC_AT]
        if magic < 2:
            return LegacyRecordBatch(raw, magic)
        batch = DefaultRecordBatch(raw)
        records = None if batch.is_control_batch else self._read(raw)
        return batch if records is None else _WholeBatch(batch, records)


class _WholeBatch:
    """A batch whose only record is itself; its offset is that of its last one."""

    def __init__(self, batch: Any, records: RecordBatch) -> None:
        self.records = records
        self.base_offset = batch.base_offset
        self.next_offset = batch.next_offset
        self.producer_id = batch.producer_id
        self.is_transactional = batch.is_transactional
        self.is_control_batch = False

    @property
    def offset(self) -> int:
        return self.records.offset(len(self.records) - 1)

    def __iter__(self) -> Iterator[_WholeBatch]:
        return iter([self] if len(self.records) else [])
