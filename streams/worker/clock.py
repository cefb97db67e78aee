"""When a midnight passes for a partition, and which records come before it.

`WallClock`: a midnight has passed once the clock says so and every record from before it has been taken, which the
broker's timestamps or a high watermark asked for after it tell. A transaction that is open then is waited for.
`EventClock`: a midnight has passed once the events have; the three inputs are merged in the order of replay, and an
input short of its end is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from enrichment.days import day_of, midnight_us
from schemas.rejection import Rejection
from schemas.timestamps import END_TIME_US, MIN_TIME_US
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.worker.reading.arrived import Arrived
from streams.worker.reading.inputs import Inputs
from streams.worker.reading.waiting import Piece

TIME_SLICE_BYTES = 1_048_576
"""Values taken at once: what comes of them must fit into a micro-batch."""


@dataclass(slots=True)
class TimeSlice:
    """Records between two midnights, in the order in which they are to be taken."""

    midnight_day: int
    pieces: list[Piece] = field(default_factory=list)
    count: int = 0
    value_bytes: int = 0

    def take_run(
        self,
        inputs: Inputs,
        topic: InputTopic,
        time_us: Callable[[Piece], int | None],
        before_us: int,
        limit: int,
    ) -> None:
        """Take an input's records from before a time, until the time slice is full (`is_full`)."""
        run = inputs.take_run(
            topic, time_us, before_us, limit - self.count, TIME_SLICE_BYTES - self.value_bytes
        )
        self.pieces += run.pieces
        self.count += run.records
        self.value_bytes += run.value_bytes

    def is_full(self, limit: int) -> bool:
        """Whether there are `limit` records, or a lot of bytes."""
        return self.count >= limit or self.value_bytes >= TIME_SLICE_BYTES


class Clock(Protocol):
    """Decides how far a partition may go."""

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> TimeSlice:
        """At most `limit` records that belong behind the same midnight, which may be a later one than `midnight_day`.

        `now_us` is the time, or None where it cannot be trusted. A later midnight in the result has passed.
        """

    def first_midnight_day(self, now_us: int) -> int:
        """The midnight to begin with, where nothing has ever been evaluated."""

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Whether the ends of the inputs must be asked for although records come."""

    def needs_high(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Whether the high watermarks must be asked for with the ends."""


class EventClock:
    """Time is what the events say."""

    def first_midnight_day(self, now_us: int) -> int:
        """None has passed before the first event."""
        return -1

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """An empty input is caught up only with an end asked for after the others' records had come."""
        return not all(inputs.buffers.values())

    def needs_high(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """After each record that has come from any input."""
        return inputs.needs_high

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> TimeSlice:
        """Merge the inputs in the order of replay; records that say nothing are taken as they come."""
        time_slice = TimeSlice(midnight_day)
        while not time_slice.is_full(limit):
            run = self._next_run(inputs)
            if run is None:
                break
            topic, before_us = run
            occurred_at_us = _occurred_at_us(inputs.buffers[topic].head)
            if occurred_at_us is not None and day_of(occurred_at_us) > time_slice.midnight_day:
                if time_slice.count:
                    break
                time_slice.midnight_day = day_of(occurred_at_us)
            end_us = midnight_us(time_slice.midnight_day + 1)
            time_slice.take_run(inputs, topic, _occurred_at_us, min(before_us, end_us), limit)
        return time_slice

    def _next_run(self, inputs: Inputs) -> tuple[InputTopic, int] | None:
        """The input whose turn it is, and the time at which it is another's; None where one must be waited for."""
        heads: list[tuple[int, int]] = []
        for rank, topic in enumerate(INPUT_TOPICS):
            buffer = inputs.buffers[topic]
            if not buffer:
                if not inputs.is_behind_nothing(topic):
                    return None
                continue
            occurred_at_us = _occurred_at_us(buffer.head)
            if occurred_at_us is None:
                return topic, MIN_TIME_US
            heads.append((occurred_at_us, rank))
        return _first_run(heads)


class WallClock:
    """Time is what the clock says, behind the records from before."""

    def first_midnight_day(self, now_us: int) -> int:
        """Today's has passed: there was nobody to evaluate."""
        return day_of(now_us)

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Once for each midnight that has come, in case no fetch is ever empty."""
        return self.needs_high(inputs, midnight_day, now_us)

    def needs_high(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Once for each midnight that has come: what was in the log by then comes before it."""
        return now_us is not None and now_us >= midnight_us(midnight_day + 1) > inputs.high_asked_at_us

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> TimeSlice:
        """Records that the broker took before the next midnight; when none is left, that midnight if it has come."""
        time_slice = TimeSlice(midnight_day)
        if self._passes(inputs, midnight_day + 1, now_us):
            time_slice.midnight_day = midnight_day + 1
        end_us = midnight_us(time_slice.midnight_day + 1)
        while not time_slice.is_full(limit):
            heads = [
                (self._timestamp_us(inputs.buffers[topic].head), rank)
                for rank, topic in enumerate(INPUT_TOPICS)
                if inputs.buffers[topic]
            ]
            run = _first_run([head for head in heads if head[0] < end_us])
            if run is None:
                break
            topic, before_us = run
            time_slice.take_run(inputs, topic, _broker_timestamp_us, min(before_us, end_us), limit)
        return time_slice

    def _passes(self, inputs: Inputs, day: int, now_us: int | None) -> bool:
        """Whether every input has nothing more from before this midnight, and the clock has reached it."""
        at_us = midnight_us(day)
        if now_us is None or now_us < at_us:
            return False
        return all(self._is_through(inputs, topic, at_us) for topic in INPUT_TOPICS)

    def _is_through(self, inputs: Inputs, topic: InputTopic, at_us: int) -> bool:
        if inputs.buffers[topic]:
            return self._timestamp_us(inputs.buffers[topic].head) >= at_us
        return inputs.has_taken_all(topic) and inputs.high_asked_at_us >= at_us

    @staticmethod
    def _timestamp_us(piece: Piece) -> int:
        """The broker's time; a record without one came, for all we know, before any midnight to come."""
        timestamp_us = piece.broker_timestamp_us
        return -1 if timestamp_us is None else timestamp_us


_broker_timestamp_us: Callable[[Piece], int | None] = attrgetter("broker_timestamp_us")


def _occurred_at_us(piece: Piece) -> int | None:
    """Of a record that has been read; None if it says nothing."""
    assert isinstance(piece, Arrived)
    assert piece.event is not None
    return None if isinstance(piece.event, Rejection) else piece.event.occurred_at_us


def _first_run(heads: list[tuple[int, int]]) -> tuple[InputTopic, int] | None:
    """Which input comes first, by (time, rank) of the next records, and until what time it keeps its turn."""
    if not heads:
        return None
    first, *others = sorted(heads)
    if not others:
        return INPUT_TOPICS[first[1]], END_TIME_US
    (_, rank), (other_us, other_rank) = first, others[0]
    return INPUT_TOPICS[rank], other_us + (rank < other_rank)
