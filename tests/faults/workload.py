"""What a case feeds in, and what must come out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import orjson

from enrichment.days import day_of, midnight_us
from enrichment.model import load_model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS
from streams.replay.replay import replay
from tests.integration.crowd import make_crowd
from tests.integration.harness import Document, Record, aggregates, partition_of
from tests.once import Once

PARTITIONS = 4

Source = tuple[str, int, int]
"""Where an input record is: topic without prefix, partition, offset."""


@dataclass(frozen=True)
class Size:
    """How large a case is."""

    events: int
    customers: int
    days: int
    batch: int
    """Records in a micro-batch of a worker at most, so that faults meet many micro-batches."""


FULL = Size(100_000, 5_000, 60, 60)
DEEP = Size(40_000, 2_000, 60, 30)
SHORT = Size(6_000, 500, 60, 20)


@dataclass(frozen=True)
class Expected:
    """What must be published up to the last midnight of each partition, and what must be stored at the end.

    Changes and triggers are documents by id.
    """

    changes: Mapping[str, Document]
    triggers: Mapping[str, Document]
    dead_letters: frozenset[Source]
    aggregates: Mapping[str, Document]
    end_us: int
    partition_ends_us: Sequence[int]

    def is_due(self, document: Document) -> bool:
        """Whether a change or trigger is from before its partition's last midnight, where live and replay agree."""
        place = partition_of(str(document["customer_id"]).encode(), len(self.partition_ends_us))
        return parse_timestamp(str(document["as_of"])) < self.partition_ends_us[place]


@dataclass
class Workload:
    """Records in the order in which they are sent.

    `like` is another workload, of which the same must come: one without repeats and poison. `poison` are the records
    that become dead letters, by their places in the list. `once` shares what is expected with other processes, and is
    for one workload of a test run.
    """

    records: list[Record]
    like: Workload | None = None
    poison: frozenset[int] = frozenset()
    partitions: int = PARTITIONS
    once: Once | None = None

    @cached_property
    def expected(self) -> Expected:
        """By replay; computed once, since it takes a while."""
        if self.like is not None:
            return replace(self.like.expected, dead_letters=frozenset(self._dead_letters()))
        return (
            self._replayed() if self.once is None else self.once("expected of a fault case", self._replayed)
        )

    def _replayed(self) -> Expected:
        made = replay(((record.topic, record.value or b"") for record in self.records), load_model(None))
        last_day = [-1] * self.partitions
        for record in self.records:
            day = day_of(parse_timestamp(orjson.loads(record.value or b"")["occurred_at"]))
            last_day[record.partition] = max(last_day[record.partition], day)
        ends_us = [midnight_us(day + 1) for day in last_day]
        everything = Expected({}, {}, frozenset(), {}, made.end_us, ends_us)
        return Expected(
            by_id("change_id", filter(everything.is_due, as_json(made.results.changes))),
            by_id("trigger_id", filter(everything.is_due, as_json(made.results.triggers))),
            frozenset(self._dead_letters()),
            aggregates(made.profiles),
            made.end_us,
            ends_us,
        )

    @cached_property
    def input_ends(self) -> dict[tuple[str, int], int]:
        """How many records each input partition gets."""
        counts = Counter((record.topic, record.partition) for record in self.records)
        return {
            (topic, place): counts[topic, place] for topic in INPUT_TOPICS for place in range(self.partitions)
        }

    def _dead_letters(self) -> Iterable[Source]:
        offsets: Counter[tuple[str, int]] = Counter()
        for at, record in enumerate(self.records):
            if at in self.poison:
                yield record.topic, record.partition, offsets[record.topic, record.partition]
            offsets[record.topic, record.partition] += 1


def crowd(seed: int, size: Size, once: Once | None = None) -> Workload:
    """The events that most cases use, in order of time."""
    records = list(make_crowd(seed, size.events, size.customers, size.days, PARTITIONS))
    return Workload(records, once=once)


def as_json(documents: Iterable[object]) -> list[Document]:
    """Documents as they are after JSON."""
    return [orjson.loads(orjson.dumps(document)) for document in documents]


def by_id(name: str, documents: Iterable[Document]) -> dict[str, Document]:
    """Documents by one of their fields."""
    return {str(document[name]): document for document in documents}
