"""Batches of records as Kafka fetches them: each is looked at whole before a client decodes it.

What can be read is handed on decompressed, so that it is decompressed once and within the limit. What cannot is told
with the offsets that it takes, and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import calc_crc32c

from streams.errors import one_line
from streams.kafka.decompression import DecompressionError, decompress
from streams.kafka.fetched_batch import ReadBatch

HANDED_ON_BYTES: Final = 16 * 1024 * 1024
"""Of one answer, once decompressed: what comes behind is fetched again when this has been taken."""
LOOKED_AT_BYTES: Final = 512 * 1024 * 1024
"""Decompressed of one answer, part after part, in search of more batches that cannot be read."""

_LOG_HEADER: Final = struct.Struct(">qi")
"""Base offset, and the bytes that follow."""
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Of a batch of magic 2, by aiokafka's default_records.py."""
_CRC_FROM: Final = 21
_MAGIC_AT: Final = 16
_CODEC: Final = 0x07
_NULL_BYTES: Final = -1


class Unreadable(NamedTuple):
    """A batch that cannot be read: the offsets from `first` up to, and without, `next_offset`; why; and its bytes."""

    first: int
    next_offset: int
    why: str
    raw: bytes

    @property
    def offsets(self) -> str:
        """The offsets in words."""
        return offsets_text(self.first, self.next_offset)


def offsets_text(first: int, next_offset: int) -> str:
    """The offsets from one up to, and without, another, in words."""
    last = next_offset - 1
    return f"offset {first}" if last <= first else f"offsets {first} to {last}"


@dataclass(slots=True)
class Examined:
    """What of a fetched answer can be read, from its beginning on; and, if not even that, what cannot."""

    readable: bytes = b""
    unreadable: list[Unreadable] = field(default_factory=list)
    """The batch at the beginning, and all others of the answer that cannot be read."""


def is_compressed(data: bytes) -> bool:
    """Whether any batch of an answer is compressed, or must be looked into to say."""
    return any(
        len(batch) < _HEADER.size or batch[_MAGIC_AT] < 2 or batch[_CRC_FROM + 1] & _CODEC
        for batch in batches_of(data)
    )


def examine(
    data: bytes, position: int, end: int, limit_bytes: int, read: ReadBatch | None = None
) -> Examined:
    """Look at an answer to a fetch at `position`, from a log that ends at `end`.

    No batch may have more than `limit_bytes` once decompressed. Batches behind the first that cannot be read are looked
    at only where that is the very first. What `read` takes needs no other look.
    """
    found = Examined()
    readable: list[bytes] = []
    spent_bytes = 0
    batches = list(batches_of(data))
    for at, batch in enumerate(batches):
        try:
            plain = _read(batch, limit_bytes, read)
            next_offset = _next_offset(plain)
            if next_offset <= position or _base(plain) > end:
                # No checksum holds for the base offset.
                raise _UnreadableError("its offsets are not those of its place", len(plain))
        except _UnreadableError as error:
            spent_bytes += error.spent_bytes
            following = batches[at + 1] if at + 1 < len(batches) else None
            if _ends_before(position, batch, following):
                continue
            if readable or position > end:
                # Another one may have claimed offsets that the log does not have yet.
                break
            found.unreadable.append(_unreadable(batch, following, position, end, str(error)))
            position = found.unreadable[-1].next_offset
        else:
            position = next_offset
            spent_bytes += len(plain)
            if not found.unreadable:
                if readable and spent_bytes > HANDED_ON_BYTES:
                    break
                readable.append(plain)
        if found.unreadable and spent_bytes >= LOOKED_AT_BYTES:
            break
    found.readable = b"".join(readable)
    return found


def _ends_before(position: int, batch: bytes, following: bytes | None) -> bool:
    """Whether what was asked for lies behind a batch, by the one that follows it.

    A broker that goes by a batch's own account of its end sends one that claims too many offsets for any of them.
    """
    return following is not None and not _is_old(following) and _base(batch) < _base(following) <= position


def _base(batch: bytes) -> int:
    return int(_LOG_HEADER.unpack_from(batch)[0])


def _is_old(batch: bytes) -> bool:
    """Whether a batch is a message of an old format, whose offset is the last of those in it."""
    return len(batch) > _MAGIC_AT and batch[_MAGIC_AT] < 2


def _next_offset(batch: bytes) -> int:
    """The offset behind a batch, by its own account."""
    return _base(batch) + 1 if _is_old(batch) else _base(batch) + int(_HEADER.unpack_from(batch)[6]) + 1


class _UnreadableError(Exception):
    def __init__(self, why: str, spent_bytes: int = 0) -> None:
        super().__init__(why)
        self.spent_bytes = spent_bytes


def batches_of(data: bytes) -> Iterator[bytes]:
    """The batches of an answer one by one; a last one that is cut off only where it is the first too."""
    at = 0
    while at + _LOG_HEADER.size <= len(data):
        _, size_bytes = _LOG_HEADER.unpack_from(data, at)
        end = at + _LOG_HEADER.size + size_bytes
        is_whole = size_bytes > 0 and end <= len(data)
        if is_whole or at == 0:
            yield data[at:end] if is_whole else data
        if not is_whole:
            return
        at = end


def _read(batch: bytes, limit_bytes: int, read: ReadBatch | None) -> bytes:
    """The batch, decompressed; raises `_UnreadableError`."""
    if len(batch) <= _MAGIC_AT or _LOG_HEADER.unpack_from(batch)[1] != len(batch) - _LOG_HEADER.size:
        raise _UnreadableError("it is cut off")
    magic = batch[_MAGIC_AT]
    try:
        if magic > 2:
            raise _UnreadableError(f"unknown format {magic}")
        plain = _plain(batch, limit_bytes) if magic == 2 else _plain_legacy(batch, limit_bytes)
        if magic == 2 and read is not None and read(plain) is not None:
            return plain
        records: Any = DefaultRecordBatch(plain) if magic == 2 else LegacyRecordBatch(plain, magic)
        # As the client will do it: what it cannot take apart is found here.
        for _ in records:
            pass
    except _UnreadableError:
        raise
    except DecompressionError as error:
        raise _UnreadableError(one_line(error), limit_bytes) from error
    except Exception as error:  # whatever a parser says to bytes that may be anything
        raise _UnreadableError(f"its records cannot be taken apart: {one_line(error)}") from error
    return plain


def _plain(batch: bytes, limit_bytes: int) -> bytes:
    """A batch of magic 2 as if it had never been compressed; its CRC, which is right for what came, is not renewed."""
    if len(batch) < _HEADER.size:
        raise _UnreadableError("it is shorter than its header")
    base, _, epoch, magic, crc, attributes, *rest = _HEADER.unpack_from(batch)
    if calc_crc32c(batch[_CRC_FROM:]) != crc:
        raise _UnreadableError("its checksum (CRC) is wrong")
    codec = attributes & _CODEC
    plain = decompress(codec, batch[_HEADER.size :], limit_bytes)
    if codec == 0:
        return batch
    size_bytes = _HEADER.size - _LOG_HEADER.size + len(plain)
    return _HEADER.pack(base, size_bytes, epoch, magic, crc, attributes & ~_CODEC, *rest) + plain


def _plain_legacy(batch: bytes, limit_bytes: int) -> bytes:
    """A message of magic 0 or 1, as it came: if it holds compressed ones, these are within the limit."""
    magic, attributes = batch[_MAGIC_AT], batch[_MAGIC_AT + 1]
    if not LegacyRecordBatch(batch, magic).validate_crc():
        raise _UnreadableError("its checksum (CRC) is wrong")
    codec = attributes & _CODEC
    if codec:
        at = _MAGIC_AT + 2 + (8 if magic == 1 else 0)
        (key_bytes,) = struct.unpack_from(">i", batch, at)
        at += 4 + max(key_bytes, 0)
        (value_bytes,) = struct.unpack_from(">i", batch, at)
        if value_bytes == _NULL_BYTES or at + 4 + value_bytes > len(batch):
            raise _UnreadableError("its messages are cut off")
        decompress(codec, batch[at + 4 : at + 4 + value_bytes], limit_bytes)
    return batch


def _unreadable(batch: bytes, following: bytes | None, position: int, end: int, why: str) -> Unreadable:
    """Which offsets a batch takes; nothing that it says of itself can be trusted.

    The batch that follows says best where this one ends, and else the number of its records; the end of the log
    bounds both.
    """
    base = _base(batch)
    first = base if position <= base < end and not _is_old(batch) else position
    said = []
    if following is not None and not _is_old(following):
        said.append(_base(following))
    if _is_old(batch) or len(batch) >= _HEADER.size:
        said.append(_next_offset(batch))
    next_offset = next((offset for offset in said if first < offset <= end), first + 1)
    return Unreadable(first, next_offset, why, batch)
