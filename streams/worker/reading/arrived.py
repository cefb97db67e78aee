"""What comes of an input: a record with what it says, or with why it was refused; or records nobody has looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from enrichment.customer.validation import check_against_model, check_time
from enrichment.model import Model
from schemas.decode import decode
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from streams.checkpoint import Skipped
from streams.kafka.fetched_batch import FetchedBatch, RecordBatch

LOG_APPEND_TIME = 1


class Arrived(NamedTuple):
    """A record with what it says, or why it says nothing; None where nobody has read it yet.

    `broker_timestamp_us` is when the broker took it; None where the broker does not say. Where offsets are skipped,
    `skipped` says which, the record holds the bytes that were there, and its offset is the last of them.
    """

    topic: InputTopic
    record: ConsumerRecord
    event: Event | Rejection | None
    broker_timestamp_us: int | None
    skipped: Skipped | None = None

    @property
    def next_offset(self) -> int:
        """The offset behind it."""
        return int(self.record.offset) + 1


@dataclass(frozen=True, slots=True)
class UnreadRecords:
    """Records of one batch, from one place in it up to another, of which nothing is known but where they are."""

    topic: InputTopic
    tp: TopicPartition
    batch: RecordBatch
    first: int
    end: int

    @classmethod
    def of(cls, topic: InputTopic, fetched: FetchedBatch) -> UnreadRecords:
        """All that is to be read of a batch."""
        return cls(topic, *fetched, end=len(fetched.batch))

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def broker_timestamp_us(self) -> int | None:
        """As of an `Arrived`; of one batch it is the same for all."""
        return self.batch.append_time_us

    @property
    def next_offset(self) -> int:
        """The offset behind the last of them."""
        return self.batch.offset(self.end - 1) + 1

    def split(self, at: int) -> tuple[UnreadRecords, UnreadRecords]:
        """Those before a place in the batch, and the others."""
        parts = (self.first, at), (at, self.end)
        before, behind = (UnreadRecords(self.topic, self.tp, self.batch, *part) for part in parts)
        return before, behind

    def arrived(self, at: int) -> Arrived:
        """The record at a place from `first` on, which is yet to be read."""
        return unread(record_of(self.tp, self.batch, self.first + at), self.topic)

    def __iter__(self) -> Iterator[Arrived]:
        return map(self.arrived, range(len(self)))


def record_of(tp: TopicPartition, batch: RecordBatch, at: int) -> ConsumerRecord:
    """The record at a place in a batch, as aiokafka would have given it."""
    offset, timestamp_ms, key, value, headers = batch.record(at)
    timestamp_type = 0 if batch.append_time_us is None else LOG_APPEND_TIME
    sizes = (-1 if part is None else len(part) for part in (key, value))
    return ConsumerRecord(*tp, offset, timestamp_ms, timestamp_type, key, value, None, *sizes, tuple(headers))


class Taken(Sequence[Arrived]):
    """Records that are taken together, in their order; those of a batch are looked at only where one is asked for."""

    def __init__(self, pieces: Sequence[Arrived | UnreadRecords]) -> None:
        self.pieces = pieces
        self._ends = list(accumulate(count_of(piece) for piece in pieces))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, at: Any) -> Any:
        """The record at a place (not a slice)."""
        place = bisect_right(self._ends, at)
        piece = self.pieces[place]
        if isinstance(piece, Arrived):
            return piece
        return piece.arrived(at - (self._ends[place] - len(piece)))

    def __iter__(self) -> Iterator[Arrived]:
        for piece in self.pieces:
            if isinstance(piece, Arrived):
                yield piece
            else:
                yield from piece


def count_of(piece: Arrived | UnreadRecords) -> int:
    """How many records it is."""
    return 1 if isinstance(piece, Arrived) else len(piece)


def arrived_of(record: ConsumerRecord, topic: InputTopic, model: Model) -> Arrived:
    """A record with what it says, as far as it takes no customer to tell."""
    return read(unread(record, topic), model)


def unread(record: ConsumerRecord, topic: InputTopic) -> Arrived:
    """A record that is yet to be read."""
    stamped_us = int(record.timestamp) * 1_000 if record.timestamp_type == LOG_APPEND_TIME else None
    return Arrived(topic, record, None, stamped_us)


def read(arrived: Arrived, model: Model) -> Arrived:
    """The same with what it says; one that has been read is as it was."""
    topic, record, event, stamped_us, _ = arrived
    if event is not None:
        return arrived
    event = decode(topic, record.value, record.key)
    if isinstance(event, Rejection):
        return arrived._replace(event=event)
    refused = check_against_model(event, model)
    if refused is None and stamped_us is not None:
        refused = check_time(event, stamped_us)
    return arrived._replace(event=refused or event)
