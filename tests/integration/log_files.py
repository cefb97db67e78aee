"""A broker's log on its disk, damaged while it runs: what no client could have written."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.record.util import calc_crc32c

from streams.settings import Settings
from tests.integration.damage import admin

_CRC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 17, 21, 61
_LAST_OFFSET_DELTA_AT = 23

Damage = Callable[[bytearray], None]
"""Changes the bytes of a batch in place."""


class Batch(NamedTuple):
    """A batch in a file: its offsets, where it is, and its bytes."""

    first: int
    next_offset: int
    at: int
    raw: bytes


def flip_a_bit(batch: bytearray) -> None:
    """Of the records: the CRC is wrong then."""
    batch[_RECORDS_AT + 5] ^= 1


def give_unknown_codec(batch: bytearray) -> None:
    """With the right CRC."""
    batch[_ATTRIBUTES_AT + 1] = batch[_ATTRIBUTES_AT + 1] & ~0x07 | 0x05
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))


def claim_many_offsets(batch: bytearray) -> None:
    """The number of its offsets is a million more than it was."""
    (delta,) = struct.unpack_from(">i", batch, _LAST_OFFSET_DELTA_AT)
    struct.pack_into(">i", batch, _LAST_OFFSET_DELTA_AT, delta + 1_000_000)


class LogFile:
    """The only segment of a partition of a topic (name without prefix) on this machine's broker."""

    def __init__(self, settings: Settings, topic: str, partition: int = 0) -> None:
        with admin(settings) as client:
            found = client.describe_log_dirs({settings.topic(topic): [partition]})
        folder = Path(found[0]["log_dirs"][0]["log_dir"])
        self.path = folder / f"{settings.topic(topic)}-{partition}" / f"{0:020d}.log"
        if not self.path.exists():
            pytest.skip("the broker keeps its log on another machine")

    def batches(self) -> Iterator[Batch]:
        """All batches, in order."""
        data, at = self.path.read_bytes(), 0
        while at + _RECORDS_AT <= len(data):
            base, size_bytes = struct.unpack_from(">qi", data, at)
            if size_bytes <= 0:
                return
            raw = data[at : at + 12 + size_bytes]
            (delta,) = struct.unpack_from(">i", raw, _LAST_OFFSET_DELTA_AT)
            yield Batch(base, base + delta + 1, at, raw)
            at += len(raw)

    def batch_with(self, offset: int) -> Batch:
        """The batch that holds an offset."""
        return next(batch for batch in self.batches() if batch.first <= offset < batch.next_offset)

    def damage(self, offset: int, damage: Damage) -> None:
        """Damage the batch that holds an offset."""
        self.damage_batch(self.batch_with(offset), damage)

    def damage_batch(self, batch: Batch, damage: Damage) -> None:
        """Damage a batch that was looked up before others were damaged."""
        changed = bytearray(batch.raw)
        damage(changed)
        with self.path.open("r+b") as file:
            file.seek(batch.at)
            file.write(changed)
