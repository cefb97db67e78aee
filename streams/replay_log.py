"""A log of events from files, in the order of replay: what of it can be taken, and what is refused on the way there."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from enrichment.acceptance import TOPICS, Topic, check_against_model
from enrichment.days import DAY_US
from enrichment.model import Model
from schemas.dead_letters import FROM_THE_FUTURE, Rejection, rejection
from schemas.decode import decode
from schemas.events import Event
from streams.bounded_lines import DEFAULT_LIMIT_BYTES, bounded_lines
from streams.errors import EbbtideError

LONGEST_GAP_DAYS = 400
"""Without an end given, a record this long after all before it is of a wrong clock, not after silence."""


class Dated(NamedTuple):
    """A record in its place in the order of replay."""

    occurred_at_us: int
    topic_rank: int
    customer_id: str
    event_id: str
    value: bytes
    event: Event

    @classmethod
    def of(cls, topic: Topic, value: bytes, event: Event) -> Dated:
        """The record of an input, with what it says."""
        rank = TOPICS.index(topic)
        return cls(event.occurred_at_us, rank, event.customer_id, event.event_id, value, event)

    @property
    def topic(self) -> Topic:
        """The input that the record is of."""
        return TOPICS[self.topic_rank]


@dataclass(slots=True)
class ReplayLog:
    """Records in replay order, and what was refused or ignored on the way there."""

    records: list[Dated] = field(default_factory=list)
    dead_letters: list[tuple[Topic, bytes, Rejection]] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refuse(self, topic: Topic, value: bytes, refused: Rejection) -> None:
        """Count and keep a dead letter."""
        self.dead_letters.append((topic, value, refused))
        self.outcomes[topic, "dead_letter"] += 1

    def end_us(self, until_us: int | None) -> int:
        """The time that every profile is as of: the end that was asked for, or the latest record's."""
        if until_us is not None:
            return until_us
        return self.records[-1].occurred_at_us if self.records else 0


def read_lines(path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Iterator[bytes]:
    """The lines of a file as they are, without their ends.

    Raises:
        EbbtideError: A compressed file is cut off or damaged, or is not compressed at all; or a line is longer than the
            limit, or the file explodes.
        OSError: The file cannot be read.
    """
    try:
        is_compressed = path.name.endswith(".gz")
        compressed_bytes = path.stat().st_size if is_compressed else None
        with gzip.open(path, "rb") if is_compressed else path.open("rb") as lines:
            for line in bounded_lines(lines, str(path), compressed_bytes, limit_bytes):
                yield line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EbbtideError(f"{path}: cannot be decompressed: {error}") from error


def ordered_log(
    values: Iterable[tuple[Topic, bytes]], model: Model, until_us: int | None = None
) -> ReplayLog:
    """The acceptable records of a log in replay order; `values` may come in any order."""
    log = ReplayLog()
    for topic, value in values:
        event = decode(topic, value)
        if isinstance(event, Rejection):
            log.refuse(topic, value, event)
            continue
        if until_us is not None and event.occurred_at_us > until_us:
            log.outcomes[topic, "after_until"] += 1
            continue
        refused = check_against_model(event, model)
        if refused is not None:
            log.refuse(topic, value, refused)
            continue
        log.records.append(Dated.of(topic, value, event))
    log.records.sort(key=lambda record: record[:5])
    if until_us is None:
        _refuse_wrong_clocks(log)
    return log


def _refuse_wrong_clocks(log: ReplayLog) -> None:
    kept: list[Dated] = []
    for record in log.records:
        if kept and record.occurred_at_us > kept[-1].occurred_at_us + LONGEST_GAP_DAYS * DAY_US:
            message = f"more than {LONGEST_GAP_DAYS} days after the record before it; --until would take it"
            log.refuse(record.topic, record.value, rejection(FROM_THE_FUTURE, ("occurred_at",), message))
        else:
            kept.append(record)
    log.records = kept
