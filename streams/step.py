"""A step: one batch of a partition, as it is written to Redis and then to Kafka."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

import msgspec

from enrichment.acceptance import Topic

RECORD_OVERHEAD_BYTES = 32
HEADER_OVERHEAD_BYTES = 8

OutputTopic = Literal[
    "segment-changes", "customer-profiles", "reactivation-triggers", "dead-letters", "ebbtide-decisions"
]
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


class FirstLoad(msgspec.Struct, frozen=True):
    """What a partition found when it began by the wall clock: the records from `starts` up to, and without, `ends`.

    They are folded without deciding, and then everybody is decided on once, as of the later of `midnight_day` and their
    latest record. Kept for good, because a rebuild folds them likewise; `is_over` once everybody has been decided on.
    """

    starts: dict[Topic, int]
    ends: dict[Topic, int]
    midnight_day: int
    is_over: bool = False

    @property
    def records(self) -> int:
        """How many offsets it takes."""
        return self.records_before(self.ends)

    def records_before(self, offsets: dict[Topic, int]) -> int:
        """How many of them lie before these offsets."""
        return sum(offsets[topic] - start for topic, start in self.starts.items())


class Mark(msgspec.Struct, frozen=True):
    """How far a partition has come: said alike by Redis, and by the metadata of Kafka's committed offsets.

    `offsets` are the next to read, by topic without prefix; `midnight_day` is the day of the last midnight passed.
    `load` is None by the event clock, and for a partition that was begun before there were first loads.
    """

    step: int
    token: str
    midnight_day: int
    offsets: dict[Topic, int]
    load: FirstLoad | None = None

    @property
    def is_loading(self) -> bool:
        """Whether the first load is not through yet."""
        return self.load is not None and not self.load.is_over

    @property
    def is_folded(self) -> bool:
        """Whether all records of the first load, if there is one, have been taken."""
        return self.load is None or all(self.offsets[topic] >= end for topic, end in self.load.ends.items())

    def next(self, midnight_day: int, offsets: dict[Topic, int], *, ends_load: bool = False) -> Mark:
        """The mark of the step after this one; `ends_load` says that this step is the last of the first load."""
        load = self.load
        if load is not None and ends_load:
            load = msgspec.structs.replace(load, is_over=True)
        return Mark(self.step + 1, secrets.token_hex(8), midnight_day, offsets, load)


class Skipped(msgspec.Struct, frozen=True, order=True):
    """Offsets of an input that were passed over: from `first` up to, and without, `next_offset`."""

    topic: Topic
    first: int
    next_offset: int


class StoredState(NamedTuple):
    """One customer's state as stored: no bytes delete it, and no due day takes them out of the due index."""

    customer_id: str
    state: bytes
    due_day: int | None


@dataclass(slots=True)
class Step:
    """Everything that changes from `before` to `after`: persisted in one script, published in one transaction."""

    before: Mark
    after: Mark
    model: str
    states: list[StoredState] = field(default_factory=list)
    put_off: list[tuple[str, int]] = field(default_factory=list)
    """Customers of whom nothing changes but the day on which they are due: (id, day)."""
    erased: list[tuple[str, bytes]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    obeys_request: bool = False
    """Whether the step skips what `ebbtide skip` asked for."""
    outbox: list[OutputRecord] = field(default_factory=list)
    is_everyone_due: bool = False


def pack_outbox(records: list[OutputRecord]) -> bytes:
    """Records as they are stored in Redis."""
    return msgspec.msgpack.encode(records)


def unpack_outbox(packed: bytes) -> list[OutputRecord]:
    """What `pack_outbox` packed."""
    return msgspec.msgpack.decode(packed, type=list[OutputRecord])
