"""Fetched batches are examined before they are decoded: what can be read is handed on, and the rest is told."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.kafka import batches
from streams.kafka.batches import Unreadable, examine, is_compressed, offsets_text

LIMIT_BYTES = 1_000_000
CODECS = (0, 1, 2, 3, 4)


def batch_of(base: int, values: list[bytes], codec: int = 0) -> bytes:
    """A batch as a broker holds it; the builder is aiokafka's."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for number, value in enumerate(values):
        builder.append(number, 1_700_000_000_000, b"key", value, [("name", b"header")])
    return struct.pack(">q", base) + bytes(builder.build())[8:]


def legacy_of(base: int, value: bytes, magic: int, codec: int = 0) -> bytes:
    """A message of an old format."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 30)
    builder.append(0, 1_700_000_000_000, b"key", value)
    return struct.pack(">q", base) + bytes(builder.build())[8:]


def with_crc(batch: bytearray) -> bytes:
    """The batch with the right CRC for what it has become."""
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    return bytes(batch)


def values_in(data: bytes) -> list[bytes | None]:
    """What a decoder of aiokafka makes of what was handed on, without the CRCs."""
    values: list[bytes | None] = []
    at = 0
    while at < len(data):
        (size_bytes,) = struct.unpack_from(">i", data, at + 8)
        batch, magic = data[at : at + 12 + size_bytes], data[at + 16]
        records = DefaultRecordBatch(batch) if magic == 2 else LegacyRecordBatch(batch, magic)
        values += [record.value for record in records]
        at += 12 + size_bytes
    return values


def wrong_crc(batch: bytearray) -> bytes:
    batch[-1] ^= 1
    return bytes(batch)


def codec_seven(batch: bytearray) -> bytes:
    batch[22] |= 7
    return with_crc(batch)


def gzip_that_is_none(batch: bytearray) -> bytes:
    batch[22] |= 1
    return with_crc(batch)


def records_cut_off(batch: bytearray) -> bytes:
    batch[61] = 0x7E
    return with_crc(batch)


def more_records_than_there_are(batch: bytearray) -> bytes:
    struct.pack_into(">i", batch, 57, 2_000_000_000)
    return with_crc(batch)


def format_nine(batch: bytearray) -> bytes:
    batch[16] = 9
    return bytes(batch)


SPOILT: dict[Callable[[bytearray], bytes], str] = {
    wrong_crc: "its checksum (CRC) is wrong",
    codec_seven: "unknown codec 7",
    gzip_that_is_none: "damaged gzip data",
    records_cut_off: "its records cannot be taken apart",
    more_records_than_there_are: "its records cannot be taken apart",
    format_nine: "unknown format 9",
}


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_every_codec_are_handed_on_decompressed(codec: int) -> None:
    """Their records are as they were, and no batch is compressed any more."""
    values = [b"one " * 100, b"two " * 100, b""]
    data = batch_of(7, values, codec) + batch_of(10, [b"three " * 100], codec)
    found = examine(data, 7, 11, LIMIT_BYTES)
    assert values_in(found.readable) == [*values, b"three " * 100]
    assert found.unreadable == []
    assert is_compressed(data) == (codec != 0)
    assert not is_compressed(found.readable)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_old_formats_are_handed_on_as_they_came(magic: int, codec: int) -> None:
    """Of compressed ones the limit is kept all the same."""
    data = legacy_of(3, b"value " * 100, magic, codec)
    assert examine(data, 3, 4, LIMIT_BYTES).readable == data
    assert values_in(data) == [b"value " * 100]
    if codec:
        found = examine(data, 3, 4, 100)
        assert found.readable == b""
        assert "more than 100 bytes" in found.unreadable[0].why


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_batch_that_cannot_be_read_is_told_with_its_offsets_and_bytes(
    spoil: Callable[[bytearray], bytes],
) -> None:
    """What comes before it is handed on first; what comes behind it shows where it ends."""
    good, bad = batch_of(5, [b"good"]), spoil(bytearray(batch_of(6, [b"a", b"b", b"c"])))
    after = batch_of(9, [b"after"])
    found = examine(good + bad + after, 5, 10, LIMIT_BYTES)
    assert (values_in(found.readable), found.unreadable) == ([b"good"], [])
    found = examine(bad + after, 6, 10, LIMIT_BYTES)
    assert found.readable == b""
    (unreadable,) = found.unreadable
    assert unreadable[:2] == (6, 9)
    assert unreadable.raw == bad
    assert SPOILT[spoil] in unreadable.why
    assert unreadable.offsets == "offsets 6 to 8"


def test_of_an_old_format_the_offset_is_the_last_one() -> None:
    """Those behind it begin somewhere, which is not said."""
    messages = [bytearray(legacy_of(last, b"value", 1)) for last in (5, 8)]
    messages[0][-1] ^= 1
    (unreadable,) = examine(b"".join(map(bytes, messages)), 3, 9, LIMIT_BYTES).unreadable
    assert unreadable[:2] == (3, 6)


def test_all_batches_of_an_answer_that_cannot_be_read_are_told_at_once() -> None:
    """Else each would have to be waited for after the other."""
    bad = [wrong_crc(bytearray(batch_of(base, [b"a", b"b"]))) for base in (0, 2, 6)]
    good = batch_of(4, [b"a", b"b"])
    found = examine(bad[0] + bad[1] + good + bad[2], 0, 8, LIMIT_BYTES)
    assert [unreadable[:2] for unreadable in found.unreadable] == [(0, 2), (2, 4), (6, 8)]


@pytest.mark.parametrize(
    ("base", "delta", "position", "expected"),
    [
        (4, 2, 4, (4, 7)),
        (4, 2, 5, (5, 7)),
        (4, 1_000_000, 4, (4, 5)),
        (4, -9, 4, (4, 5)),
        (-1, 2, 4, (4, 5)),
        (2_000_000, 2, 4, (4, 5)),
    ],
)
def test_no_more_is_skipped_than_the_log_holds_whatever_a_damaged_header_says(
    base: int, delta: int, position: int, expected: tuple[int, int]
) -> None:
    """The last batch of an answer, at the end of the log, has nothing behind it that shows where it ends."""
    batch = bytearray(batch_of(base, [b"a", b"b", b"c"]))
    struct.pack_into(">i", batch, 23, delta)
    wrong_crc(batch)
    (unreadable,) = examine(bytes(batch), position, 10, LIMIT_BYTES).unreadable
    assert unreadable[:2] == expected


def test_a_batch_that_claims_the_offsets_of_those_behind_it_is_passed_over_with_its_own() -> None:
    """A broker that believes it sends it again for the next one."""
    claiming = bytearray(batch_of(2, [b"a", b"b", b"c"]))
    struct.pack_into(">i", claiming, 23, 1_000_000)
    data = bytes(claiming) + batch_of(5, [b"d"]) + batch_of(6, [b"e"])
    (unreadable,) = examine(data, 2, 7, LIMIT_BYTES).unreadable
    assert unreadable[:2] == (2, 5)
    found = examine(data, 5, 7, LIMIT_BYTES)
    assert (values_in(found.readable), found.unreadable) == ([b"d", b"e"], [])


@pytest.mark.parametrize("base", [-1, 0, 1, 2_000_000])
def test_a_batch_that_is_not_of_its_place_cannot_be_read(base: int) -> None:
    """No checksum holds for the base offset; a reader would be thrown back, or out of the log."""
    found = examine(batch_of(base, [b"a", b"b", b"c"]) + batch_of(7, [b"d"]), 4, 10, LIMIT_BYTES)
    (unreadable,) = found.unreadable
    assert (unreadable.first, unreadable.next_offset) == (4, 7)
    assert unreadable.why == "its offsets are not those of its place"


def test_of_many_small_bombs_only_some_are_handed_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are fetched again once these have been taken; the first one always comes."""
    monkeypatch.setattr(batches, "HANDED_ON_BYTES", 250_000)
    data = b"".join(batch_of(base, [bytes(100_000)], 1) for base in range(10))
    assert len(values_in(examine(data, 0, 10, LIMIT_BYTES).readable)) == 2
    monkeypatch.setattr(batches, "HANDED_ON_BYTES", 1)
    assert len(values_in(examine(data, 0, 10, LIMIT_BYTES).readable)) == 1


def test_an_answer_that_ends_in_the_middle_of_a_batch_is_handed_on_up_to_there() -> None:
    """Kafka cuts where it has sent enough; only a first batch is always whole."""
    first, second = batch_of(0, [b"a"]), batch_of(1, [b"b"])
    found = examine(first + second[:-3], 0, 2, LIMIT_BYTES)
    assert (found.readable, found.unreadable) == (first, [])
    (unreadable,) = examine(second[:-3], 1, 2, LIMIT_BYTES).unreadable
    assert unreadable == Unreadable(1, 2, "it is cut off", second[:-3])


def test_whatever_bytes_come_are_readable_or_told(random_seed: int) -> None:
    """Seeded: a decoder never fails on what is handed on, and what is told begins where the fetch did, and goes on."""
    rng = random.Random(random_seed)
    for _ in range(3_000):
        base = rng.randint(0, 50)
        data = bytearray(
            b"".join(
                batch_of(base + 2 * number, [rng.randbytes(rng.randint(0, 60)) * 3] * 2, rng.choice(CODECS))
                for number in range(rng.randint(1, 3))
            )
        )
        for _ in range(rng.randint(0, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.5:
            size_bytes = struct.unpack_from(">i", data, 8)[0]
            if 70 < size_bytes + 12 <= len(data):
                data[: size_bytes + 12] = with_crc(data[: size_bytes + 12])
        found = examine(bytes(data), base, base + 6, LIMIT_BYTES)
        values_in(found.readable)
        if found.unreadable:
            assert found.readable == b""
        position = base
        for unreadable in found.unreadable:
            assert position <= unreadable.first < unreadable.next_offset <= base + 7
            position = unreadable.next_offset


def test_offsets_are_named_as_people_count_them() -> None:
    """Up to and with the last one."""
    assert (offsets_text(3, 4), offsets_text(3, 6)) == ("offset 3", "offsets 3 to 5")
