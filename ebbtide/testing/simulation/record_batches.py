"""Batches of records as Kafka stores them; the builder is aiokafka's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

_ATTRIBUTES_AT = 21
_MAX_TIMESTAMP_AT = 35
_LOG_APPEND_TIME = 0x08
_CONTROL = 0x20

Headers = list[tuple[str, bytes | None]]


def record_batch(
    records: Sequence[tuple[bytes | None, bytes | None]],
    *,
    base: int = 0,
    append_time_ms: int | None = None,
    headers: Headers | None = None,
    producer_id: int | None = None,
    is_control: bool = False,
) -> bytes:
    """A batch of keys and values whose first offset is `base`; of a transaction where there is a producer's id."""
    is_transactional = producer_id is not None
    builder = DefaultRecordBatchBuilder(
        2, 0, int(is_transactional), -1 if producer_id is None else producer_id, 0, 0, 1 << 30
    )
    for number, (key, value) in enumerate(records):
        builder.append(number, 1_700_000_000_000 + number, key, value, headers or [])
    batch = bytearray(struct.pack(">q", base) + bytes(builder.build())[8:])
    (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES_AT)
    if append_time_ms is not None:
        attributes |= _LOG_APPEND_TIME
        struct.pack_into(">q", batch, _MAX_TIMESTAMP_AT, append_time_ms)
    if is_control:
        attributes |= _CONTROL
    struct.pack_into(">h", batch, _ATTRIBUTES_AT, attributes)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)
