"""A log of events from files, in the order of replay: what of it can be taken, and what is refused on the way there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from enrichment.customer.validation import check_against_model
from enrichment.days import DAY_US, format_time
from enrichment.model import Model
from schemas.decode import NO_KEY, NoKey, decode
from schemas.events import Event
from schemas.rejection import FROM_THE_FUTURE, Rejection, rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.console.refusals import Example, Refusals

LONGEST_GAP_DAYS = 400
"""Without an end given, records farther apart than this are of different clocks, not of one that was silent."""


class Line(NamedTuple):
    """A record as it was read. One that comes from no file has an empty `file`, and no `number`, which begins at 1.

    Of a record of Kafka, `file` is its place there. A line of a file has no key, so that none is checked.
    """

    topic: InputTopic
    value: bytes
    file: str = ""
    number: int = 0
    key: bytes | NoKey | None = NO_KEY
    why: Rejection | None = None
    """Why it was refused before it was decoded, as a row of a table may be."""


class Refused(NamedTuple):
    """A record that was refused, and why."""

    line: Line
    why: Rejection


class Dated(NamedTuple):
    """A record in its place in the order of replay."""

    occurred_at_us: int
    topic_rank: int
    customer_id: str
    event_id: str
    value: bytes
    event: Event
    file: str
    number: int

    @classmethod
    def of(cls, line: Line, event: Event) -> Dated:
        """The record of a line, with what it says."""
        rank, at_us = INPUT_TOPICS.index(line.topic), event.occurred_at_us
        return cls(at_us, rank, event.customer_id, event.event_id, line.value, event, line.file, line.number)

    @property
    def line(self) -> Line:
        """The record as it was read."""
        return Line(self.topic, self.value, self.file, self.number)

    @property
    def topic(self) -> InputTopic:
        """The input that the record is of."""
        return INPUT_TOPICS[self.topic_rank]


@dataclass(slots=True)
class ReplayLog:
    """Records in replay order, and what was refused or ignored on the way there."""

    records: list[Dated] = field(default_factory=list)
    dead_letters: list[Refused] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refuse(self, line: Line, why: Rejection) -> None:
        """Count and keep a dead letter."""
        self.dead_letters.append(Refused(line, why))
        self.outcomes[line.topic, "dead_letter"] += 1

    def end_us(self, until_us: int | None) -> int:
        """The time that every profile is as of: the end that was asked for, or the latest record's."""
        if until_us is not None:
            return until_us
        return self.records[-1].occurred_at_us if self.records else 0


def ordered_log(lines: Iterable[Line], model: Model, until_us: int | None = None) -> ReplayLog:
    """The acceptable records of a log in replay order; `lines` may come in any order."""
    log = ReplayLog()
    for line in lines:
        event = accepted(log, line, model, until_us)
        if event is not None:
            log.records.append(Dated.of(line, event))
    log.records.sort(key=lambda record: record[:5])
    if until_us is None:
        _refuse_wrong_clocks(log)
    return log


def accepted(log: ReplayLog, line: Line, model: Model, until_us: int | None) -> Event | None:
    """What a line says; None where it is refused or comes after the end, which the log then counts."""
    event = line.why or decode(line.topic, line.value, line.key)
    if isinstance(event, Rejection):
        log.refuse(line, event)
        return None
    if until_us is not None and event.occurred_at_us > until_us:
        log.outcomes[line.topic, "after_until"] += 1
        return None
    refused = check_against_model(event, model)
    if refused is not None:
        log.refuse(line, refused)
        return None
    return event


def refusals_of(
    dead_letters: Iterable[Refused], outcomes: Mapping[tuple[str, str], int], refusals: Refusals
) -> None:
    """Count what became of a log's records; `outcomes` is by topic and outcome."""
    for line, why in dead_letters:
        refusals.add(why.reason, Example(line.file, line.number, why.message))
    for (_, outcome), count in outcomes.items():
        refusals.read += count if outcome != "after_until" else 0
        refusals.accepted += count if outcome == "accepted" else 0


def _refuse_wrong_clocks(log: ReplayLog) -> None:
    """Without an end given, what comes a long time after most of the log is of a wrong clock."""
    pieces = _pieces(log.records)
    chosen = _most_of_the_log(pieces)
    if chosen + 1 == len(pieces):
        return
    end = format_time(pieces[chosen][-1].occurred_at_us)
    message = f"more than {LONGEST_GAP_DAYS} days after the log's last record, {end}; --until would take it"
    why = rejection(FROM_THE_FUTURE, ("occurred_at",), message)
    for piece in pieces[chosen + 1 :]:
        for record in piece:
            log.refuse(record.line, why)
    log.records = [record for piece in pieces[: chosen + 1] for record in piece]


def _pieces(records: Sequence[Dated]) -> list[Sequence[Dated]]:
    """Records in replay order, cut where successive ones lie more than `LONGEST_GAP_DAYS` apart."""
    gap_us = LONGEST_GAP_DAYS * DAY_US
    cuts = [
        at
        for at in range(1, len(records))
        if records[at].occurred_at_us - records[at - 1].occurred_at_us > gap_us
    ]
    starts, ends = [0, *cuts], [*cuts, len(records)]
    return [records[start:end] for start, end in zip(starts, ends, strict=True)]


def _most_of_the_log(pieces: Sequence[Sequence[Dated]]) -> int:
    """Which piece has most purchases, or most records where there are none; the latest of equal ones."""
    sizes = [sum(record.topic == "purchases" for record in piece) for piece in pieces]
    if not any(sizes):
        sizes = [len(piece) for piece in pieces]
    return max(range(len(pieces)), key=lambda at: (sizes[at], at))
