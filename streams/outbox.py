"""Output records: what is published, and the outbox that keeps it in Redis until it has been."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import msgspec

from schemas.topics import OutputTopic

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


def pack_outbox(records: list[OutputRecord]) -> bytes:
    """Records as they are stored in Redis."""
    return msgspec.msgpack.encode(records)


def unpack_outbox(packed: bytes) -> list[OutputRecord]:
    """What `pack_outbox` packed."""
    return msgspec.msgpack.decode(packed, type=list[OutputRecord])
