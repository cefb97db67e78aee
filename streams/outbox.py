"""Output records: what is published, and the outbox that keeps it in Redis until it has been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import msgspec

from schemas.topics import OutputTopic

BATCH_BYTES = 900_000
"""Of a batch that is sent to Kafka, but for one of a single record that is larger."""
RECORD_OVERHEAD_BYTES = 32
HEADER_OVERHEAD_BYTES = 8

Header = tuple[str, bytes]


class OutputRecord(NamedTuple):
    """One record to publish; the topic's name is without prefix, the partition is that of the input."""

    topic: OutputTopic
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()

    @property
    def size_bytes(self) -> int:
        """About what the record takes in a batch."""
        named = sum(map(len, chain.from_iterable(self.headers))) + HEADER_OVERHEAD_BYTES * len(self.headers)
        return len(self.key or b"") + len(self.value or b"") + named + RECORD_OVERHEAD_BYTES


class WrittenRecords(NamedTuple):
    """Records of a topic, whose name is without prefix, as they stand in a Kafka batch behind its header."""

    topic: OutputTopic
    record_count: int
    records: bytes


@dataclass(frozen=True, slots=True)
class WrittenOutbox:
    """Output records that the compiled core has written: as stored in Redis, and as sent to Kafka.

    `counts` is by topic. Whoever looks at the records one by one reads them from the bytes.
    """

    packed: bytes
    batches: tuple[WrittenRecords, ...]
    counts: Counter[OutputTopic]

    def __iter__(self) -> Iterator[OutputRecord]:
        return iter(unpack_outbox(self.packed))

    def __len__(self) -> int:
        return self.counts.total()


Outbox = list[OutputRecord] | WrittenOutbox
"""What a micro-batch publishes, in order."""


def pack_outbox(outbox: Outbox) -> bytes:
    """Records as they are stored in Redis."""
    return outbox.packed if isinstance(outbox, WrittenOutbox) else msgspec.msgpack.encode(outbox)


def counts_of(outbox: Outbox) -> Counter[OutputTopic]:
    """How many records there are of each topic."""
    return outbox.counts if isinstance(outbox, WrittenOutbox) else Counter(record.topic for record in outbox)


def unpack_outbox(packed: bytes) -> list[OutputRecord]:
    """What `pack_outbox` packed."""
    return msgspec.msgpack.decode(packed, type=list[OutputRecord])
