"""Batches that the compiled core reads: the records that aiokafka reads from them, or none at all."""

from __future__ import annotations

import gc
import random
import struct
import weakref
from dataclasses import replace
from typing import Any, cast

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from ebbtide.testing.simulation.record_batches import Headers, record_batch
from enrichment.kernel import core_of
from schemas.topics import PURCHASES
from streams.kafka.batches import batches_of, examine
from streams.kafka.fetched_batch import BatchedRecords, FetchedBatch, RecordBatch
from streams.worker.reading.arrived import Taken, UnreadRecords, record_of

TP = TopicPartition("purchases", 3)
COMMIT_MARKER, ABORT_MARKER = b"\x00\x00\x00\x01", b"\x00\x00\x00\x00"


@pytest.fixture(autouse=True)
def _built() -> None:
    """Skips where the compiled core is not built."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)


def read_batch(data: bytes) -> RecordBatch | None:
    module: Any = core_of("compiled").compiled
    return cast("RecordBatch | None", module.RecordBatch.read(data))


def by_aiokafka(batch: bytes) -> list[Any]:
    return [
        (
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            tuple(record.headers),
        )
        for record in DefaultRecordBatch(batch)
    ]


def by_compiled(batch: RecordBatch) -> list[Any]:
    return [
        (record.offset, record.timestamp, record.timestamp_type, record.key, record.value, record.headers)
        for record in (record_of(TP, batch, at) for at in range(len(batch)))
    ]


@pytest.mark.parametrize("append_time_ms", [None, 0, 1_700_000_000_777])
@pytest.mark.parametrize("headers", [[], [("name", b"header"), ("", None), ("größe", b"")]])
def test_what_a_record_may_hold_is_read(append_time_ms: int | None, headers: Headers) -> None:
    """Nothing, little, or much for a key and a value; times of the broker or of the producer."""
    records = [(None, None), (b"", b""), (b"key", b"value"), (b"k" * 200, b"v" * 70_000), (b"\xff", None)]
    data = record_batch(records, base=1_234_567, append_time_ms=append_time_ms, headers=headers)
    batch = read_batch(data)
    assert batch is not None
    assert by_compiled(batch) == by_aiokafka(data)
    assert batch.append_time_us == (None if append_time_ms is None else append_time_ms * 1_000)
    assert [batch.offset(at) for at in range(5)] == list(range(1_234_567, 1_234_572))
    assert [batch.place_of(offset) for offset in (0, 1_234_567, 1_234_570, 2_000_000)] == [0, 0, 3, 5]
    assert batch.sizes(0, 5) == (5 + 70_000, 3 + 200 + 1 + 5 + 70_000)
    assert batch.sizes(2, 3) == (5, 8)
    assert [batch.end_of_run(1, *most) for most in ((1, 9), (2, 5), (9, 6), (9, 100_000))] == [2, 3, 4, 5]


def test_asking_for_what_is_not_there_is_an_error() -> None:
    batch = read_batch(record_batch([(b"key", b"value")]))
    assert batch is not None
    for asked in (lambda: batch.offset(1), lambda: batch.record(1), lambda: batch.sizes(0, 2)):
        with pytest.raises(IndexError, match="no such record"):
            asked()


def test_a_compressed_batch_and_a_control_batch_are_not_read() -> None:
    """Nor one of an old format, nor what is no batch."""
    plain = record_batch([(b"key", b"value")])
    assert read_batch(plain) is not None
    compressed = bytearray(plain)
    compressed[22] |= 1
    old = bytes(LegacyRecordBatchBuilder(1, 0, 1 << 20).build())
    control = record_batch([(COMMIT_MARKER, b"")], is_control=True)
    for other in (bytes(compressed), control, old, b"", plain[:60], plain[:-1], plain + b"\0"):
        assert read_batch(other) is None


def test_no_bytes_are_read_otherwise_than_by_aiokafka(random_seed: int) -> None:
    """Seeded damage: what is taken at all is the same records, in the order of their offsets."""
    rng, taken = random.Random(random_seed), 0
    for _ in range(5_000):
        records = [(rng.choice((None, b"key")), rng.randbytes(rng.randint(0, 40))) for _ in range(3)]
        base = rng.choice((0, 7, 2**40))
        data = bytearray(record_batch(records, base=base, headers=[("name", b"header")] * rng.randint(0, 2)))
        for _ in range(rng.randint(0, 3)):
            data[rng.choice((rng.randrange(16, 61), rng.randrange(61, len(data))))] = rng.randrange(256)
        batch = read_batch(bytes(data))
        if batch is not None:
            taken += 1
            read = by_compiled(batch)
            assert read == by_aiokafka(bytes(data))
            assert [record[0] for record in read] == sorted({record[0] for record in read})
    assert taken > 500


def test_a_batch_of_unordered_offsets_is_left_to_aiokafka() -> None:
    """A position in the middle of it could not be found by halves."""
    data = bytearray(record_batch([(b"a", b""), (b"b", b"")]))
    (first_size,) = data[61:62]
    at = 61 + 1 + first_size // 2 + 1 + 2
    assert data[at] in (0, 2)
    for delta in (0, 10):
        changed = bytearray(data)
        changed[at + 1] = delta
        assert read_batch(bytes(changed)) is None


@pytest.mark.parametrize("level", [READ_COMMITTED, READ_UNCOMMITTED])
def test_of_transactions_the_same_is_given(random_seed: int, level: int) -> None:
    """Committed, aborted and open ones of several producers, from any position."""
    rng, whole = random.Random(random_seed), 0
    for _ in range(200):
        batches, aborted = some_log(rng)
        position = rng.randint(0, sum(count for count, _ in batches))
        data, behind = b"", 0
        for count, batch in batches:
            behind += count
            data += batch if behind > position else b""
        expected, given = (
            PartitionRecords(TP, MemoryRecords(data), list(aborted), position, None, None, False, level)
            for _ in range(2)
        )
        batched = BatchedRecords(given, batches_of(data), read_batch)
        found: list[ConsumerRecord] = []
        for one in batched:
            if isinstance(one, FetchedBatch):
                whole += 1
                found += [arrived.record for arrived in Taken([UnreadRecords.of(PURCHASES, one)])]
            else:
                found.append(one)
        assert found == [replace(record, checksum=None) for record in expected]
        assert batched.next_fetch_offset == expected.next_fetch_offset
    assert whole > 100


def some_log(rng: random.Random) -> tuple[list[tuple[int, bytes]], list[tuple[int, int]]]:
    """Batches, each after the number of its offsets; and of aborted transactions the producer and the first offset."""
    batches: list[tuple[int, bytes]] = []
    open_from: dict[int, int] = {}
    aborted: list[tuple[int, int]] = []
    offset = 0
    for _ in range(rng.randint(1, 12)):
        producer_id = rng.choice((None, 1, 2))
        count = rng.randint(1, 3)
        if producer_id in open_from and rng.random() < 0.5:
            is_abort = rng.random() < 0.5
            marker = [(ABORT_MARKER if is_abort else COMMIT_MARKER, b"\0" * 6)]
            batch = record_batch(marker, base=offset, producer_id=producer_id, is_control=True)
            begun = open_from.pop(producer_id)
            aborted += [(producer_id, begun)] if is_abort else []
            count = 1
        else:
            records = [(b"key", b"%d" % (offset + at)) for at in range(count)]
            batch = record_batch(records, base=offset, producer_id=producer_id, headers=[("name", None)])
            if producer_id is not None:
                open_from.setdefault(producer_id, offset)
        batches.append((count, batch))
        offset += count
    return batches, aborted


def test_messages_of_an_old_format_are_given_one_by_one() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    for at in range(3):
        builder.append(at, 1_700_000_000_000, b"old", b"%d" % at)
    data = bytes(builder.build())
    given = PartitionRecords(TP, MemoryRecords(data), [], 1, None, None, False, READ_COMMITTED)
    batched = BatchedRecords(given, batches_of(data), read_batch)
    assert [(record.offset, record.value) for record in batched] == [(1, b"1"), (2, b"2")]
    assert batched.next_fetch_offset == 3


def test_a_batch_is_looked_at_once_where_it_can_be_read() -> None:
    """And where it cannot, by aiokafka, whose word it is that nobody can read it."""
    good = record_batch([(b"key", b"value")])
    looks: list[bytes] = []

    def noted(data: bytes) -> RecordBatch | None:
        looks.append(data)
        return read_batch(data)

    assert examine(good, 0, 1, 1_000, noted).readable == good
    assert looks == [good]
    spoilt = bytearray(good)
    spoilt[61] = 0x7E
    struct.pack_into(">I", spoilt, 17, calc_crc32c(bytes(spoilt[21:])))
    (unreadable,) = examine(bytes(spoilt), 0, 1, 1_000, noted).unreadable
    assert "cannot be taken apart" in unreadable.why


def test_a_checksum_is_that_of_aiokafka(random_seed: int) -> None:
    """Of two pieces in a row, also empty ones."""
    module: Any = core_of("compiled").compiled
    rng = random.Random(random_seed)
    for size in (0, 1, 7, 40, 1_000, 100_000):
        first, second = rng.randbytes(rng.randint(0, 50)), rng.randbytes(size)
        assert module.checksum(first, second) == calc_crc32c(first + second)


def test_what_was_fetched_is_freed_without_a_look_for_garbage() -> None:
    """While records come, a worker looks for none: a circle would hold all that was ever fetched."""
    data = record_batch([(b"key", b"value")])
    found = PartitionRecords(TP, MemoryRecords(data), [], 0, None, None, False, READ_COMMITTED)
    batched = BatchedRecords(found, batches_of(data), read_batch)
    held = [weakref.ref(found), weakref.ref(batched)]
    gc.disable()
    try:
        del found
        assert len(list(batched)) == 1
        del batched
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()
