"""A batch whose records are written already, for aiokafka's producer to send.

The header and the checksum are added here: producer id, epoch and sequence are known when the batch is sent.
Source of the format: Apache Kafka, "Message Format", section "Record Batch".
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from enrichment.kernel import core_of

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, checksum, attributes, last offset, first and last time, producer id and
epoch, first sequence, number of records."""
_LENGTH_FROM: Final = 12
"""What the length counts comes after base offset and length."""
_CHECKED_FROM, _CHECKSUM_AT = 21, 17
_MAGIC: Final = 2
_TRANSACTIONAL: Final = 0x10
_NO_PRODUCER: Final = (-1, -1, 0)


def _by_aiokafka(first: bytes, second: bytes) -> int:
    return int(calc_crc32c(first + second))


# With the processor's own instruction, where it has one, an eighth of the time.
_checksum: Callable[[bytes, bytes], int] = getattr(core_of("auto").compiled, "checksum", _by_aiokafka)


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
        head = bytearray(_HEADER.size)
        length = self.size() - _LENGTH_FROM
        times = (time_ms, time_ms)
        _HEADER.pack_into(
            head, 0, 0, length, -1, _MAGIC, 0, self._attributes, count - 1, *times, *self._producer, count
        )
        checked = _checksum(bytes(memoryview(head)[_CHECKED_FROM:]), self._records)
        struct.pack_into(">I", head, _CHECKSUM_AT, checked)
        head += self._records
        return head

    def size(self) -> int:
        """The batch's bytes."""
        return _HEADER.size + len(self._records)
