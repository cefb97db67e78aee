"""When a midnight passes for a partition, and which records come before it.

`WallClock`: a midnight has passed once the clock says so and every record from before it has been taken, which the
broker's timestamps or an end offset asked for after it tell. `EventClock`: a midnight has passed once the events have;
the three inputs are merged in the order of replay, and an input short of its end is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from enrichment.acceptance import TOPICS, Topic
from enrichment.days import day_of, midnight_us
from schemas.dead_letters import Rejection
from streams.inputs import Arrived, Inputs

SEGMENT_BYTES = 1_048_576
"""Values taken at once: what comes of them must fit into a step."""


@dataclass(slots=True)
class Segment:
    """Records between two midnights, in the order in which they are to be taken."""

    midnight_day: int
    arrived: list[Arrived] = field(default_factory=list)
    value_bytes: int = 0

    def add(self, arrived: Arrived) -> None:
        """Take one more record."""
        self.arrived.append(arrived)
        self.value_bytes += len(arrived.record.value or b"")

    def is_full(self, limit: int) -> bool:
        """Whether there are `limit` records, or a lot of bytes."""
        return len(self.arrived) >= limit or self.value_bytes >= SEGMENT_BYTES


class Clock(Protocol):
    """Decides how far a partition may go."""

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> Segment:
        """At most `limit` records that belong behind the same midnight, which may be a later one than `midnight_day`.

        `now_us` is the time, or None where it cannot be trusted. A later midnight in the result has passed.
        """

    def first_midnight_day(self, now_us: int) -> int:
        """The midnight to begin with, where nothing has ever been evaluated."""

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Whether the ends of the inputs must be asked for although records come."""


class EventClock:
    """Time is what the events say."""

    def first_midnight_day(self, now_us: int) -> int:
        """None has passed before the first event."""
        return -1

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """An empty input is caught up only with an end asked for after the others' records had come."""
        return not all(inputs.buffers.values())

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> Segment:
        """Merge the inputs in the order of replay; records that say nothing are taken as they come."""
        segment = Segment(midnight_day)
        while not segment.is_full(limit):
            topic = self._next(inputs)
            if topic is None:
                break
            event = inputs.buffers[topic][0].event
            if not isinstance(event, Rejection) and day_of(event.occurred_at_us) > segment.midnight_day:
                if segment.arrived:
                    break
                segment.midnight_day = day_of(event.occurred_at_us)
            segment.add(inputs.take(topic))
        return segment

    def _next(self, inputs: Inputs) -> Topic | None:
        best: tuple[int, int, str, str, bytes] | None = None
        chosen: Topic | None = None
        for rank, topic in enumerate(TOPICS):
            buffer = inputs.buffers[topic]
            if not buffer:
                if not inputs.is_behind_nothing(topic):
                    return None
                continue
            event = buffer[0].event
            if isinstance(event, Rejection):
                return topic
            key = (event.occurred_at_us, rank, event.customer_id, event.event_id, buffer[0].record.value)
            if best is None or key < best:
                best, chosen = key, topic
        return chosen


class WallClock:
    """Time is what the clock says, behind the records from before."""

    def first_midnight_day(self, now_us: int) -> int:
        """Today's has passed: there was nobody to evaluate."""
        return day_of(now_us)

    def needs_ends(self, inputs: Inputs, midnight_day: int, now_us: int | None) -> bool:
        """Once for each midnight that has come, in case no fetch is ever empty."""
        return now_us is not None and now_us >= midnight_us(midnight_day + 1) > inputs.ends_asked_at_us

    def take(self, inputs: Inputs, midnight_day: int, now_us: int | None, limit: int) -> Segment:
        """Records that the broker took before the next midnight; when none is left, that midnight if it has come."""
        segment = Segment(midnight_day)
        if self._passes(inputs, midnight_day + 1, now_us):
            segment.midnight_day = midnight_day + 1
        end_us = midnight_us(segment.midnight_day + 1)
        while not segment.is_full(limit):
            ready = [
                (self._timestamp_us(inputs.buffers[topic][0]), rank, topic)
                for rank, topic in enumerate(TOPICS)
                if inputs.buffers[topic] and self._timestamp_us(inputs.buffers[topic][0]) < end_us
            ]
            if not ready:
                break
            segment.add(inputs.take(min(ready)[2]))
        return segment

    def _passes(self, inputs: Inputs, day: int, now_us: int | None) -> bool:
        """Whether every input has nothing more from before this midnight, and the clock has reached it."""
        at_us = midnight_us(day)
        if now_us is None or now_us < at_us:
            return False
        return all(self._is_through(inputs, topic, at_us) for topic in TOPICS)

    def _is_through(self, inputs: Inputs, topic: Topic, at_us: int) -> bool:
        if inputs.buffers[topic]:
            return self._timestamp_us(inputs.buffers[topic][0]) >= at_us
        return inputs.is_caught_up(topic) and inputs.ends_asked_at_us >= at_us

    @staticmethod
    def _timestamp_us(arrived: Arrived) -> int:
        """The broker's time; a record without one came, for all we know, before any midnight to come."""
        timestamp_us = arrived.broker_timestamp_us
        return -1 if timestamp_us is None else timestamp_us
