"""Both clocks take runs of records at once; the oracle takes one record after the other (Hypothesis)."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any, NamedTuple, cast

from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from enrichment.days import DAY_US, day_of, midnight_us
from enrichment.model import load_model
from schemas.events import Engagement, Event
from schemas.rejection import MALFORMED, Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.kafka.fetched_batch import RecordBatch
from streams.settings import Settings
from streams.worker import clock as clocks
from streams.worker.clock import Clock, EventClock, WallClock
from streams.worker.reading.arrived import Arrived, Taken, UnreadRecords
from streams.worker.reading.inputs import Inputs
from streams.worker.reading.waiting import Piece, Waiting

NOW_US = 2 * DAY_US + 5
MOMENTS_US = [0, 1, 2, DAY_US - 1, DAY_US, DAY_US + 1, 2 * DAY_US, 2 * DAY_US + 1, 3 * DAY_US]
MODEL = load_model()


class Said(NamedTuple):
    """What one generated record says: None is nothing, and a broker without a time."""

    occurred_at_us: int | None
    broker_timestamp_us: int | None
    value_bytes: int


class _Consumer:
    """Knows the end of each input."""

    def __init__(self, end: int) -> None:
        self._end = end

    def last_stable_offset(self, tp: object) -> int:
        return self._end


class _Clients:
    def consumer(self, **settings: Any) -> _Consumer:
        return _Consumer(100)


def arrived(topic: InputTopic, offset: int, said: Said) -> Arrived:
    value = b"x" * said.value_bytes
    record = ConsumerRecord(topic, 0, offset, 0, 1, b"", value, None, 0, len(value), ())
    event: Event | Rejection = (
        Rejection(MALFORMED, "$: nothing")
        if said.occurred_at_us is None
        else Engagement(
            event_id=f"{offset}", customer_id=topic, occurred_at_us=said.occurred_at_us, kind="opened"
        )
    )
    return Arrived(topic, record, event, said.broker_timestamp_us)


class _Batch:
    """Stands for a batch of the compiled core, which may not be built."""

    def __init__(self, base: int, records: list[Said]) -> None:
        self.base = base
        self.records = records
        self.append_time_us = records[0].broker_timestamp_us

    def __len__(self) -> int:
        return len(self.records)

    def offset(self, at: int) -> int:
        return self.base + at

    def place_of(self, offset: int) -> int:
        return min(max(offset - self.base, 0), len(self.records))

    def record(self, at: int) -> tuple[int, int, bytes, bytes, list[object]]:
        stamped_ms = 0 if self.append_time_us is None else self.append_time_us // 1_000
        return self.offset(at), stamped_ms, b"", b"x" * self.records[at].value_bytes, []

    def sizes(self, first: int, end: int) -> tuple[int, int]:
        value_bytes = sum(said.value_bytes for said in self.records[first:end])
        return value_bytes, value_bytes

    def end_of_run(self, first: int, most_records: int, most_bytes: int) -> int:
        end = first
        while end < len(self) and end - first < most_records and self.sizes(first, end)[0] < most_bytes:
            end += 1
        return end


def batched(topic: InputTopic, log: list[Said]) -> list[Piece]:
    """A log as it is fetched in batches, each of the records that the broker took at one time; some come alone."""
    pieces: list[Piece] = []
    for _, group in groupby(enumerate(log), lambda line: line[1].broker_timestamp_us):
        lines = list(group)
        base, records = lines[0][0], [said for _, said in lines]
        if len(lines) == 1:
            pieces.append(arrived(topic, base, records[0]))
        else:
            batch = cast(RecordBatch, _Batch(base, records))
            pieces.append(UnreadRecords(topic, TopicPartition(topic, 0), batch, 0, len(records)))
    return pieces


def inputs_of(
    log: dict[InputTopic, list[Said]],
    is_at_end: dict[InputTopic, bool],
    high_asked_at_us: int,
    *,
    in_batches: bool = False,
) -> Inputs:
    """Buffers that hold a log, of inputs that reach up to their end or not."""
    inputs = Inputs(Settings(), cast(Any, _Clients()), 0, MODEL)
    for topic, records in log.items():
        single = [arrived(topic, at, said) for at, said in enumerate(records)]
        inputs.buffers[topic].put(batched(topic, records) if in_batches else single)
        inputs._next[topic] = 0
        inputs._fetched[topic] = 100 if is_at_end[topic] else 50
        inputs._ends[topic] = 100
        inputs._high[topic] = 100
    inputs._ends_are_fresh = True
    inputs.high_asked_at_us = high_asked_at_us
    return inputs


def one_by_one(clock: Clock, inputs: Inputs, midnight_day: int, limit: int) -> tuple[int, list[Arrived]]:
    """What a clock takes, by the definition of its order."""
    taken: list[Arrived] = []
    day = midnight_day
    if isinstance(clock, WallClock) and clock._passes(inputs, day + 1, NOW_US):
        day += 1
    while len(taken) < limit and sum(map(bytes_of, taken)) < clocks.TIME_SLICE_BYTES:
        first = (
            first_by_wall(inputs, day)
            if isinstance(clock, WallClock)
            else first_by_events(inputs, day, bool(taken))
        )
        if first is None:
            break
        assert first.event is not None
        if isinstance(clock, EventClock) and not isinstance(first.event, Rejection):
            day = max(day, day_of(first.event.occurred_at_us))
        taken += Taken(inputs.buffers[first.topic].take_before(sys.maxsize, 1))
    return day, taken


def first_by_wall(inputs: Inputs, day: int) -> Arrived | None:
    """The first that the broker took, before the next midnight; those without a time came before all others."""
    heads = [(broker_us(head), rank, head) for rank, head in heads_of(inputs) if head]
    first = min(heads, key=lambda ranked: ranked[:2], default=None)
    return first[2] if first is not None and first[0] < midnight_us(day + 1) else None


def first_by_events(inputs: Inputs, day: int, has_taken: bool) -> Arrived | None:
    """The first that occurred, if no input must be waited for; a later day's begins a time slice of its own."""
    best: tuple[int, int, Arrived] | None = None
    for rank, head in heads_of(inputs):
        if head is None or head.event is None:
            if not inputs.is_behind_nothing(INPUT_TOPICS[rank]):
                return None
        elif isinstance(head.event, Rejection):
            return head
        elif best is None or (head.event.occurred_at_us, rank) < best[:2]:
            best = (head.event.occurred_at_us, rank, head)
    if best is None or (has_taken and day_of(best[0]) > day):
        return None
    return best[2]


def heads_of(inputs: Inputs) -> list[tuple[int, Arrived | None]]:
    return [(rank, first_of(inputs.buffers[topic])) for rank, topic in enumerate(INPUT_TOPICS)]


def first_of(buffer: Waiting) -> Arrived | None:
    if not buffer:
        return None
    assert isinstance(buffer.head, Arrived)
    return buffer.head


def broker_us(record: Said | Arrived) -> int:
    return -1 if record.broker_timestamp_us is None else record.broker_timestamp_us


def bytes_of(record: Arrived) -> int:
    return len(record.record.value or b"")


LOGS = st.fixed_dictionaries(
    {
        topic: st.lists(
            st.builds(
                Said,
                st.one_of(st.none(), *[st.sampled_from(MOMENTS_US)] * 4),
                st.one_of(st.none(), *[st.sampled_from(MOMENTS_US)] * 4),
                st.sampled_from([0, 1, 1, 400_000, 1_048_576]),
            ),
            max_size=12,
        )
        for topic in INPUT_TOPICS
    }
)


@given(
    clock=st.sampled_from([WallClock(), EventClock()]),
    log=LOGS,
    in_order=st.booleans(),
    is_at_end=st.fixed_dictionaries({topic: st.booleans() for topic in INPUT_TOPICS}),
    high_asked_at_us=st.sampled_from([-1, DAY_US, NOW_US]),
    limit=st.integers(1, 12),
)
def test_taking_runs_is_taking_record_by_record(
    clock: Clock,
    log: dict[InputTopic, list[Said]],
    in_order: bool,
    is_at_end: dict[InputTopic, bool],
    high_asked_at_us: int,
    limit: int,
) -> None:
    """Time slice after time slice: the same midnights, the same records in the same order, and the same offsets."""
    if in_order:
        log = {topic: sorted(said, key=broker_us) for topic, said in log.items()}
    inputs, oracle = (inputs_of(log, is_at_end, high_asked_at_us) for _ in range(2))
    day = 0 if isinstance(clock, WallClock) else -1
    while True:
        time_slice = clock.take(inputs, day, NOW_US, limit)
        expected_day, expected = one_by_one(clock, oracle, day, limit)
        assert (time_slice.midnight_day, list(Taken(time_slice.pieces))) == (expected_day, expected)
        assert time_slice.count == len(expected)
        assert time_slice.value_bytes == sum(map(bytes_of, expected))
        assert {topic: list(buffer) for topic, buffer in inputs.buffers.items()} == {
            topic: list(buffer) for topic, buffer in oracle.buffers.items()
        }
        for topic, buffer in inputs.buffers.items():
            head = first_of(buffer)
            assert inputs.offsets[topic] == (head.record.offset if head else len(log[topic]))
        if not time_slice.count and time_slice.midnight_day == day:
            break
        day = time_slice.midnight_day


@given(log=LOGS, high_asked_at_us=st.sampled_from([-1, DAY_US, NOW_US]), limit=st.integers(1, 12))
def test_batches_are_taken_as_their_records_would_be(
    log: dict[InputTopic, list[Said]], high_asked_at_us: int, limit: int
) -> None:
    """By the wall clock: the same records, and of each of them what the batch holds."""
    is_at_end = dict.fromkeys(INPUT_TOPICS, True)
    inputs = inputs_of(log, is_at_end, high_asked_at_us, in_batches=True)
    oracle = inputs_of(log, is_at_end, high_asked_at_us)
    day = 0
    while True:
        time_slice = WallClock().take(inputs, day, NOW_US, limit)
        expected = WallClock().take(oracle, day, NOW_US, limit)
        taken, expected_taken = Taken(time_slice.pieces), Taken(expected.pieces)
        assert (time_slice.midnight_day, time_slice.count) == (expected.midnight_day, len(expected_taken))
        assert time_slice.value_bytes == expected.value_bytes
        assert [where(one) for one in taken] == [where(one) for one in expected_taken]
        assert [where(taken[at]) for at in range(len(taken))] == [where(one) for one in taken]
        assert inputs.offsets == oracle.offsets
        for topic, buffer in inputs.buffers.items():
            assert (buffer.count, buffer.size_bytes) == (
                oracle.buffers[topic].count,
                oracle.buffers[topic].size_bytes,
            )
        if not time_slice.count and time_slice.midnight_day == day:
            break
        day = time_slice.midnight_day


@given(
    said=st.lists(st.builds(Said, st.just(0), st.sampled_from([None, 0, 1]), st.integers(0, 3))),
    end=st.integers(0, 30),
    most=st.integers(1, 7),
)
def test_batches_of_a_first_load_are_taken_up_to_an_offset(said: list[Said], end: int, most: int) -> None:
    """At most so many records at a time, in the middle of a batch too."""
    log = {topic: said if topic == INPUT_TOPICS[0] else [] for topic in INPUT_TOPICS}
    inputs, oracle = (
        inputs_of(log, dict.fromkeys(INPUT_TOPICS, True), -1, in_batches=is_batched)
        for is_batched in (True, False)
    )
    while True:
        taken, expected = (Taken(own.take_before(INPUT_TOPICS[0], end, most)) for own in (inputs, oracle))
        assert [where(one) for one in taken] == [where(one) for one in expected]
        assert inputs.offsets == oracle.offsets
        if not taken:
            break


def where(one: Arrived) -> tuple[object, ...]:
    stamped_us = one.broker_timestamp_us
    return one.topic, one.record.offset, one.record.value, stamped_us is not None and stamped_us // 1_000
