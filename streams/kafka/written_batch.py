"""A batch whose records are written already, for aiokafka's producer to send.

The header and the checksum are added here: producer id, epoch and sequence are known when the batch is sent.
Source of the format: Apache Kafka, "Message Format", section "Record Batch".
"""

from __future__ import annotations

import struct
import time
from typing import Final

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset, first and last time, producer id and
epoch, first sequence, number of records."""
_LENGTH_FROM: Final = 12
"""What the length counts comes after base offset and length."""
_CHECKED_FROM, _CHECKSUM_AT = 21, 17
_MAGIC: Final = 2
_TRANSACTIONAL: Final = 0x10
_NO_PRODUCER: Final = (-1, -1, 0)


class WrittenBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka carries no types
    """`count` records as bytes, with offsets from 0 on and all of one time: that at which this is made."""

    def __init__(self, records: bytes, count: int, *, is_transactional: bool) -> None:
        super().__init__(0, 0, is_transactional=is_transactional)
        self._records = records
        self._buffer: bytearray | None = None
        self._relative_offset = count
        self._attributes = _TRANSACTIONAL if is_transactional else 0
        self._producer = _NO_PRODUCER
        self._time_ms = int(time.time() * 1_000)
        self.close()

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        if self._buffer is None:
            self._buffer = self._built()
        return self._buffer

    def _built(self) -> bytearray:
        count, time_ms = self._relative_offset, self._time_ms
        built = bytearray(self.size())
        length = len(built) - _LENGTH_FROM
        times = (time_ms, time_ms)
        _HEADER.pack_into(
            built, 0, 0, length, -1, _MAGIC, 0, self._attributes, count - 1, *times, *self._producer, count
        )
        built[_HEADER.size :] = self._records
        struct.pack_into(">I", built, _CHECKSUM_AT, calc_crc32c(memoryview(built)[_CHECKED_FROM:]))
        return built

    def size(self) -> int:
        """The batch's bytes."""
        return _HEADER.size + len(self._records)
